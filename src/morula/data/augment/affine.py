"""Rotation, zoom, shear and shift: affine maps in physical units, so that a sphere stays a sphere for every spacing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.data.augment.base import AugmentationOptions, Spatial
from morula.data.augment.warp import Warp

Axis = Literal["z", "y", "x"]


def _plane(about: Sequence[Axis], ndim: int, rng: np.random.Generator) -> tuple[int, int]:
    """The two axes of the plane perpendicular to a random one of the given axes; in 2D there is only one plane."""
    if ndim == 2:
        return 0, 1
    fixed = "zyx".index(about[int(rng.integers(len(about)))])
    first, second = (axis for axis in range(3) if axis != fixed)
    return first, second


class RotateOptions(AugmentationOptions):
    """Rotate by any angle."""

    kind: Literal["rotate"] = "rotate"
    """Name of the variant."""

    shorthand: ClassVar[str] = "degrees"
    degrees: float = Field(45.0, ge=0, le=180)
    """Largest angle, in both directions."""
    about: tuple[Axis, ...] = Field(("z",), min_length=1)
    """Axes of rotation; one is drawn per patch. 2D images are rotated in their plane."""


class Rotate(Spatial[RotateOptions]):
    """Rotation by an angle drawn uniformly from -degrees to degrees."""

    name = "rotate"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        a, b = _plane(self.options.about, len(shape), rng)
        angle = np.deg2rad(rng.uniform(-1, 1) * self.options.degrees)
        matrix = np.eye(len(shape))
        matrix[a, a] = matrix[b, b] = np.cos(angle)
        matrix[a, b], matrix[b, a] = np.sin(angle), -np.sin(angle)
        return Warp.affine(matrix)


class ZoomOptions(AugmentationOptions):
    """Scale."""

    kind: Literal["zoom"] = "zoom"
    """Name of the variant."""

    low: float = Field(0.8, gt=0.1, le=10)
    """Smallest magnification."""
    high: float = Field(1.25, gt=0.1, le=10)
    """Largest magnification."""
    axes: Literal["all", "plane", "each"] = "all"
    """`all`: the same factor along all axes; `plane`: only along y and x; `each`: one factor per axis."""

    @model_validator(mode="after")
    def _ordered(self) -> ZoomOptions:
        if self.low > self.high:
            raise OptionError("augmentation.range", f"must not be above high ({self.high:g})", key="low", value=self.low)
        return self


class Zoom(Spatial[ZoomOptions]):
    """Magnification drawn uniformly on a logarithmic scale from low to high."""

    name = "zoom"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        ndim = len(shape)
        factors = np.exp(rng.uniform(np.log(self.options.low), np.log(self.options.high), ndim))
        if self.options.axes != "each":
            factors[:] = factors[0]
        if self.options.axes == "plane":
            factors[: ndim - 2] = 1
        return Warp.affine(np.diag(1 / factors))  # a warp maps output to input: magnifying reads a smaller region


class ShearOptions(AugmentationOptions):
    """Shear."""

    kind: Literal["shear"] = "shear"
    """Name of the variant."""

    shorthand: ClassVar[str] = "degrees"
    degrees: float = Field(10.0, ge=0, lt=80)
    """Largest angle, in both directions."""
    about: tuple[Axis, ...] = Field(("z",), min_length=1)
    """Axes perpendicular to the sheared plane; one is drawn per patch."""


class Shear(Spatial[ShearOptions]):
    """One axis of a plane is tilted towards the other."""

    name = "shear"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        a, b = _plane(self.options.about, len(shape), rng)
        if rng.random() < 0.5:
            a, b = b, a
        matrix = np.eye(len(shape))
        matrix[a, b] = np.tan(np.deg2rad(rng.uniform(-1, 1) * self.options.degrees))
        return Warp.affine(matrix)


class ShiftOptions(AugmentationOptions):
    """Translate."""

    kind: Literal["shift"] = "shift"
    """Name of the variant."""

    shorthand: ClassVar[str] = "fraction"
    fraction: float = Field(0.1, ge=0, le=1)
    """Largest translation along each axis as a share of the edge of the patch, in both directions."""


class Shift(Spatial[ShiftOptions]):
    """Translation along each axis by an independent share of the edge of the patch."""

    name = "shift"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        # physical, because warps are
        edges = np.array(shape) * np.array(spacing)
        return Warp.affine(shift=rng.uniform(-1, 1, len(shape)) * self.options.fraction * edges, ndim=len(shape))
