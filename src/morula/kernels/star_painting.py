"""Fields of rays, and painting of the stars that they describe.

A field holds the ray lengths that a network predicts at every voxel. Stars are painted in a given order, and a voxel keeps the first id
that it gets. For each star only the voxels of its box are visited; see `morula.kernels.star_shapes` for the test whether a voxel is inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, read_only, to_3d
from morula.kernels.star_shapes import Fan, cone_table, gauge, paint, star_box


class RayField(NamedTuple):
    """Predicted lengths (rays, Z, Y, X): `unit` is the length that 1 stands for; lengths are clipped to `low` and `high`."""

    values: np.ndarray
    unit: float
    low: float
    high: float


def ray_field(values: np.ndarray, longest: float, unit: float, spacing: Sequence[float]) -> RayField:
    """Ray lengths (rays, (Z)YX) with their limits: at least a thousandth of a voxel, at most `longest` and the diagonal of the image."""
    # no object is longer than the image; a network's outlier must not make tables of cones that exhaust the memory
    diagonal = math.hypot(*(n * length for n, length in zip(values.shape[1:], spacing, strict=True)))
    # above 0, because the gauge divides by lengths
    low = 1e-3 * min(spacing)
    return RayField(read_only(values if values.ndim == 4 else values[:, None]), unit, low, max(low, min(longest * unit, diagonal)))


def table_for(radius: float, fan: Fan, spacing: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Table of the cones for stars of at most this radius; limited to the extent of the image, beyond which no voxel can be."""
    reach = [min(math.ceil(radius / length), n) for length, n in zip(spacing, shape, strict=True)]
    return cone_table(fan, to_3d(reach, 0).astype(np.int64))


def paint_stars(labels: np.ndarray, stars: np.ndarray, field: RayField, fan: Fan, spacing: Sequence[float]) -> None:
    """Write ids 1, 2, ... into the voxels of stars, in this order; a voxel keeps the first id that it gets.

    Args:
        labels: (Z)YX, written to.
        stars: flat indices of the centres.
        field: lengths of the rays of every voxel.
        fan: the rays.
        spacing: edge lengths of a voxel.
    """
    if len(stars):
        lengths = np.empty((len(stars), len(fan.ray_steps)))
        # lengths first: the table of the cones must cover the longest of them
        _all_lengths(field, stars, lengths)
        _paint_all(as_volume(labels), stars, lengths, fan, table_for(float(lengths.max()), fan, spacing, labels.shape))


@njit(cache=True, nogil=True)
def lengths_at(field: RayField, centre: np.ndarray, out: np.ndarray) -> None:
    """Lengths of the rays of one voxel."""
    for ray in range(len(out)):
        out[ray] = min(max(field.values[ray, centre[0], centre[1], centre[2]] * field.unit, field.low), field.high)


@njit(cache=True, nogil=True)
def unravel(flat: int, shape: tuple[int, int, int], out: np.ndarray) -> None:
    """Write the three indices of a flat index into `out`."""
    out[0], out[1], out[2] = flat // (shape[1] * shape[2]), flat // shape[2] % shape[1], flat % shape[2]


@njit(cache=True, nogil=True)
def _all_lengths(field: RayField, stars: np.ndarray, out: np.ndarray) -> None:
    centre = np.empty(3, np.int64)
    for row, flat in enumerate(stars):
        unravel(flat, field.values.shape[1:], centre)
        lengths_at(field, centre, out[row])


@njit(cache=True, nogil=True)
def _paint_all(labels: np.ndarray, stars: np.ndarray, lengths: np.ndarray, fan: Fan, table: np.ndarray) -> None:
    centre, box, normals = np.empty(3, np.int64), np.empty((3, 2), np.int64), np.empty((3, len(fan.cones)), np.float32)
    reach = np.array([n // 2 for n in table.shape])
    for row, flat in enumerate(stars):
        unravel(flat, labels.shape, centre)
        star_box(centre, lengths[row], fan.ray_steps, reach, box)
        gauge(lengths[row], fan.cones, fan.inverse, normals)
        paint(labels, row + 1, centre, box, normals, table)
