"""Channels changed each by itself, as staining, lamps and filters change from one slide to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from morula.data.augment.base import AugmentationOptions, Intensity


class ColourOptions(AugmentationOptions):
    """Stretch and shift each channel by itself."""

    kind: Literal["colour"] = "colour"
    """Name of the variant."""

    contrast: float = Field(0.25, ge=0, lt=1)
    """Largest change of a channel's contrast: factors are drawn evenly from 1 - contrast to 1 + contrast."""
    brightness: float = Field(0.1, ge=0)
    """Largest constant added to a channel; drawn evenly from -brightness to brightness."""


class Colour(Intensity[ColourOptions]):
    """The distance of each value from its channel's mean is multiplied, and a constant added, by numbers of each channel's own.

    Images with one channel change too, as by `contrast` and `brightness` in one.
    """

    name = "colour"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> int | None:
        """The seed of the channels' numbers, for how many channels there are is not known yet."""
        return int(rng.integers(2**63)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: int, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        factor, constant = np.random.default_rng(record).uniform(-1, 1, (2, len(image), *(1,) * len(spacing))).astype(np.float32)
        mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float64).astype(np.float32)
        factor, constant = 1 + factor * np.float32(self.options.contrast), constant * np.float32(self.options.brightness)
        return mean + (image - mean) * factor + constant
