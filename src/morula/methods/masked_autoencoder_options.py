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
    """Boxes that are hidden: every second one, like one colour of a chessboard, or the share `ratio` of them, drawn for each patch."""
    ratio: float = Field(0.5, gt=0, lt=1)
    """Share of the boxes that a random mask hides; at least one box is hidden and one visible."""
    normalise_boxes: bool = False
    """Normalise each box to mean 0 and standard deviation 1 in the loss, so that faint texture counts as much as bright texture."""
    token: tuple[PositiveInt, ...] | None = None
    """Edges of a box in voxels, (Z)YX; left out: those of the network."""

    @model_validator(mode="after")
    def _ratio_counts(self) -> Options:
        if self.mask == "grid" and self.ratio != 0.5:
            rule = "a grid hides every second box, so ratio has no effect"
            raise OptionError(
                "masked_autoencoder.ratio_unused", rule, key="ratio", value=self.ratio, remedy="Leave it out, or use mask: random."
            )
        return self
