"""Boxes that hide parts of the image, so that the network learns to use context (DeVries and Taylor 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.core.region import Region
from morula.data.augment.base import AugmentationOptions, Intensity


class CutoutOptions(AugmentationOptions):
    """Hide boxes of the image; the labels stay."""

    kind: Literal["cutout"] = "cutout"
    """Name of the variant."""

    count: int = Field(1, ge=1)
    """Largest number of boxes."""
    low: float = Field(0.05, gt=0, le=1)
    """Shortest edge of a box, as a share of the edge of the patch."""
    high: float = Field(0.3, gt=0, le=1)
    """Longest edge of a box, as a share of the edge of the patch."""

    @model_validator(mode="after")
    def _ordered(self) -> CutoutOptions:
        if self.low > self.high:
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class Cutout(Intensity[CutoutOptions]):
    """Boxes of random size and position, filled with the mean of the channel."""

    name = "cutout"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> list[Region] | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        regions = []
        for _ in range(int(rng.integers(1, self.options.count + 1))):
            edges = [max(1, round(n * rng.uniform(self.options.low, self.options.high))) for n in shape]
            start = [int(rng.integers(0, n - edge + 1)) for n, edge in zip(shape, edges, strict=True)]
            regions.append(Region(tuple(start), tuple(a + edge for a, edge in zip(start, edges, strict=True))))
        return regions

    def apply(self, image: np.ndarray, record: list[Region], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        covered = image.copy()
        mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)
        for region in record:
            covered[(slice(None), *region.slices)] = mean
        return covered
