"""The losses of pytorch-3dunet under their names in job files, made of the native losses.

They differ from these in two ways: voxels are averaged over all channels together, and targets may have a last channel of labels that only
the metric uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from morula.core.errors import DataError
from morula.core.options import Options
from morula.dialects.pytorch3dunet.consistency import OF_MASKS
from morula.dialects.pytorch3dunet.ignored_keys import read_section, take_name
from morula.losses.bce import bce_sums
from morula.losses.cross_entropy import ce_sums, class_indices, weighted_ce_sums
from morula.losses.dice import dice_sums
from morula.losses.generalized_dice import generalized_dice_sums
from morula.losses.regression import l1_sums, mse_sums, smooth_l1_sums
from morula.losses.sums import Activation, Sums, checked_weights, prepare, weight_sums

Normalization: TypeAlias = Literal["sigmoid", "softmax", "none"]
NOT_A_CLASS = -100.0  # the default of ignore_index in torch.nn.CrossEntropyLoss


class LossOptions(Options):
    """Keys of every loss."""

    name: str
    """Name of the loss."""
    ignore_index: float | None = None
    """Target value of voxels that are ignored."""
    skip_last_target: bool = False
    """Leave out the last channel of the target, which is for the metric."""
    squeeze_channel: bool = False
    """Then remove the channel axis of the target if it has length 1."""


class BinaryOptions(LossOptions):
    """Options of ``BCEWithLogitsLoss``."""

    pos_weight: float | tuple[float, ...] | None = None
    """Weight of the foreground: one number, or one per channel."""


class OverlapOptions(LossOptions):
    """Options of ``GeneralizedDiceLoss``."""

    normalization: Normalization = "sigmoid"
    """Activation that maps logits to probabilities."""

    @property
    def activation(self) -> Activation:
        """The native name of the activation."""
        return "linear" if self.normalization == "none" else self.normalization


class DiceOptions(OverlapOptions):
    """Options of ``DiceLoss``."""

    weight: tuple[float, ...] | None = None
    """Factor of the overlap of each channel."""


class BCEDiceOptions(LossOptions):
    """Options of ``BCEDiceLoss``; `shares` explains what they meant in which version."""

    alpha: float | None = None
    """Weight of the binary cross-entropy where `beta` is given too, otherwise weight of Dice."""
    alphs: float | None = None
    """Weight of the binary cross-entropy, as versions up to 1.8.2 spelled it."""
    beta: float | None = None
    """Weight of Dice."""

    @property
    def shares(self) -> tuple[float, float]:
        """Weights of binary cross-entropy and Dice.

        The documentation says alpha x BCE + beta x Dice, which versions up to 1.8 computed (1.8.2 and earlier with the key `alphs`). From
        1.9 on it is BCE + alpha x Dice, and `beta` is not read. `alphs` or `beta` show which one is meant.
        """
        if self.alphs is None and self.beta is None:
            return 1.0, 1.0 if self.alpha is None else self.alpha
        entropy = self.alpha if self.alphs is None else self.alphs
        return 1.0 if entropy is None else entropy, 1.0 if self.beta is None else self.beta


class ClassOptions(LossOptions):
    """Options of ``CrossEntropyLoss`` and ``PixelWiseCrossEntropyLoss``."""

    weight: tuple[float, ...] | None = None
    """Weight of each class."""


class ThresholdOptions(LossOptions):
    """Options of ``WeightedSmoothL1Loss``."""

    threshold: float
    """Value of the target that separates the two sides."""
    initial_weight: float = Field(ge=0)
    """Weight of the voxels on one side of the threshold; those on the other have weight 1."""
    apply_below_threshold: bool = True
    """Whether the weight applies below the threshold, rather than at and above it."""


_Sums: TypeAlias = Callable[[Any, Tensor, Tensor, Tensor | None], Sums]
"""Computes a loss from its options, logits, target and weight."""


class Loss:
    """A loss from logits and target to a scalar.

    Attributes:
        name: its name in job files.
        needs_weight: whether it needs a weight per voxel, from the data set ``weight``.
        of_masks: whether it compares probabilities with targets between 0 and 1.
    """

    def __init__(self, options: LossOptions, sums: _Sums) -> None:
        self.name = options.name
        self.options = options
        self.needs_weight = options.name == "PixelWiseCrossEntropyLoss"
        self.of_masks = options.name in OF_MASKS
        self._sums = sums

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
        """The loss as sums, which add over parts of a batch.

        Args:
            logits: NK(Z)YX.
            target: NC(Z)YX, or class numbers N(Z)YX for the losses of classes.
            weight: broadcastable to the target; voxels of weight 0 are left out.

        Raises:
            DataError: for shapes that do not match, or a missing weight.
        """
        if self.needs_weight and weight is None:
            raise DataError(
                "loss.weight_missing",
                f"{self.name} weights each voxel, but no weight was given",
                remedy="Name the data set in loaders.weight_internal_path.",
            )
        if self.options.skip_last_target:
            if target.shape[1] < 2:
                raise DataError(
                    "loss.no_channel_to_skip",
                    f"loss.skip_last_target leaves out the last channel of the target, but its shape is {tuple(target.shape)}",
                    remedy="Set it to false, or let a label transform append the labels.",
                )
            # the metric reads the labels in the last channel, the loss must not
            target = target[:, :-1]
            if self.options.squeeze_channel and target.shape[1] == 1:
                target = target[:, 0]
        return self._sums(self.options, logits, target, weight)

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of this batch as a scalar; arguments and errors as in `sums`."""
        return self.sums(logits, target, weight).total


def build_loss(config: Mapping[str, Any]) -> Loss:
    """The loss of the section ``loss`` of a job file of pytorch-3dunet 1.4 or later.

    Raises:
        UnknownNameError: for a loss that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> loss = build_loss({"name": "BCEDiceLoss", "alpha": 0.5, "beta": 2.0})
        >>> round(float(loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))), 4)  # 0.5 ln 2 + 2 (1 - 0.8)
        0.7466
    """
    kind, sums = LOSSES[take_name(config, LOSSES, "loss")]
    return Loss(read_section(kind, config, "loss", DEAD), sums)


def _voxel_mean(parts: Tensor) -> Tensor:
    """Mean over all voxels that count, whatever their channel, as in the original; native losses average the means of the channels."""
    total, counted = parts.sum(dim=1)
    return total / torch.where(counted > 0, counted, torch.ones_like(counted))


def _binary(options: BinaryOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    sums = bce_sums(logits, target, weight, ignore_value=options.ignore_index, positive_weights=options.pos_weight)
    return Sums(sums.parts, _voxel_mean)


def _dice(options: DiceOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    sums = dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=options.activation, squared=True, smooth=0)
    weights = checked_weights(options.weight, logits.shape[1])
    return sums if weights is None else Sums(sums.parts, partial(_weighted_dice, weights=weights))


def _weighted_dice(parts: Tensor, *, weights: tuple[float, ...]) -> Tensor:
    """The weights multiply the overlap alone, as in the original: they are no weights of a mean."""
    overlap, size = parts
    present = size > 0
    score = torch.where(present, 2 * overlap / torch.where(present, size, torch.ones_like(size)), torch.ones_like(size))
    return 1 - (score * parts.new_tensor(weights)).mean()


def _generalized_dice(options: OverlapOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return generalized_dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=options.activation, smooth=0)


def _bce_dice(options: BCEDiceOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    # no `pos_weight`: the original passes it on only in BCEWithLogitsLoss
    entropy = bce_sums(logits, target, weight, ignore_value=options.ignore_index)
    overlap = dice_sums(logits, target, weight, ignore_value=options.ignore_index, squared=True, smooth=0)
    first, second = options.shares
    return Sums(torch.cat([entropy.parts, overlap.parts]), lambda parts: first * _voxel_mean(parts[:2]) + second * overlap.value(parts[2:]))


def _ignored_class(options: LossOptions) -> float:
    return NOT_A_CLASS if options.ignore_index is None else options.ignore_index


def _classes(options: ClassOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return ce_sums(logits, target, weight, ignore_value=_ignored_class(options), channel_weights=options.weight)


def _balanced_classes(options: LossOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return weighted_ce_sums(logits, target, weight, ignore_value=_ignored_class(options))


def _weighted_classes(options: ClassOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    """Parts (2, 1): Σ w_voxel w_class loss, and the number of voxels that are not ignored times that of classes."""
    weighted = ce_sums(logits, target, weight, ignore_value=_ignored_class(options), channel_weights=options.weight).parts[0]
    # the original divides by the number of values of a one-hot target, not by the sum of the weights
    _, counted = class_indices(target, logits, None, _ignored_class(options))
    return Sums(torch.stack([weighted, weighted.new_tensor([logits.shape[1]]) * counted.sum()]), _voxel_mean)


def _regression(sums: Callable[..., Sums], options: LossOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return Sums(sums(logits, target, weight, ignore_value=options.ignore_index).parts, _voxel_mean)


def _smooth_l1_by_threshold(options: ThresholdOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    chosen = target < options.threshold if options.apply_below_threshold else target >= options.threshold
    factor = torch.where(chosen, options.initial_weight, 1.0)
    total = smooth_l1_sums(logits, target, factor if weight is None else factor * weight, ignore_value=options.ignore_index).parts[0]
    logits, _, counted = prepare(logits, target, weight, options.ignore_index)
    # the threshold changes the weights of the loss, but not what it is divided by
    return Sums(torch.stack([total, weight_sums(logits, counted)]), _voxel_mean)


LOSSES: dict[str, tuple[type[LossOptions], _Sums]] = {
    "BCEWithLogitsLoss": (BinaryOptions, _binary),
    "DiceLoss": (DiceOptions, _dice),
    "BCEDiceLoss": (BCEDiceOptions, _bce_dice),
    "GeneralizedDiceLoss": (OverlapOptions, _generalized_dice),
    "CrossEntropyLoss": (ClassOptions, _classes),
    "WeightedCrossEntropyLoss": (LossOptions, _balanced_classes),
    "PixelWiseCrossEntropyLoss": (ClassOptions, _weighted_classes),
    "MSELoss": (LossOptions, partial(_regression, mse_sums)),
    "L1Loss": (LossOptions, partial(_regression, l1_sums)),
    "SmoothL1Loss": (LossOptions, partial(_regression, smooth_l1_sums)),
    "WeightedSmoothL1Loss": (ThresholdOptions, _smooth_l1_by_threshold),
}
DEAD = {
    "weight": "only CrossEntropyLoss, PixelWiseCrossEntropyLoss and DiceLoss weight classes.",
    "pos_weight": "only BCEWithLogitsLoss weights the foreground.",
    **dict.fromkeys(("alpha", "beta", "alphs"), "only BCEDiceLoss is a weighted sum of two losses."),
    "normalization": "only DiceLoss and GeneralizedDiceLoss have this option.",
}
