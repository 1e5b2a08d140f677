"""Figures of the validation that decide which weights are best, under `training.monitor`. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from morula.core.options import Options

Share = Annotated[float, Field(gt=0, le=1)]
Channel = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Monitor:
    """The figure of the validation that decides which weights are best and that schedules for a plateau follow."""

    figure: str
    higher_is_better: bool = True


class _Figure(Options):
    figure: ClassVar[str]
    errors: ClassVar[bool] = False
    kind: str

    better: Literal["higher", "lower"] | None = None
    """Which values are better; left out: lower ones of losses and errors, higher ones of scores."""

    @property
    def lower_by_default(self) -> bool:
        """Whether it is a loss or an error."""
        return self.errors

    @property
    def monitor(self) -> Monitor:
        """The figure by its name in events, and its direction."""
        return Monitor(self.figure, not self.lower_by_default if self.better is None else self.better == "higher")


class Loss(_Figure):
    """The validation loss."""

    figure: ClassVar = "validation_loss"
    errors: ClassVar = True
    kind: Literal["loss"] = "loss"


class Score(_Figure):
    """The score of methods without labels."""

    figure: ClassVar = "score"
    kind: Literal["score"] = "score"


class IoU(_Figure):
    """Intersection over union of masks: probabilities above 0.5, or the most probable of classes that exclude each other."""

    figure: ClassVar = "validation_iou"
    kind: Literal["iou"] = "iou"
    channels: tuple[Channel, ...] | None = Field(None, min_length=1)
    """Numbers of the channels that are compared; left out: all, of classes that exclude each other without the background."""


class Dice(_Figure):
    """Dice coefficient of probabilities."""

    figure: ClassVar = "validation_dice"
    kind: Literal["dice"] = "dice"
    least: float = Field(1e-6, gt=0)
    """Smallest denominator."""


class MSE(_Figure):
    """Mean squared difference of the channels from their targets."""

    figure: ClassVar = "validation_mse"
    errors: ClassVar = True
    kind: Literal["mse"] = "mse"


class PSNR(_Figure):
    """Peak signal-to-noise ratio of the channels. The range of the targets counts as 1 from 0 to 1 and as 2 from -1 to 1."""

    figure: ClassVar = "validation_psnr"
    kind: Literal["psnr"] = "psnr"


class Objects(_Figure):
    """Objects that are connected parts (across faces) of a channel above a threshold, compared with the labels of each patch.

    The best channel and threshold of each patch count: such scores rank weights, they are no estimate of the accuracy.
    """

    figure: ClassVar = "validation_objects"
    kind: Literal["objects"] = "objects"
    measure: Literal["accuracy", "adapted_rand_error"] = "accuracy"
    """`accuracy`: matches / different true and predicted objects, the mean over `iou`; or `adapted_rand_error`, of pairs of voxels."""
    iou: tuple[Share, ...] = Field(tuple(round(0.5 + 0.05 * step, 2) for step in range(10)), min_length=1)
    """Intersections over union from which objects match; a patch without objects on both sides has the accuracy 1."""
    thresholds: tuple[float, ...] = Field((0.3, 0.4, 0.5, 0.6, 0.7), min_length=1)
    """Values that are tried; a patch counts with the best."""
    channels: tuple[Channel, ...] | None = Field(None, min_length=1)
    """Numbers of the channels that are tried; all when left out."""
    inverted: bool | tuple[Channel, ...] = False
    """Whether channels are high between objects, such as C: 1 - value is compared with the threshold. `true`, or their numbers."""
    minus: Channel | None = None
    """Channel that is subtracted first, such as the contour C from the foreground F."""
    least_size: int = Field(0, ge=0)
    """Objects of fewer voxels are left out on both sides (accuracy only)."""
    truth: Channel | None = None
    """Channel of the targets whose values are the true objects, instead of the labels."""

    @property
    def lower_by_default(self) -> bool:
        """Whether the measure is an error."""
        return self.measure == "adapted_rand_error"


AnyMonitor = Loss | Score | IoU | Dice | MSE | PSNR | Objects
