"""The losses of pytorch-3dunet by the names that its job files give them, as sums that add over patches, steps and processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from morula.core.errors import DataError
from morula.core.options import Options
from morula.dialects.pytorch3dunet.consistency import OF_MASKS
from morula.dialects.pytorch3dunet.ignored_keys import read_section, take_name
from morula.losses.bce import bce_sums
from morula.losses.cross_entropy import ce_sums, class_indices
from morula.losses.dice import dice_sums
from morula.losses.generalized_dice import generalized_dice_sums
from morula.losses.regression import l1_sums, mse_sums, smooth_l1_sums
from morula.losses.sums import Activation, Sums, at_least_float32, channel_sums, checked_weights, prepare, weight_sums

Normalization: TypeAlias = Literal["sigmoid", "softmax", "none"]
NOT_A_CLASS = -100.0  # what torch's cross-entropy leaves out unless told otherwise


class LossOptions(Options):
    """What may stand under ``loss`` whatever its name."""

    name: str
    """Name of the loss."""

    ignore_index: float | None = None
    """Value of the target of voxels that count nowhere."""

    skip_last_target: bool = False
    """Leave out the last channel of the target, which the metric uses."""

    squeeze_channel: bool = False
    """Take away the channel axis of the target after that."""


class BinaryOptions(LossOptions):
    """Options of ``BCEWithLogitsLoss``."""

    pos_weight: float | tuple[float, ...] | None = None
    """Weight of the foreground: one number, or one per channel."""


class DiceOptions(LossOptions):
    """Options of ``DiceLoss``."""

    normalization: Normalization = "sigmoid"
    """What turns logits into probabilities."""

    weight: tuple[float, ...] | None = None
    """Factor of each channel's overlap."""


class GeneralizedDiceOptions(LossOptions):
    """Options of ``GeneralizedDiceLoss``."""

    normalization: Normalization = "sigmoid"
    """What turns logits into probabilities."""


class BCEDiceOptions(LossOptions):
    """Options of ``BCEDiceLoss``; see `bce_dice_shares` for what they meant in which version."""

    alpha: float | None = None
    """Share of the binary cross-entropy where `beta` is given too, else share of Dice."""

    alphs: float | None = None
    """Share of the binary cross-entropy, as versions up to 1.8.2 spelt it."""

    beta: float | None = None
    """Share of Dice."""


class ClassOptions(LossOptions):
    """Options of ``CrossEntropyLoss`` and ``PixelWiseCrossEntropyLoss``."""

    weight: tuple[float, ...] | None = None
    """Weight of each class."""


class ThresholdOptions(LossOptions):
    """Options of ``WeightedSmoothL1Loss``."""

    threshold: float
    """Value of the target from which on, or below which, voxels have another weight."""

    initial_weight: float = Field(ge=0)
    """Weight of these voxels."""

    apply_below_threshold: bool = True
    """Whether the voxels below the threshold are meant."""


_Sums: TypeAlias = Callable[[Any, Tensor, Tensor, Tensor | None], Sums]


class Loss:
    """A loss from logits and target to a scalar.

    Attributes:
        name: its name in job files.
        needs_weight: whether it needs a weight for each voxel, from the ``weight`` data set.
        of_masks: whether it compares probabilities with targets between 0 and 1.
    """

    def __init__(self, options: LossOptions, sums: _Sums) -> None:
        self.name = options.name
        self.options = options
        self.needs_weight = options.name == "PixelWiseCrossEntropyLoss"
        self.of_masks = options.name in OF_MASKS
        self._sums = sums

    def sums(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
        """The loss before its last step, so that parts of a batch can be added.

        Args:
            logits: NK(Z)YX.
            target: NC(Z)YX, or class numbers N(Z)YX for the losses of classes.
            weight: broadcastable to the target; voxels of weight 0 count nowhere.

        Raises:
            DataError: for shapes that do not fit, or a missing weight.
        """
        if self.needs_weight and weight is None:
            raise DataError(
                "loss.weight_missing",
                f"{self.name} weighs each voxel but no weight was given",
                remedy="Name the data set loaders.weight_internal_path.",
            )
        if self.options.skip_last_target:
            if target.shape[1] < 2:
                raise DataError(
                    "loss.no_channel_to_skip",
                    f"loss.skip_last_target leaves out the last channel of the target, but its shape is {tuple(target.shape)}",
                    remedy="Set it to false, or let a label transform append the labels.",
                )
            target = target[:, :-1]
            if self.options.squeeze_channel and target.shape[1] == 1:
                target = target[:, 0]
        return self._sums(self.options, logits, target, weight)

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of this batch alone; arguments and errors as of `sums`."""
        return self.sums(logits, target, weight).total


def build_loss(config: Mapping[str, Any]) -> Loss:
    """The loss that stands under ``loss`` in a job file of pytorch-3dunet, of any version from 1.4 on.

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


def _activation(normalization: Normalization) -> Activation:
    return "linear" if normalization == "none" else normalization


def _binary(options: BinaryOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return Sums(bce_sums(logits, target, weight, ignore_value=options.ignore_index, positive_weights=options.pos_weight).parts, _mean)


def _dice(options: DiceOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    activation = _activation(options.normalization)
    plain = dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=activation, squared=True, smooth=0)
    weights = checked_weights(options.weight, logits.shape[1])
    return plain if weights is None else Sums(plain.parts, partial(_weighted_dice, weights=weights))


def _weighted_dice(parts: Tensor, *, weights: tuple[float, ...]) -> Tensor:
    """The weights multiply the overlap alone, as in the original: they are no weights of a mean."""
    overlap, size = parts
    there = size > 0
    score = torch.where(there, 2 * overlap / torch.where(there, size, torch.ones_like(size)), torch.ones_like(size))
    return 1 - (score * parts.new_tensor(weights)).mean()


def _generalized_dice(options: GeneralizedDiceOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    activation = _activation(options.normalization)
    return generalized_dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=activation, smooth=0)


def bce_dice_shares(options: BCEDiceOptions) -> tuple[float, float]:
    """Shares of binary cross-entropy and Dice.

    The document says alpha x BCE + beta x Dice, which versions up to 1.8 did (1.8.2 and before under the name `alphs`); from 1.9 on it is
    BCE + alpha x Dice and `beta` is not read. `alphs` or `beta` show which is meant.
    """
    if options.alphs is not None or options.beta is not None:
        entropy = options.alphs if options.alphs is not None else options.alpha
        return (1.0 if entropy is None else entropy), (1.0 if options.beta is None else options.beta)
    return 1.0, (1.0 if options.alpha is None else options.alpha)


def _bce_dice(options: BCEDiceOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    entropy = bce_sums(logits, target, weight, ignore_value=options.ignore_index)
    overlap = dice_sums(logits, target, weight, ignore_value=options.ignore_index, squared=True, smooth=0)
    share, other = bce_dice_shares(options)
    return Sums(torch.cat([entropy.parts, overlap.parts]), lambda parts: share * _mean(parts[:2]) + other * overlap.value(parts[2:]))


def _ignored_class(options: LossOptions) -> float:
    return NOT_A_CLASS if options.ignore_index is None else options.ignore_index


def _classes(options: ClassOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return ce_sums(logits, target, weight, ignore_value=_ignored_class(options), channel_weights=options.weight)


def _balanced_classes(options: LossOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    """Cross-entropy whose class weights Σ (1 - p) / Σ p follow from the prediction itself, over all voxels (https://arxiv.org/abs/1707.03237).

    Parts (4, C): Σ loss and number of the voxels of each class, then Σ (1 - p) and Σ p.
    """
    logits = at_least_float32(logits)
    classes, counted = class_indices(target, logits, weight, _ignored_class(options))
    loss = functional.cross_entropy(logits, classes, reduction="none") * counted
    empty = logits.new_zeros(logits.shape[1])
    by_class = [empty.index_add(0, classes.flatten(), values.flatten()) for values in (loss, counted)]
    predicted = logits.detach().softmax(dim=1)
    return Sums(torch.stack([*by_class, channel_sums(1 - predicted), channel_sums(predicted)]), _balanced_mean)


def _balanced_mean(parts: Tensor) -> Tensor:
    loss, counted, absent, present = parts
    weights = (absent / present.clamp(min=torch.finfo(parts.dtype).tiny)).detach()
    norm = (weights * counted).sum()
    return (weights * loss).sum() / torch.where(norm > 0, norm, torch.ones_like(norm))


def _weighted_classes(options: ClassOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    """Parts (2, 1): Σ w_voxel w_class loss, and the number of voxels that are not ignored times that of classes."""
    logits = at_least_float32(logits)
    classes, counted = class_indices(target, logits, None, _ignored_class(options))
    _, weighed = class_indices(target, logits, weight, _ignored_class(options))
    loss = functional.cross_entropy(logits, classes, reduction="none") * weighed
    weights = checked_weights(options.weight, logits.shape[1])
    if weights is not None:
        loss = loss * logits.new_tensor(weights)[classes]
    return Sums(torch.stack([loss.sum(), counted.sum() * logits.shape[1]])[:, None], _mean)


def _regression(sums: Callable[..., Sums], options: LossOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return Sums(sums(logits, target, weight, ignore_value=options.ignore_index).parts, _mean)


def _smooth_l1_by_threshold(options: ThresholdOptions, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    chosen = target < options.threshold if options.apply_below_threshold else target >= options.threshold
    logits, target, weight = prepare(logits, target, weight, options.ignore_index)
    loss = functional.smooth_l1_loss(logits, target, reduction="none")
    loss = torch.where(chosen, options.initial_weight * loss, loss)
    return Sums(torch.stack([channel_sums(loss, weight), weight_sums(loss, weight)]), _mean)


def _mean(parts: Tensor) -> Tensor:
    """Mean over all voxels that count, whatever their channel, as in the original; native losses average channels."""
    total, counted = parts.sum(dim=1)
    return total / torch.where(counted > 0, counted, torch.ones_like(counted))


LOSSES: dict[str, tuple[type[LossOptions], _Sums]] = {
    "BCEWithLogitsLoss": (BinaryOptions, _binary),
    "DiceLoss": (DiceOptions, _dice),
    "BCEDiceLoss": (BCEDiceOptions, _bce_dice),
    "GeneralizedDiceLoss": (GeneralizedDiceOptions, _generalized_dice),
    "CrossEntropyLoss": (ClassOptions, _classes),
    "WeightedCrossEntropyLoss": (LossOptions, _balanced_classes),
    "PixelWiseCrossEntropyLoss": (ClassOptions, _weighted_classes),
    "MSELoss": (LossOptions, partial(_regression, mse_sums)),
    "L1Loss": (LossOptions, partial(_regression, l1_sums)),
    "SmoothL1Loss": (LossOptions, partial(_regression, smooth_l1_sums)),
    "WeightedSmoothL1Loss": (ThresholdOptions, _smooth_l1_by_threshold),
}
DEAD = {
    "weight": "only CrossEntropyLoss, PixelWiseCrossEntropyLoss and DiceLoss weigh classes.",
    "pos_weight": "only BCEWithLogitsLoss weighs the foreground.",
    "alpha": "only BCEDiceLoss has shares.",
    "beta": "only BCEDiceLoss has shares.",
    "alphs": "only BCEDiceLoss has shares.",
    "normalization": "only DiceLoss and GeneralizedDiceLoss let it be chosen.",
}
