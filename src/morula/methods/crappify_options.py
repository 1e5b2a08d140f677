"""Options of the method `crappify`; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from morula.methods.loss_options import unknown_loss
from morula.methods.restoring_options import RestoringOptions

LOSSES = ("l1", "mse", "smooth_l1", "ssim")
Factor = Annotated[float, Field(ge=1)]


class Options(RestoringOptions):
    """Crappification (Fang et al. 2021, https://doi.org/10.1038/s41592-021-01080-z): how images are degraded, and the losses.

    Examples:
        >>> Options(losses={"mae": 1.0})
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Options
        losses
          Value error, losses = 'mae': is not a loss; there are l1, mse, smooth_l1, ssim. l1 is the mean absolute error. ...
    """

    kind: Literal["crappify"] = "crappify"
    """Name of the variant."""

    noise: float = Field(0.2, ge=0)
    """Standard deviation of the Gaussian noise that is added, as a share of the patch's range of values; the range is kept."""
    factor: Factor | tuple[Factor, ...] = 2.0
    """Factor by which the resolution is lowered: one number, or one per axis (1 leaves an axis as it is, for example Z)."""
    losses: dict[str, Annotated[float, Field(gt=0)]] = Field({"l1": 1.0}, min_length=1)
    """Losses by name with their weights in the sum: `l1`, `mse`, `smooth_l1`, `ssim`."""
    folder: str | None = None
    """Folder for the degraded training images, relative to the job file; they are computed again when these settings or an image change.
    Left out: images are degraded during training, with new noise for each patch."""

    def relative_to(self, folder: Path) -> Options:
        """With the folder of the degraded images relative to the job file's folder."""
        return self if self.folder is None else self.model_copy(update={"folder": str(folder / self.folder)})

    @field_validator("losses")
    @classmethod
    def _known(cls, losses: dict[str, float]) -> dict[str, float]:
        for name in losses:
            if name not in LOSSES:
                raise unknown_loss(name, LOSSES)
        return losses
