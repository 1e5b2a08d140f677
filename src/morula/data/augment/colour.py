"""Independent changes of the channels, as staining, lamps and filters vary from slide to slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from morula.data.augment.base import AugmentationOptions, Intensity


class ColourOptions(AugmentationOptions):
    """Scale and shift every channel independently."""

    kind: Literal["colour"] = "colour"
    """Name of the variant."""

    contrast: float = Field(0.25, ge=0, lt=1)
    """Largest change of the contrast of a channel: factors are drawn uniformly from 1 - contrast to 1 + contrast."""
    brightness: float = Field(0.1, ge=0)
    """Largest constant added to a channel; drawn uniformly from -brightness to brightness."""


class Colour(Intensity[ColourOptions]):
    """Per channel: the difference from the mean of the channel is multiplied by a random factor, and a random constant is added.

    A single channel is changed too, as by `contrast` and `brightness` together.
    """

    name = "colour"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> int | None:
        """Draw the seed of the numbers, because the number of channels is not known yet."""
        return int(rng.integers(2**63)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: int, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        factor, constant = np.random.default_rng(record).uniform(-1, 1, (2, len(image), *(1,) * len(spacing))).astype(np.float32)
        mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float64).astype(np.float32)
        factor, constant = 1 + factor * np.float32(self.options.contrast), constant * np.float32(self.options.brightness)
        return mean + (image - mean) * factor + constant
