"""Options of the method `regression`; needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.methods.loss_options import OF_CLASSES, OF_PROBABILITIES, LossArguments, check_loss_options, check_losses
from morula.methods.restoring_options import RestoringOptions


class Options(RestoringOptions):
    """Images that are predicted, and how they are scored while training."""

    kind: Literal["regression"] = "regression"
    """Name of the variant."""

    channels: PositiveInt = 1
    """Channels of the images to be predicted, which `images.train.labels` names."""
    enlarge: tuple[PositiveInt, ...] | None = None
    """Factor per axis (Z)YX by which targets have more voxels than their images, for example `[2, 2]` or `[1, 2, 2]`: each image is
    interpolated linearly to the grid of its target, on which the network works. Left out: both have the same grid."""
    activation: Literal["linear", "sigmoid", "softmax"] = "linear"
    """`linear`: any values. `sigmoid`: probabilities, of masks that may overlap. `softmax`: of masks that exclude each other."""
    units: Literal["targets", "image"] = "targets"
    """Units of the predicted images. `targets`: by `offset` and `scale`. `image`: each target is normalised as its image is, by its own
    values, and a prediction gets the mean and spread of its image back; for targets of the same kind, such as an image with less noise."""
    offset: float | None = None
    """Value that is added to the output of the network, of the activation `linear`; left out: the mean of the targets."""
    scale: float | None = Field(None, gt=0)
    """Factor of the output before that; left out: the standard deviation of the targets. The losses compare the targets on this scale."""
    losses: dict[str, Annotated[float, Field(gt=0)]] = Field({})
    """Losses by name with their weights in the sum, also `ssim`; left out: `mse`, with `sigmoid` `bce_dice`, with `softmax` `dice`."""
    loss_options: dict[str, LossArguments] = Field({})
    """Further arguments of losses by name, for example `{smooth_l1: {beta: 0.5}}`. With `{mse: {sides: [100, 0.2, 1]}}` (or `l1`,
    `smooth_l1`) voxels whose target is below 100 count a fifth of the others."""

    @property
    def enlarged_by(self) -> tuple[int, ...]:
        """Factor per axis by which results have more voxels than their images."""
        return self.enlarge or ()

    @property
    def used_losses(self) -> dict[str, float]:
        """The losses that are stated, or the default."""
        return self.losses or {{"linear": "mse", "sigmoid": "bce_dice", "softmax": "dice"}[self.activation]: 1.0}

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        check_losses(self.losses, without=OF_CLASSES, more=("ssim",))
        check_loss_options(self.loss_options)
        wrong = [name for name in self.losses if name in OF_PROBABILITIES]
        if wrong and self.activation == "linear":
            rule, remedy = "learns probabilities", "Write activation: sigmoid, or use l1, mse or smooth_l1."
            raise OptionError("loss.not_a_probability", rule, key="losses", value=wrong[0], remedy=remedy)
        if self.activation != "linear" and (self.offset or self.scale not in (None, 1)):
            rule, remedy = "changes the values of probabilities", "Leave offset and scale out, or write activation: linear."
            raise OptionError("regression.scaled_probability", rule, key="activation", value=self.activation, remedy=remedy)
        if self.units == "image" and (self.activation != "linear" or self.offset is not None or self.scale is not None):
            rule, remedy = "takes the scale of the image, without activation, offset and scale", "Write units: targets, or leave them out."
            raise OptionError("regression.units", rule, key="units", value=self.units, remedy=remedy)
        alone = [name for name in self.losses if name.startswith("bce")]
        if alone and self.activation == "softmax":
            rule, remedy = "learns each mask by itself, through a sigmoid", "Use dice or generalized_dice, or activation: sigmoid."
            raise OptionError("loss.of_each_mask", rule, key="losses", value=alone[0], remedy=remedy)
        return self
