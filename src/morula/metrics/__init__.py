"""Scores: how well a label image or class image agrees with the truth."""

from __future__ import annotations

from morula.core.family import Family, Member

METRICS = Family(
    "metric",
    {
        "precision": Member("morula.metrics.matching:precision", summary="part of the predicted objects that match a true one"),
        "recall": Member("morula.metrics.matching:recall", summary="part of the true objects that are found"),
        "accuracy": Member("morula.metrics.matching:accuracy", summary="matches among all true and predicted objects"),
        "f1": Member("morula.metrics.matching:f1", summary="harmonic mean of precision and recall"),
        "panoptic_quality": Member("morula.metrics.matching:panoptic_quality", summary="F1 weighted with the IoU of the matches"),
        "average_precision": Member(
            "morula.metrics.matching:average_precision", summary="accuracy averaged over IoU thresholds 0.5 to 0.95"
        ),
        "iou": Member("morula.metrics.overlap:iou", summary="foreground intersection over union, pixel by pixel"),
        "dice": Member("morula.metrics.overlap:dice", summary="foreground Dice coefficient, pixel by pixel"),
    },
    group="morula.metrics",
)
"""Figures by name: functions ``(truth, prediction) -> float``, where 1 is best and 0 is worst."""
