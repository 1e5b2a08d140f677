"""Metrics: agreement of label images, class images and restored images with the truth."""

from __future__ import annotations

from morula.core.family import Family, Member

METRICS = Family(
    "metric",
    {
        "precision": Member("morula.metrics.matching:precision", summary="fraction of the predicted objects that match a true one"),
        "recall": Member("morula.metrics.matching:recall", summary="fraction of the true objects that are matched"),
        "accuracy": Member("morula.metrics.matching:accuracy", summary="matches divided by all true and predicted objects"),
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
"""Metrics by name: functions ``(truth, prediction) -> float`` from 0 (worst) to 1 (best)."""
