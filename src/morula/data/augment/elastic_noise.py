"""Random deformation by white noise that was smoothed with a Gaussian, in voxels (Simard et al. 2003)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from morula.data.augment.base import AugmentationOptions, Spatial
from morula.data.augment.warp import Warp

_NEGLIGIBLE = 1e-4  # factor that the Gaussian leaves of a wave, below which the wave is not drawn


class ElasticNoiseOptions(AugmentationOptions):
    """Deformation by smoothed noise, in voxels, as pytorch-3dunet and Simard et al. do it."""

    kind: Literal["elastic_noise"] = "elastic_noise"
    """Name of the variant."""

    alpha: float = Field(2000.0, ge=0)
    """Factor of the smoothed noise that is the displacement, in voxels; the noise has the standard deviation 1 before it is smoothed."""
    sigma: float = Field(50.0, gt=0)
    """Standard deviation of the Gaussian, in voxels."""
    axes: str = Field("zyx", pattern=r"^z?y?x?$", min_length=1)
    """Axes along which voxels are moved."""


@dataclass(frozen=True, eq=False)
class SmoothedNoise:
    """Displacement of each voxel of a patch, physical, (axes, (Z)YX) float32; constant beyond the patch."""

    vectors: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """The longest displacement along each axis."""
        return np.abs(self.vectors).reshape(len(self.vectors), -1).max(axis=1)

    def field(self, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
        """The displacement of a patch of `shape` with the same centre."""
        margins = [(n - own) // 2 for n, own in zip(shape, self.vectors.shape[1:], strict=True)]
        return np.pad(self.vectors, [(0, 0), *((margin, margin) for margin in margins)], mode="edge") if any(margins) else self.vectors


def smoothed_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float, alpha: float) -> np.ndarray:
    """White noise of standard deviation `alpha` after a Gaussian filter with mirrored borders, float32.

    A Gaussian filter with mirrored borders only scales cosine waves. So the few waves that it does not remove are drawn, instead of all
    voxels: the same distribution at a cost that does not grow with `sigma`.

    Examples:
        >>> field = smoothed_noise(np.random.default_rng(0), (1, 64, 64), 50, 2000)
        >>> field.shape, field.dtype
        ((1, 64, 64), dtype('float32'))
    """
    bases = []
    for n in shape:
        count = min(n, int(np.ceil(n / (np.pi * sigma) * np.sqrt(-2 * np.log(_NEGLIGIBLE)))) + 1)
        wave = np.arange(count)
        basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, wave) / n) * np.sqrt(np.where(wave, 2, 1) / n)
        bases.append((basis * np.exp(-((np.pi * sigma * wave / n) ** 2) / 2)).astype(np.float32))
    field = rng.standard_normal([basis.shape[1] for basis in bases], np.float32) * np.float32(alpha)
    for basis in bases:  # each time the first axis is turned into voxels and becomes the last one
        field = np.tensordot(field, basis, axes=(0, 1))
    return np.ascontiguousarray(field)


class ElasticNoise(Spatial[ElasticNoiseOptions]):
    """Displacement by smoothed noise; along an axis of one voxel the noise is not smoothed away."""

    name = "elastic_noise"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        vectors = np.zeros((len(shape), *shape), np.float32)
        for axis, letter in enumerate("zyx"[3 - len(shape) :]):
            if letter in self.options.axes:
                vectors[axis] = smoothed_noise(rng, shape, self.options.sigma, self.options.alpha) * np.float32(spacing[axis])
        return Warp(np.eye(len(shape)), np.zeros(len(shape)), (SmoothedNoise(vectors),))
