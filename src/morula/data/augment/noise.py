"""Noise. The record contains a seed, so that applying it always gives the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Intensity

Seeded = tuple[float, int]
"""A strength and the seed of the noise."""


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


class GaussianNoiseOptions(AugmentationOptions):
    """Add normally distributed noise."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"
    """Name of the variant."""

    shorthand: ClassVar[str] = "sigma"
    sigma: float = Field(0.05, ge=0)
    """Largest standard deviation, in units of the normalised image."""
    least: float = Field(0.0, ge=0)
    """Smallest standard deviation; drawn evenly between the two."""


class GaussianNoise(Intensity[GaussianNoiseOptions]):
    """Independent noise per voxel and channel, as from the electronics of a camera."""

    name = "gaussian_noise"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Seeded | None:
        """See `Augmentation.draw`."""
        return (float(rng.uniform(self.options.least, self.options.sigma)), _seed(rng)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: Seeded, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        sigma, seed = record
        return image + np.float32(sigma) * np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)


class PoissonNoiseOptions(AugmentationOptions):
    """Photon counting noise."""

    kind: Literal["poisson_noise"] = "poisson_noise"
    """Name of the variant."""

    low: float = Field(30.0, gt=0)
    """Fewest photons in the brightest voxel: strongest noise."""
    high: float = Field(1000.0, gt=0)
    """Most photons in the brightest voxel: weakest noise."""

    @model_validator(mode="after")
    def _ordered(self) -> PoissonNoiseOptions:
        if self.low > self.high:
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class PoissonNoise(Intensity[PoissonNoiseOptions]):
    """Photon noise: the darkest voxel of a channel has 0 photons and the brightest a number drawn uniformly on a logarithmic scale."""

    name = "poisson_noise"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Seeded | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        return float(np.exp(rng.uniform(np.log(self.options.low), np.log(self.options.high)))), _seed(rng)

    def apply(self, image: np.ndarray, record: Seeded, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        photons, seed = record
        axes = tuple(range(1, image.ndim))
        low = image.min(axis=axes, keepdims=True)
        span = image.max(axis=axes, keepdims=True) - low
        span = np.where(span > 0, span, np.float32(1))
        # intensities are scaled to photons, because Poisson noise depends on the absolute count
        counts = np.random.default_rng(seed).poisson((image - low) / span * photons)
        return low + span * (counts / photons).astype(np.float32)


class PoissonOffsetOptions(AugmentationOptions):
    """Add Poisson distributed noise that does not depend on the image, in contrast to `poisson_noise`."""

    kind: Literal["poisson_offset"] = "poisson_offset"
    """Name of the variant."""

    shorthand: ClassVar[str] = "mean"
    mean: float = Field(1.0, ge=0)
    """Largest mean of the noise, in units of the normalised image."""
    least: float = Field(0.0, ge=0)
    """Smallest mean; drawn evenly between the two."""


class PoissonOffset(Intensity[PoissonOffsetOptions]):
    """Whole numbers with a Poisson distribution are added to each voxel and channel, as in pytorch-3dunet."""

    name = "poisson_offset"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Seeded | None:
        """See `Augmentation.draw`."""
        return (float(rng.uniform(self.options.least, self.options.mean)), _seed(rng)) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: Seeded, spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        mean, seed = record
        return image + np.random.default_rng(seed).poisson(mean, image.shape).astype(np.float32)
