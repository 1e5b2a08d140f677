"""Brightness, contrast and gamma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from morula.data.augment.base import AugmentationOptions, Intensity


class BrightnessOptions(AugmentationOptions):
    """Add a constant."""

    kind: Literal["brightness"] = "brightness"
    """Name of the variant."""

    shorthand: ClassVar[str] = "strength"
    strength: float = Field(0.1, ge=0)
    """Largest constant, in both directions, in units of the normalised image (1 is from the low to the high percentile)."""


class Brightness(Intensity[BrightnessOptions]):
    """A constant drawn evenly from -strength to strength is added to all channels."""

    name = "brightness"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(-1, 1) * self.options.strength) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return image + np.float32(record)


class _Range(AugmentationOptions):
    low: float = Field(0.75, gt=0)
    """Smallest factor."""
    high: float = Field(1.25, gt=0)
    """Largest factor."""

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must not be above high")
        return self


class ContrastOptions(_Range):
    """Stretch intensities about their mean."""

    kind: Literal["contrast"] = "contrast"
    """Name of the variant."""


class Contrast(Intensity[ContrastOptions]):
    """The distance of each value from its channel's mean is multiplied by a factor drawn evenly from low to high."""

    name = "contrast"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(self.options.low, self.options.high)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float64).astype(np.float32)
        return mean + (image - mean) * np.float32(record)


class GammaOptions(_Range):
    """Raise intensities to a power."""

    kind: Literal["gamma"] = "gamma"
    """Name of the variant."""

    low: float = Field(0.7, gt=0)
    """Smallest exponent."""
    high: float = Field(1.4, gt=0)
    """Largest exponent."""


class Gamma(Intensity[GammaOptions]):
    """Each channel, laid between 0 and 1 by its extremes, is raised to a power drawn evenly from low to high."""

    name = "gamma"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(self.options.low, self.options.high)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        axes = tuple(range(1, image.ndim))
        low = image.min(axis=axes, keepdims=True)
        span = image.max(axis=axes, keepdims=True) - low
        span = np.where(span > 0, span, np.float32(1))
        return low + span * ((image - low) / span) ** np.float32(record)
