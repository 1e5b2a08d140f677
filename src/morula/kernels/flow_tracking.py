"""Where flows lead: each voxel moves along a vector field until it comes to rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.core.label_image import as_volume, to_3d

REST = 8
"""Steps after which a voxel that has not moved on is at rest."""


def follow(flow: np.ndarray, mask: np.ndarray, spacing: Sequence[float], steps: int = 200) -> np.ndarray:
    """Flat index of the voxel where the way of each voxel of the mask ends, (Z)YX int32 (int64 for 2^31 voxels and more); -1 outside.

    A step goes as far as the vector is long, in voxels of the finest axis; between voxels vectors are interpolated linearly, outside the
    mask they are 0, and no way leaves the image. A way ends after so many `steps`, or where the last 8 have led less than a voxel away.
    After Stringer et al., Cellpose (Nature Methods 18, 2021).

    Args:
        flow: vectors (ndim, (Z)YX) in array order, in physical directions.
        mask: (Z)YX bool.
        spacing: edge lengths of a voxel.
        steps: most steps.

    Examples:
        >>> follow(np.array([[[0.0, 0, 0]], [[1, 0, -1]]]), np.ones((1, 3), bool), (1, 1))
        array([[1, 1, 1]], dtype=int32)
    """
    whole = as_volume(mask)
    nz, ny, nx = whole.shape
    ends = np.full(whole.shape, -1, np.int32 if mask.size < 2**31 else np.int64)
    field = np.zeros((nz + 1, ny + 1, nx + 1, 3), np.float32)  # the vectors of a voxel side by side, and a neighbour above each
    for axis in range(1, mask.ndim + 1):
        np.copyto(field[:-1, :-1, :-1, -axis], as_volume(flow[-axis]), where=whole, casting="same_kind")
    _follow(field.ravel(), whole, min(spacing) / to_3d(spacing, min(spacing)), steps, ends)
    return ends.reshape(mask.shape)


@njit(cache=True, nogil=True)
def _follow(field: np.ndarray, mask: np.ndarray, scale: np.ndarray, steps: int, ends: np.ndarray) -> None:
    """Follow all voxels of a row at once: each step of a way waits for the one before, but not for those of other ways."""
    nz, ny, nx = mask.shape
    place, old, who = np.empty((3, nx)), np.empty((3, nx)), np.empty(nx, np.int64)
    for z in range(nz):
        for y in range(ny):
            n = 0
            for x in range(nx):
                if mask[z, y, x]:
                    who[n], place[0, n], place[1, n], place[2, n] = x, z, y, x
                    n += 1
            old[:, :n] = place[:, :n]
            for step in range(steps):
                if step % REST == REST - 1:
                    n = _moving(place, old, n, who, ends[z, y], mask.shape)
                if n == 0:
                    break
                _step(field, place, n, scale, mask.shape)
            for v in range(n):
                ends[z, y, who[v]] = _nearest(place, v, mask.shape)


@njit(cache=True, nogil=True, inline="always")
def _nearest(place: np.ndarray, v: int, shape: tuple[int, int, int]) -> int:
    return (int(place[0, v] + 0.5) * shape[1] + int(place[1, v] + 0.5)) * shape[2] + int(place[2, v] + 0.5)


@njit(cache=True, nogil=True)
def _moving(place: np.ndarray, old: np.ndarray, n: int, who: np.ndarray, ends: np.ndarray, shape: tuple[int, int, int]) -> int:
    """Keep those that have moved on, and return how many; the others have come to their end."""
    left = 0
    for v in range(n):
        if (place[0, v] - old[0, v]) ** 2 + (place[1, v] - old[1, v]) ** 2 + (place[2, v] - old[2, v]) ** 2 < 1:
            ends[who[v]] = _nearest(place, v, shape)
        else:
            who[left] = who[v]
            for axis in range(3):
                old[axis, left] = place[axis, left] = place[axis, v]
            left += 1
    return left


@njit(cache=True, nogil=True)
def _step(field: np.ndarray, place: np.ndarray, n: int, scale: np.ndarray, shape: tuple[int, int, int]) -> None:
    """One step of each: the mean of the vectors at the eight voxels around, by their nearness."""
    nz, ny, nx = shape
    # unsigned indices need no look whether they are negative
    one, two, three, four, five = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    row, plane = np.uint64(3 * (nx + 1)), np.uint64(3 * (nx + 1) * (ny + 1))
    top_z, top_y, top_x = nz - 1.0, ny - 1.0, nx - 1.0
    for v in range(n):
        pz, py, px = place[0, v], place[1, v], place[2, v]
        k, j, i = int(pz), int(py), int(px)
        fz, fy, fx = pz - k, py - j, px - i
        at = np.uint64(3 * ((k * (ny + 1) + j) * (nx + 1) + i))
        dz, dy, dx = 0.0, 0.0, 0.0
        for corner in range(4 if nz > 1 else 2):
            near = (fz if corner > 1 else 1 - fz) * (fy if corner % 2 else 1 - fy)
            a, b = near * (1 - fx), near * fx
            here = at + (plane if corner > 1 else np.uint64(0)) + (row if corner % 2 else np.uint64(0))
            dz = dz + a * field[here] + b * field[here + three]
            dy = dy + a * field[here + one] + b * field[here + four]
            dx = dx + a * field[here + two] + b * field[here + five]
        pz, py, px = pz + dz * scale[0], py + dy * scale[1], px + dx * scale[2]
        # so turned that what is not a number counts as 0
        place[0, v] = top_z if pz > top_z else (pz if pz > 0 else 0.0)
        place[1, v] = top_y if py > top_y else (py if py > 0 else 0.0)
        place[2, v] = top_x if px > top_x else (px if px > 0 else 0.0)


@njit(cache=True, nogil=True)
def count_ends(ends: np.ndarray, counts: np.ndarray) -> None:
    """Add 1 to the count at each end (-1: none)."""
    for end in ends:
        if end >= 0:
            counts[end] += 1


@njit(cache=True, nogil=True)
def labels_of_ends(ends: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Write into each voxel the id at its end; 0 where there is none."""
    for i, end in enumerate(ends):
        out[i] = ids[end] if end >= 0 else 0


def flow_errors(labels: np.ndarray, flow: np.ndarray, again: np.ndarray, n: int) -> np.ndarray:
    """Mean squared difference of two flows (ndim, (Z)YX) in each object 1..n, summed over the axes, (n,)."""
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    shape = (len(flow), *as_volume(labels).shape)
    _errors(as_volume(labels), np.ascontiguousarray(flow, np.float32).reshape(shape), again.reshape(shape), sums, counts)
    return sums[1:] / np.maximum(counts[1:], 1)


@njit(cache=True, nogil=True)
def _errors(labels: np.ndarray, one: np.ndarray, two: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label:
                    counts[label] += 1
                    for axis in range(len(one)):
                        sums[label] += (one[axis, z, y, x] - two[axis, z, y, x]) ** 2
