"""The losses of pytorch-3dunet under their names in job files: the native losses, and what differs from these.

Voxels are averaged over all channels together, and targets may have a last channel of labels that only the metric uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from morula.core.errors import DataError
from morula.dialects.pytorch3dunet.keys import NotNegative, Section, Table, key
from morula.losses import LOSSES as NATIVE_LOSSES
from morula.losses.cross_entropy import class_indices
from morula.losses.sums import Activation, Sums, voxel_mean

NOT_A_CLASS = -100.0  # the default of ignore_index in torch.nn.CrossEntropyLoss
Arguments = dict[str, Any]
"""Arguments of a native loss, as native jobs state them."""


class LossOptions(Section):
    """A loss from logits and target to a scalar, and the keys of every loss.

    Attributes:
        native: name of the native loss.
        fixed: arguments of the native loss that make it the one of the original.
        of_masks: whether it compares probabilities with targets between 0 and 1.
        needs_weight: whether it needs a weight per voxel, from the data set ``weight``.
    """

    native_form = "`method.loss_options`"
    native: ClassVar[str]
    fixed: ClassVar[Arguments] = {}
    of_masks: ClassVar[bool] = False
    needs_weight: ClassVar[bool] = False
    dead: ClassVar = {
        "weight": "only CrossEntropyLoss, PixelWiseCrossEntropyLoss and DiceLoss weight classes.",
        "pos_weight": "only BCEWithLogitsLoss weights the foreground.",
        "alpha": "only BCEDiceLoss is a weighted sum of two losses.",
        "beta": "only BCEDiceLoss is a weighted sum of two losses.",
        "alphs": "only BCEDiceLoss is a weighted sum of two losses.",
        "normalization": "only DiceLoss and GeneralizedDiceLoss have this option.",
    }
    name: str = key(..., "Name of the loss.", native="`method.losses`")
    ignore_index: float | None = key(
        None, "Target value of voxels that are ignored.", native="`method.ignore` of classes, `images.ignore_label` of masks"
    )
    skip_last_target: bool = key(
        False, "Leave out the last channel of the target, which is for the metric.", native="channels have no labels appended"
    )
    squeeze_channel: bool = key(False, "Then remove the channel axis of the target if it has length 1.", native="not needed")

    @property
    def arguments(self) -> Arguments:
        """Arguments of the native loss: the fixed ones, and those that follow from keys."""
        return self.fixed

    @property
    def ignored_target(self) -> float | None:
        """Target value of voxels that count nowhere."""
        return self.ignore_index

    def scored(self, prediction: Tensor, target: Tensor) -> Tensor | None:
        """Mask N1(Z)YX of the voxels that a metric compares: those of which any target is not ignored; `None` for all.

        0 and 1 are ignored by a loss of masks alone: they are targets.
        """
        if self.ignore_index is None or (self.of_masks and self.ignore_index in (0, 1)):
            return None
        known = target != self.ignore_index
        if target.ndim < prediction.ndim:
            return known[:, None]
        return (known[:, :-1] if self.skip_last_target else known).any(dim=1, keepdim=True)

    def _compute(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
        """The loss as sums, from the channels of the target that count."""
        found: Sums = NATIVE_LOSSES.load(self.native)(logits, target, weight, ignore_value=self.ignored_target, **self.arguments)
        return found

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
        if self.skip_last_target:
            if target.shape[1] < 2:
                raise DataError(
                    "loss.no_channel_to_skip",
                    f"loss.skip_last_target leaves out the last channel of the target, but its shape is {tuple(target.shape)}",
                    remedy="Set it to false, or let a label transform append the labels.",
                )
            # the metric reads the labels in the last channel, the loss must not
            target = target[:, :-1]
            if self.squeeze_channel and target.shape[1] == 1:
                target = target[:, 0]
        return self._compute(logits, target, weight)

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of this batch as a scalar; arguments and errors as in `sums`."""
        return self.sums(logits, target, weight).total


# --- masks -------------------------------------------------------------------------------------------------------------------------------


class BCEWithLogitsLoss(LossOptions):
    """Binary cross-entropy."""

    native = "bce"
    fixed: ClassVar = {"over_channels": False}
    of_masks = True
    pos_weight: float | tuple[float, ...] | None = key(None, "Weight of the foreground: one number, or one per channel.")

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`."""
        return self.fixed if self.pos_weight is None else {**self.fixed, "positive_weights": self.pos_weight}


class OverlapLoss(LossOptions):
    """Keys of every loss of overlap."""

    of_masks = True
    normalization: Literal["sigmoid", "softmax", "none"] = key(
        "sigmoid", "Activation that maps logits to probabilities.", native="`method.activation` of labels of several channels"
    )

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`."""
        activation: Activation = "linear" if self.normalization == "none" else self.normalization
        return {**self.fixed, "activation": activation}


class DiceLoss(OverlapLoss):
    """Dice."""

    native = "dice"
    fixed: ClassVar = {"squared": True, "smooth": 0}  # the form of V-Net
    weight: tuple[float, ...] | None = key(
        None, "Factor of the overlap of each channel.", native="`method.weights`, `channel_weights` in `method.loss_options`"
    )

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`."""
        return super().arguments if self.weight is None else {**super().arguments, "channel_weights": self.weight}

    def _compute(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
        """The weights multiply the overlap: 1 - mean(w s) of the scores s, where the native loss is the weighted mean of 1 - s."""
        sums = super()._compute(logits, target, weight)
        share = sum(self.weight or (1.0,)) / len(self.weight or (1.0,))
        return Sums(sums.parts, lambda parts: 1 - share * (1 - sums.value(parts)))


class GeneralizedDiceLoss(OverlapLoss):
    """Generalised Dice."""

    native = "generalized_dice"
    fixed: ClassVar = {"smooth": 0}


class BCEDiceLoss(LossOptions):
    """Binary cross-entropy and Dice; `shares` explains what the keys meant in which version."""

    native = "bce_dice"
    fixed: ClassVar = {**BCEWithLogitsLoss.fixed, **DiceLoss.fixed}
    of_masks = True
    alpha: float | None = key(None, "Weight of the binary cross-entropy where `beta` is given too, otherwise weight of Dice.")
    alphs: float | None = key(None, "Weight of the binary cross-entropy, as versions up to 1.8.2 spelled it.")
    beta: float | None = key(None, "Weight of Dice.")

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

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`; no `pos_weight`: the original passes it on only in BCEWithLogitsLoss."""
        return {**self.fixed, "shares": self.shares}


# --- classes -----------------------------------------------------------------------------------------------------------------------------


class ClassesLoss(LossOptions):
    """Keys of every loss of classes."""

    native = "ce"

    @property
    def ignored_target(self) -> float:
        """See `LossOptions.ignored_target`."""
        return NOT_A_CLASS if self.ignore_index is None else self.ignore_index


class CrossEntropyLoss(ClassesLoss):
    """Cross-entropy."""

    weight: tuple[float, ...] | None = key(None, "Weight of each class.", native="`method.class_weights`")

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`."""
        return {} if self.weight is None else {"channel_weights": self.weight}


class WeightedCrossEntropyLoss(ClassesLoss):
    """Cross-entropy with weights from the prediction."""

    native = "weighted_ce"


class PixelWiseCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy with a weight for each voxel."""

    needs_weight = True

    def _compute(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Sums:
        """Parts (2, 1): Σ w_voxel w_class loss, and the number of counted voxels times that of classes."""
        weighted = super()._compute(logits, target, weight).parts[0]
        # the original divides by the number of values of a one-hot target, not by the sum of the weights
        _, counted = class_indices(target, logits, None, self.ignored_target)
        parts = torch.stack([weighted, weighted.new_tensor([logits.shape[1]]) * counted.sum()])
        return Sums(parts, partial(voxel_mean, channel_weights=None))


# --- regression --------------------------------------------------------------------------------------------------------------------------


class RegressionLoss(LossOptions):
    """Keys of every loss of a regression."""

    native_form = "`method.losses` of the method `regression`"
    fixed: ClassVar = {"over_channels": False}


class MSELoss(RegressionLoss):
    """Mean squared error."""

    native = "mse"


class L1Loss(RegressionLoss):
    """Mean absolute error."""

    native = "l1"


class SmoothL1Loss(RegressionLoss):
    """Mean absolute error, squared near 0."""

    native = "smooth_l1"


class WeightedSmoothL1Loss(SmoothL1Loss):
    """SmoothL1Loss with another weight on one side of a threshold."""

    threshold: float = key(..., "Value of the target that separates the two sides.")
    initial_weight: NotNegative = key(..., "Weight of the voxels on one side of the threshold; those on the other have weight 1.")
    apply_below_threshold: bool = key(True, "Whether the weight applies below the threshold, rather than at and above it.")

    @property
    def arguments(self) -> Arguments:
        """See `LossOptions.arguments`."""
        below, above = (self.initial_weight, 1.0) if self.apply_below_threshold else (1.0, self.initial_weight)
        return {**self.fixed, "sides": (self.threshold, below, above)}


_KINDS: tuple[type[LossOptions], ...] = (
    BCEWithLogitsLoss,
    DiceLoss,
    BCEDiceLoss,
    GeneralizedDiceLoss,
    CrossEntropyLoss,
    WeightedCrossEntropyLoss,
    PixelWiseCrossEntropyLoss,
    MSELoss,
    L1Loss,
    SmoothL1Loss,
    WeightedSmoothL1Loss,
)
LOSSES: Table[LossOptions] = Table({kind.__name__: kind for kind in _KINDS})


def build_loss(config: Mapping[str, Any]) -> LossOptions:
    """The loss of the section ``loss`` of a job file of pytorch-3dunet 1.4 or later.

    Raises:
        UnknownNameError: for a loss that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> loss = build_loss({"name": "BCEDiceLoss", "alpha": 0.5, "beta": 2.0})
        >>> round(float(loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))), 4)  # 0.5 ln 2 + 2 (1 - 0.8)
        0.7466
    """
    return LOSSES.read(config, "loss")
