"""Gaussian blur, as out of focus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.data.augment.base import AugmentationOptions, Intensity


class BlurOptions(AugmentationOptions):
    """Gaussian blur."""

    kind: Literal["blur"] = "blur"
    """Name of the variant."""

    shorthand: ClassVar[str] = "sigma"
    sigma: float = Field(1.0, ge=0)
    """Largest standard deviation, in pixels of the finest axis."""
    least: float = Field(0.0, ge=0)
    """Smallest standard deviation; drawn evenly between the two."""
    border: Literal["reflect", "nearest"] = "reflect"
    """Values beyond the patch: its mirror image, or the nearest voxel."""


class Blur(Intensity[BlurOptions]):
    """Blur of equal physical width along all axes."""

    name = "blur"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(self.options.least, self.options.sigma)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        from scipy.ndimage import gaussian_filter  # listing augmentations imports this module, without scipy

        widths = [record * min(spacing) / step for step in spacing]
        return np.stack([gaussian_filter(channel, widths, mode=self.options.border) for channel in image])
