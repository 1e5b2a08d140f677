"""One warp for all spatial augmentations: an affine map in physical units plus a smooth displacement.

A warp maps every voxel of the patch to the position in the image from which its value is taken (by `resample`)::

    patch voxel o --> offset u from the centre (physical) --> matrix @ u + shift + displacement(u) --> image position

The displacement is a field of uniform cubic B-splines (Rueckert et al. 1999, https://doi.org/10.1109/42.796284).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from morula.core.region import Region
from morula.data.augment.interpolate import inside

_SPLINE_STD = 0.6923  # mean standard deviation of a 1D uniform cubic B-spline with coefficients of standard deviation 1


class Field(Protocol):
    """A displacement per voxel."""

    @property
    def reach(self) -> np.ndarray:
        """The largest displacement per axis, physical."""

    def field(self, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
        """The displacement of every voxel of a patch, physical, (ndim, \\*shape) float32."""


@dataclass(frozen=True, eq=False)
class Displacement:
    """A smooth field. `controls` are vectors (ndim, k1, k2, ...) on a grid with the physical spacing `knots`, centred on the patch."""

    controls: np.ndarray
    knots: tuple[float, ...]

    @property
    def reach(self) -> np.ndarray:
        """The largest displacement per axis, physical; a B-spline field cannot exceed its coefficients."""
        return np.abs(self.controls).reshape(len(self.controls), -1).max(axis=1)

    def field(self, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
        """The displacement of every voxel of a patch, physical, (ndim, \\*shape) float32."""
        field = self.controls.astype(np.float32)
        for axis, (n, step, knot) in enumerate(zip(shape, spacing, self.knots, strict=True), start=1):
            weights = _spline_weights(n, step / knot, field.shape[axis])
            field = np.moveaxis(np.tensordot(field, weights, axes=(axis, 1)), -1, axis)
        return np.ascontiguousarray(field)


def _spline_weights(n: int, step: float, k: int) -> np.ndarray:
    """Cubic B-spline weights (n, k) of k coefficients at distance 1 for n positions at distance `step`, both centred on 0."""
    places = (np.arange(n) - (n - 1) / 2) * step
    distance = np.abs(places[:, None] - (np.arange(k) - (k - 1) / 2)[None])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - np.minimum(distance, 2)) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def random_displacement(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], *, amplitude: float, knot: float
) -> Displacement:
    """A field with standard deviation `amplitude` that varies over the distance `knot`, both physical and equal along all axes."""
    # cubic splines need two knots beyond each end
    counts = [int(np.ceil((n - 1) * step / knot)) + 4 for n, step in zip(shape, spacing, strict=True)]
    # clipped, so that the reach of the field is bounded
    coefficients = np.clip(rng.standard_normal((len(shape), *counts)), -2, 2)
    return Displacement(coefficients * (amplitude / _SPLINE_STD ** len(shape)), (knot,) * len(shape))


@dataclass(frozen=True, eq=False)
class Warp:
    """A map of physical offsets u from the centre of the patch to ``matrix @ u + shift + displacements(u)``.

    Examples:
        >>> quarter = Warp.affine([[0, 1], [-1, 0]])
        >>> quarter.then(quarter).matrix
        array([[-1.,  0.],
               [ 0., -1.]])
    """

    matrix: np.ndarray
    shift: np.ndarray
    displacements: tuple[Field, ...] = ()

    @classmethod
    def affine(cls, matrix: object = None, shift: object = None, *, ndim: int = 2) -> Warp:
        """A warp without displacement; matrix and shift are the identity where left out."""
        table = np.eye(ndim) if matrix is None else np.asarray(matrix, np.float64)
        return cls(table, np.zeros(len(table)) if shift is None else np.asarray(shift, np.float64))

    def then(self, other: Warp) -> Warp:
        """The composition of the affine maps; displacements are added."""
        return Warp(self.matrix @ other.matrix, self.matrix @ other.shift + self.shift, self.displacements + other.displacements)

    def region(self, shape: Sequence[int], spacing: Sequence[float], centre: np.ndarray) -> Region:
        """A box that contains all source positions, in voxels of the image, of a patch of `shape` around `centre`."""
        matrix, shift = self._in_voxels(spacing)
        # the image of a box under a linear map is inside the box with the absolute matrix
        half = np.abs(matrix) @ ((np.array(shape) - 1) / 2)
        reach = half + sum((d.reach / np.array(spacing) for d in self.displacements), np.zeros(len(half)))
        low, high = centre + shift - reach, centre + shift + reach
        return Region(tuple(int(v) for v in np.floor(low)), tuple(int(v) for v in np.ceil(high) + 1))

    def _in_voxels(self, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        step = np.array(spacing, np.float64)
        return self.matrix * step[None, :] / step[:, None], self.shift / step

    def map(self, shape: Sequence[int], spacing: Sequence[float], centre: np.ndarray) -> VoxelMap:
        """The warp of a patch of `shape` voxels around `centre`, in voxels of the image; 2D becomes 3D with one plane."""
        ndim = len(shape)
        linear, shift = self._in_voxels(spacing)
        matrix, offset = np.zeros((3, 3)), np.zeros(3)
        matrix[3 - ndim :, 3 - ndim :] = linear
        offset[3 - ndim :] = centre + shift - linear @ ((np.array(shape) - 1) / 2)
        field = np.zeros((3, 0, 0, 0), np.float32)
        if self.displacements:
            total = sum(d.field(shape, spacing) for d in self.displacements)
            field = np.zeros((3, *lifted(shape)), np.float32)
            for axis, step in enumerate(spacing):
                field[3 - ndim + axis] = np.reshape(total[axis] / np.float32(step), lifted(shape))  # type: ignore[index]
        return VoxelMap(tuple(shape), matrix, offset, field)


@dataclass(frozen=True, eq=False)
class VoxelMap:
    """A warp in voxels of the image, always 3D: the source of voxel o is ``matrix @ o + offset + field[:, o]``."""

    shape: tuple[int, ...]
    matrix: np.ndarray
    offset: np.ndarray
    field: np.ndarray

    def places(self) -> np.ndarray:
        """Source position of each voxel, (3, Z, Y, X) float64."""
        voxels = np.indices(lifted(self.shape), np.float64)
        places = np.tensordot(self.matrix, voxels, axes=1) + self.offset[:, None, None, None]
        return places + self.field if self.field.size else places

    def inside(self, extent: Region) -> np.ndarray:
        """Mask (Z)YX of voxels whose source is inside a box of the image."""
        lift = 3 - len(self.shape)
        low, n = np.array((0,) * lift + extent.start, np.int64), np.array((1,) * lift + extent.shape, np.int64)
        out = np.empty(lifted(self.shape), np.bool_)
        inside(low, n, self.matrix, self.offset, self.field, out)
        return out.reshape(self.shape)

    def inner(self, margin: Sequence[int]) -> VoxelMap:
        """The map of the patch without a margin."""
        if not any(margin):
            return self
        low = np.array([0] * (3 - len(margin)) + list(margin))
        shape = tuple(n - 2 * m for n, m in zip(self.shape, margin, strict=True))
        field = self.field
        if field.size:
            field = field[(slice(None), *(slice(a, a + n) for a, n in zip(low, lifted(shape), strict=True)))]
        return VoxelMap(shape, self.matrix, self.offset + self.matrix @ low, np.ascontiguousarray(field))


def lifted(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as 3D, with axes of length 1 in front."""
    return (1,) * (3 - len(shape)) + tuple(shape)
