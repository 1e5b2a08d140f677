"""A rectangle of lower resolution, so that the network learns where an image lacks detail (Yoo et al. 2020, https://arxiv.org/abs/2004.00448)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Intensity

Cut: TypeAlias = tuple[tuple[slice, slice], int, bool]
"""The rectangle, the factor, and whether the rectangle is coarse or everything but it."""


class CutBlurOptions(AugmentationOptions):
    """Lower the resolution of a rectangle of the plane, the same in all planes; the labels stay."""

    kind: Literal["cutblur"] = "cutblur"
    """Name of the variant."""

    low: float = Field(0.2, gt=0, le=1)
    """Shortest edge of the rectangle, as a share of the edge of the patch."""
    high: float = Field(0.4, gt=0, le=1)
    """Longest edge of the rectangle, as a share of the edge of the patch."""
    least_factor: int = Field(2, ge=1)
    """Smallest factor by which the resolution is lowered."""
    factor: int = Field(8, ge=1)
    """Largest factor."""
    inside: bool = True
    """Whether it is always the rectangle that is coarse; otherwise half of the time it is everything else."""

    @model_validator(mode="after")
    def _ordered(self) -> CutBlurOptions:
        for lower, upper in (("low", "high"), ("least_factor", "factor")):
            least, most = getattr(self, lower), getattr(self, upper)
            if least > most:
                raise OptionError("augmentation.range", f"must not be above {upper} ({most:g})", key=lower, value=least)
        return self


class CutBlur(Intensity[CutBlurOptions]):
    """Blocks of pixels get their mean, in a rectangle of random size and position or outside of it."""

    name = "cutblur"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Cut | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        share, plane = rng.uniform(self.options.low, self.options.high), shape[-2:]
        edges = [max(1, round(edge * share)) for edge in plane]
        starts = [int(rng.integers(0, whole - edge + 1)) for whole, edge in zip(plane, edges, strict=True)]
        rows, columns = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
        factor = int(rng.integers(self.options.least_factor, self.options.factor + 1))
        return (rows, columns), factor, self.options.inside or bool(rng.random() < 0.5)

    def apply(self, image: np.ndarray, record: Cut, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        (rows, columns), factor, inside = record
        area = (..., rows, columns)
        if inside:
            changed = image.copy()
            changed[area] = _coarse(image[area], factor)
        else:
            changed = _coarse(image, factor)
            changed[area] = image[area]
        return changed


def _coarse(image: np.ndarray, factor: int) -> np.ndarray:
    """The image with blocks of `factor` x `factor` pixels of each plane set to their means; blocks at the far edges may be smaller."""
    height, width = image.shape[-2:]
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=-2), columns, axis=-1)
    sizes = np.diff(rows, append=height)[:, None] * np.diff(columns, append=width)[None, :]
    means = (sums / sizes).astype(image.dtype)
    coarse: np.ndarray = means.repeat(factor, axis=-2)[..., :height, :].repeat(factor, axis=-1)[..., :width]
    return coarse
