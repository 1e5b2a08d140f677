"""Options of the method `masked_autoencoder`; needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from morula.core.errors import OptionError
from morula.methods.restoring_options import RestoringOptions


class Options(RestoringOptions):
    """Masked autoencoding (He et al. 2022, https://arxiv.org/abs/2111.06377).

    Examples:
        >>> Options(mask="grid", ratio=0.75)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Options
          Value error, ratio = 0.75: a grid hides every second box, so ratio has no effect. Leave it out, or use mask: random. ...
    """

    kind: Literal["masked_autoencoder"] = "masked_autoencoder"
    """Name of the variant."""

    mask: Literal["grid", "random"] = "grid"
    """Which boxes are hidden: every second one, as the fields of a chessboard, or as many as `ratio` says, drawn anew for each patch."""
    ratio: float = Field(0.5, gt=0, lt=1)
    """Share of the boxes that a random mask hides; at least one box is hidden and one seen."""
    normalise_boxes: bool = False
    """Rebuild each box at mean 0 and standard deviation 1, so that faint texture counts as much as bright."""
    token: tuple[PositiveInt, ...] | None = None
    """Edges of a box in voxels, (Z)YX; left out: as the network has them."""

    @model_validator(mode="after")
    def _ratio_counts(self) -> Options:
        if self.mask == "grid" and self.ratio != 0.5:
            rule = "a grid hides every second box, so ratio has no effect"
            raise OptionError(
                "masked_autoencoder.ratio_unused", rule, key="ratio", value=self.ratio, remedy="Leave it out, or use mask: random."
            )
        return self
