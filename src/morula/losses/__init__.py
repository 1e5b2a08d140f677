"""Losses: pure tensor functions from logits, target and weight to sums that add over patches, steps and processes.

The family's entries are the ``..._sums`` functions; all take ``(logits, target, weight=None, *, ignore_value=None, channel_weights=None)``
and some further options.
"""

from morula.core.family import Family, Member

LOSSES = Family(
    "loss",
    {
        "bce": Member("morula.losses.bce:bce_sums", summary="binary cross-entropy of each channel"),
        "dice": Member("morula.losses.dice:dice_sums", summary="one minus the overlap of each channel"),
        "bce_dice": Member("morula.losses.dice:bce_dice_sums", summary="binary cross-entropy plus Dice"),
        "ce": Member("morula.losses.cross_entropy:ce_sums", summary="cross-entropy over classes that exclude each other"),
        "mse": Member("morula.losses.regression:mse_sums", summary="mean squared difference"),
        "l1": Member("morula.losses.regression:l1_sums", summary="mean absolute difference"),
        "smooth_l1": Member("morula.losses.regression:smooth_l1_sums", summary="squared near zero, absolute beyond (Huber)"),
    },
    group="morula.losses",
)
