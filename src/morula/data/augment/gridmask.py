"""A grid of squares that hides parts of the image (Chen et al. 2020, https://arxiv.org/abs/2001.04086)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Intensity


class GridMaskOptions(AugmentationOptions):
    """Hide the squares of a regular grid in the plane; the labels stay."""

    kind: Literal["gridmask"] = "gridmask"
    """Name of the variant."""

    ratio: float = Field(0.6, gt=0, lt=1)
    """Share of a unit of the grid that stays visible along each axis: the squares have an edge of 1 - `ratio` units."""
    low: float = Field(0.4, gt=0, le=1)
    """Shortest unit of the grid, as a share of the shorter edge of the plane."""
    high: float = Field(1.0, gt=0, le=1)
    """Longest unit of the grid, as a share of the shorter edge of the plane."""
    invert: bool = False
    """Hide everything but the squares."""

    @model_validator(mode="after")
    def _ordered(self) -> GridMaskOptions:
        if self.low > self.high:
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class GridMask(Intensity[GridMaskOptions]):
    """Squares of a grid of random unit and position, the same in all planes, filled with the mean of the channel."""

    name = "gridmask"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray | None:
        """A mask (Y, X) of what is hidden; `None` where nothing is."""
        if not self.happens(rng):
            return None
        plane = shape[-2:]
        unit = max(2, round(min(plane) * rng.uniform(self.options.low, self.options.high)))
        side = min(unit - 1, max(1, round(unit * (1 - self.options.ratio))))
        # along each axis the squares repeat every `unit` pixels, from a random start
        rows, columns = ((np.arange(edge) + int(rng.integers(unit))) % unit < side for edge in plane)
        hidden: np.ndarray = rows[:, None] & columns[None, :]
        return ~hidden if self.options.invert else hidden

    def apply(self, image: np.ndarray, record: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)
        return np.where(record, mean, image).astype(image.dtype, copy=False)
