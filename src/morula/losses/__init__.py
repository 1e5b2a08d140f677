"""Losses: pure tensor functions from logits, target and weight to sums that add over patches, steps and processes.

The family's entries are the ``..._sums`` functions; all take ``(logits, target, weight=None, *, ignore_value=None, channel_weights=None)``
and some further options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from morula.core.family import Family, Member

if TYPE_CHECKING:
    from morula.losses import embedseg as embedseg
    from morula.losses import rebalance as rebalance
    from morula.losses import regression as regression
    from morula.losses import sums as sums
    from morula.losses.ncuts import soft_ncuts as soft_ncuts
    from morula.losses.ncuts import soft_ncuts_pairwise as soft_ncuts_pairwise

LOSSES = Family(
    "loss",
    {
        "bce": Member("morula.losses.bce:bce_sums", summary="binary cross-entropy per channel"),
        "dice": Member("morula.losses.dice:dice_sums", summary="one minus the overlap per channel"),
        "bce_dice": Member("morula.losses.dice:bce_dice_sums", summary="binary cross-entropy plus Dice"),
        "generalized_dice": Member(
            "morula.losses.generalized_dice:generalized_dice_sums",
            summary="Dice with rare channels weighted up",
        ),
        "ce": Member("morula.losses.cross_entropy:ce_sums", summary="cross-entropy over classes that exclude each other"),
        "weighted_ce": Member(
            "morula.losses.cross_entropy:weighted_ce_sums", summary="cross-entropy with class weights from the prediction"
        ),
        "mse": Member("morula.losses.regression:mse_sums", summary="mean squared error"),
        "l1": Member("morula.losses.regression:l1_sums", summary="mean absolute error"),
        "smooth_l1": Member("morula.losses.regression:smooth_l1_sums", summary="squared near zero, absolute beyond (Huber)"),
    },
    group="morula.losses",
)


# imported when they are first used, the losses without labels among them: listing names imports no torch
__getattr__, _, _ = lazy_loader.attach(
    __name__, submodules=["embedseg", "rebalance", "regression", "sums"], submod_attrs={"ncuts": ["soft_ncuts", "soft_ncuts_pairwise"]}
)
