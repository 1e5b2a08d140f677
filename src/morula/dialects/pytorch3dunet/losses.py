"""The losses of pytorch-3dunet under their names in job files, made of the native losses.

They differ from these in two ways: voxels are averaged over all channels together, and targets may have a last channel of labels that only
the metric uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from morula.core.errors import DataError
from morula.dialects.pytorch3dunet.keys import Section, table
from morula.dialects.pytorch3dunet.sections import OF_MASKS
from morula.losses.bce import bce_sums
from morula.losses.cross_entropy import ce_sums, class_indices, weighted_ce_sums
from morula.losses.dice import dice_sums
from morula.losses.generalized_dice import generalized_dice_sums
from morula.losses.regression import l1_sums, mse_sums, smooth_l1_sums
from morula.losses.sums import Activation, Sums, checked_weights, prepare, weight_sums

NOT_A_CLASS = -100.0  # the default of ignore_index in torch.nn.CrossEntropyLoss


class LossOptions(Section):
    """Keys of every loss.

    Attributes:
        compute: the loss as sums, from logits, target and weights of voxels.
    """

    compute: ClassVar[Callable[[Any, Tensor, Tensor, Tensor | None], Sums]]


def shares(options: Section) -> tuple[float, float]:
    """Weights of binary cross-entropy and Dice in ``BCEDiceLoss``.

    The documentation says alpha x BCE + beta x Dice, which versions up to 1.8 computed (1.8.2 and earlier with the key `alphs`). From
    1.9 on it is BCE + alpha x Dice, and `beta` is not read. `alphs` or `beta` show which one is meant.
    """
    if options.alphs is None and options.beta is None:
        return 1.0, 1.0 if options.alpha is None else options.alpha
    entropy = options.alpha if options.alphs is None else options.alphs
    return 1.0 if entropy is None else entropy, 1.0 if options.beta is None else options.beta


class Loss:
    """A loss from logits and target to a scalar.

    Attributes:
        name: its name in job files.
        needs_weight: whether it needs a weight per voxel, from the data set ``weight``.
        of_masks: whether it compares probabilities with targets between 0 and 1.
    """

    def __init__(self, options: Section) -> None:
        assert isinstance(options, LossOptions)
        self.name = options.name
        self.options = options
        self.needs_weight = options.name == "PixelWiseCrossEntropyLoss"
        self.of_masks = options.name in OF_MASKS

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
        return self.options.compute(logits, target, weight)

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
    return Loss(LOSSES.read(config, "loss"))


def _voxel_mean(parts: Tensor) -> Tensor:
    """Mean over all voxels that count, whatever their channel, as in the original; native losses average the means of the channels."""
    total, counted = parts.sum(dim=1)
    return total / torch.where(counted > 0, counted, torch.ones_like(counted))


def _binary(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    sums = bce_sums(logits, target, weight, ignore_value=options.ignore_index, positive_weights=options.pos_weight)
    return Sums(sums.parts, _voxel_mean)


def _dice(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    sums = dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=_activation(options), squared=True, smooth=0)
    weights = checked_weights(options.weight, logits.shape[1])
    return sums if weights is None else Sums(sums.parts, partial(_weighted_dice, weights=weights))


def _weighted_dice(parts: Tensor, *, weights: tuple[float, ...]) -> Tensor:
    """The weights multiply the overlap alone, as in the original: they are no weights of a mean."""
    overlap, size = parts
    present = size > 0
    score = torch.where(present, 2 * overlap / torch.where(present, size, torch.ones_like(size)), torch.ones_like(size))
    return 1 - (score * parts.new_tensor(weights)).mean()


def _generalized_dice(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return generalized_dice_sums(logits, target, weight, ignore_value=options.ignore_index, activation=_activation(options), smooth=0)


def _bce_dice(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    # no `pos_weight`: the original passes it on only in BCEWithLogitsLoss
    entropy = bce_sums(logits, target, weight, ignore_value=options.ignore_index)
    overlap = dice_sums(logits, target, weight, ignore_value=options.ignore_index, squared=True, smooth=0)
    first, second = shares(options)
    return Sums(torch.cat([entropy.parts, overlap.parts]), lambda parts: first * _voxel_mean(parts[:2]) + second * overlap.value(parts[2:]))


def _activation(options: Section) -> Activation:
    """The native name of the activation that maps logits to probabilities."""
    found: Activation = "linear" if options.normalization == "none" else options.normalization
    return found


def _ignored_class(options: Section) -> float:
    return NOT_A_CLASS if options.ignore_index is None else float(options.ignore_index)


def _classes(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return ce_sums(logits, target, weight, ignore_value=_ignored_class(options), channel_weights=options.weight)


def _balanced_classes(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    return weighted_ce_sums(logits, target, weight, ignore_value=_ignored_class(options))


def _weighted_classes(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    """Parts (2, 1): Σ w_voxel w_class loss, and the number of voxels that are not ignored times that of classes."""
    weighted = ce_sums(logits, target, weight, ignore_value=_ignored_class(options), channel_weights=options.weight).parts[0]
    # the original divides by the number of values of a one-hot target, not by the sum of the weights
    _, counted = class_indices(target, logits, None, _ignored_class(options))
    return Sums(torch.stack([weighted, weighted.new_tensor([logits.shape[1]]) * counted.sum()]), _voxel_mean)


def _smooth_l1_by_threshold(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
    chosen = target < options.threshold if options.apply_below_threshold else target >= options.threshold
    factor = torch.where(chosen, options.initial_weight, 1.0)
    total = smooth_l1_sums(logits, target, factor if weight is None else factor * weight, ignore_value=options.ignore_index).parts[0]
    logits, _, counted = prepare(logits, target, weight, options.ignore_index)
    # the threshold changes the weights of the loss, but not what it is divided by
    return Sums(torch.stack([total, weight_sums(logits, counted)]), _voxel_mean)


def _regression(sums: Callable[..., Sums]) -> Callable[..., Sums]:
    def compute(options: Section, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
        return Sums(sums(logits, target, weight, ignore_value=options.ignore_index).parts, _voxel_mean)

    return compute


LOSSES = table(
    "loss",
    {
        "BCEWithLogitsLoss": {"compute": _binary},
        "DiceLoss": {"compute": _dice},
        "BCEDiceLoss": {"compute": _bce_dice},
        "GeneralizedDiceLoss": {"compute": _generalized_dice},
        "CrossEntropyLoss": {"compute": _classes},
        "WeightedCrossEntropyLoss": {"compute": _balanced_classes},
        "PixelWiseCrossEntropyLoss": {"compute": _weighted_classes},
        "MSELoss": {"compute": _regression(mse_sums)},
        "L1Loss": {"compute": _regression(l1_sums)},
        "SmoothL1Loss": {"compute": _regression(smooth_l1_sums)},
        "WeightedSmoothL1Loss": {"compute": _smooth_l1_by_threshold},
    },
    base=LossOptions,
)
