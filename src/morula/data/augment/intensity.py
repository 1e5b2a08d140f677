"""Brightness, contrast and gamma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Intensity


class BrightnessOptions(AugmentationOptions):
    """Add a constant."""

    kind: Literal["brightness"] = "brightness"
    """Name of the variant."""

    shorthand: ClassVar[str] = "strength"
    strength: float = Field(0.1, ge=0)
    """Largest constant, in both directions, in units of the normalised image (1 is from the low to the high percentile)."""


class Brightness(Intensity[BrightnessOptions]):
    """Add a constant drawn uniformly from -strength to strength to all channels."""

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
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class ContrastOptions(_Range):
    """Scale intensities about their mean."""

    kind: Literal["contrast"] = "contrast"
    """Name of the variant."""

    about: float | None = None
    """Value that stays as it is; the mean of each channel when left out."""
    clip: tuple[float, float] | None = None
    """Lower and upper limit of the result; none when left out."""


class Contrast(Intensity[ContrastOptions]):
    """Multiply the difference from the mean of the channel by a factor drawn uniformly from low to high."""

    name = "contrast"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(self.options.low, self.options.high)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        mean = np.float32(self.options.about or 0.0)
        if self.options.about is None:
            mean = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float64).astype(np.float32)
        stretched = mean + (image - mean) * np.float32(record)
        return stretched if self.options.clip is None else np.clip(stretched, *self.options.clip)


class GammaOptions(_Range):
    """Raise intensities to a power."""

    kind: Literal["gamma"] = "gamma"
    """Name of the variant."""

    low: float = Field(0.7, gt=0)
    """Smallest exponent."""
    high: float = Field(1.4, gt=0)
    """Largest exponent."""
    unit_range: bool = False
    """Leave the result between 0 and 1 (the extremes of all channels together) instead of the former range of each channel."""


class Gamma(Intensity[GammaOptions]):
    """Raise each channel, scaled to 0 to 1 by its extremes, to a power drawn uniformly from low to high."""

    name = "gamma"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> float | None:
        """See `Augmentation.draw`."""
        return float(rng.uniform(self.options.low, self.options.high)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: float, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        axes = tuple(range(int(not self.options.unit_range), image.ndim))
        low = image.min(axis=axes, keepdims=True)
        span = image.max(axis=axes, keepdims=True) - low
        span = np.where(span > 0, span, np.float32(1))  # a constant channel stays as it is
        result: np.ndarray = ((image - low) / span) ** np.float32(record)
        return result if self.options.unit_range else low + span * result
