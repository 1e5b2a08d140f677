"""Smooth random deformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.data.augment.base import AugmentationOptions, Spatial
from morula.data.augment.warp import Warp, random_displacement


class ElasticOptions(AugmentationOptions):
    """Smooth random deformation."""

    kind: Literal["elastic"] = "elastic"
    """Name of the variant."""

    shorthand: ClassVar[str] = "alpha"
    alpha: float = Field(4.0, ge=0)
    """Standard deviation of the displacement, in pixels of the finest axis."""
    sigma: float = Field(32.0, ge=2)
    """Distance over which the displacement changes, in pixels of the finest axis. Below about three times alpha, the image may fold."""


class Elastic(Spatial[ElasticOptions]):
    """Displacement by a cubic B-spline field of random vectors `sigma` apart; physically of equal strength along all axes.

    Simard et al. 2003 smooth noise voxel by voxel; the cost of splines does not grow with `sigma`.
    """

    name = "elastic"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        pixel = min(spacing)
        field = random_displacement(rng, shape, spacing, amplitude=self.options.alpha * pixel, knot=self.options.sigma * pixel)
        return Warp(np.eye(len(shape)), np.zeros(len(shape)), (field,))
