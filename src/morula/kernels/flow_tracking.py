"""Trajectories of voxels in a vector field: each voxel moves along the vectors until it rests.

A step adds the vector at the current position, interpolated linearly between voxels (Euler's method with a step of one voxel). Trajectories
that have moved less than a voxel in 8 steps are at rest and stop. The voxels of a row are moved together: the steps of one trajectory
depend on each other, but not on those of other trajectories, so that the processor overlaps them. Complexity: voxels x steps.

After Stringer et al., Cellpose (Nature Methods 18, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, read_only, to_3d

REST = 8
"""Steps after which a voxel that has moved less than one voxel is at rest."""


def follow(flow: np.ndarray, mask: np.ndarray, spacing: Sequence[float], steps: int = 200) -> np.ndarray:
    """Voxel where the trajectory of each voxel of the mask ends.

    The length of a step is that of the vector, in voxels of the finest axis. Vectors outside the mask are 0, and no trajectory leaves the
    image.

    Args:
        flow: vectors (ndim, (Z)YX) in array order, in physical directions.
        mask: (Z)YX bool.
        spacing: edge lengths of a voxel.
        steps: largest number of steps.

    Returns:
        Flat indices (Z)YX int32 (int64 for 2^31 voxels or more); -1 outside the mask.

    Examples:
        >>> follow(np.array([[[0.0, 0, 0]], [[1, 0, -1]]]), np.ones((1, 3), bool), (1, 1))
        array([[1, 1, 1]], dtype=int32)
    """
    whole = as_volume(mask)
    nz, ny, nx = whole.shape
    ends = np.full(whole.shape, -1, np.int32 if mask.size < 2**31 else np.int64)
    # the components of a vector side by side: mostly one cache line per corner; one more voxel per axis, as a neighbour of the last one
    field = np.zeros((nz + 1, ny + 1, nx + 1, 3), np.float32)
    for axis in range(1, mask.ndim + 1):
        np.copyto(field[:-1, :-1, :-1, -axis], as_volume(flow[-axis]), where=whole, casting="same_kind")
    _follow(field.ravel(), whole, min(spacing) / to_3d(spacing, min(spacing)), steps, ends)
    return ends.reshape(mask.shape)


@njit(cache=True, nogil=True)
def _follow(field: np.ndarray, mask: np.ndarray, scale: np.ndarray, steps: int, ends: np.ndarray) -> None:
    """Follow the voxels of a row together."""
    nz, ny, nx = mask.shape
    position, checkpoint, column = np.empty((3, nx)), np.empty((3, nx)), np.empty(nx, np.int64)
    for z in range(nz):
        for y in range(ny):
            n = 0
            for x in range(nx):
                if mask[z, y, x]:
                    column[n], position[0, n], position[1, n], position[2, n] = x, z, y, x
                    n += 1
            # distances are measured to where the voxel was at the last check, so that trajectories around a point end, too
            checkpoint[:, :n] = position[:, :n]
            for step in range(steps):
                if step % REST == REST - 1:
                    n = _moving(position, checkpoint, n, column, ends[z, y], mask.shape)
                if n == 0:
                    break
                _step(field, position, n, scale, mask.shape)
            for v in range(n):
                ends[z, y, column[v]] = _nearest(position, v, mask.shape)


@njit(cache=True, nogil=True, inline="always")
def _nearest(position: np.ndarray, v: int, shape: tuple[int, int, int]) -> int:
    return (int(position[0, v] + 0.5) * shape[1] + int(position[1, v] + 0.5)) * shape[2] + int(position[2, v] + 0.5)


@njit(cache=True, nogil=True)
def _moving(position: np.ndarray, checkpoint: np.ndarray, n: int, column: np.ndarray, ends: np.ndarray, shape: tuple[int, int, int]) -> int:
    """Keep the voxels that still move and return their number; write the end of the others."""
    left = 0
    for v in range(n):
        if (position[0, v] - checkpoint[0, v]) ** 2 + (position[1, v] - checkpoint[1, v]) ** 2 + (
            position[2, v] - checkpoint[2, v]
        ) ** 2 < 1:
            ends[column[v]] = _nearest(position, v, shape)
        else:
            column[left] = column[v]
            for axis in range(3):
                checkpoint[axis, left] = position[axis, left] = position[axis, v]
            left += 1
    return left


@njit(cache=True, nogil=True)
def _step(field: np.ndarray, position: np.ndarray, n: int, scale: np.ndarray, shape: tuple[int, int, int]) -> None:
    """One step of each voxel, by linear interpolation between the eight voxels around it."""
    nz, ny, nx = shape
    # unsigned indices need no check for negative values
    one, two, three, four, five = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    row, plane = np.uint64(3 * (nx + 1)), np.uint64(3 * (nx + 1) * (ny + 1))
    top_z, top_y, top_x = nz - 1.0, ny - 1.0, nx - 1.0
    for v in range(n):
        pz, py, px = position[0, v], position[1, v], position[2, v]
        # positions are never negative, so that truncation rounds down
        k, j, i = int(pz), int(py), int(px)
        fz, fy, fx = pz - k, py - j, px - i
        at = np.uint64(3 * ((k * (ny + 1) + j) * (nx + 1) + i))
        dz, dy, dx = 0.0, 0.0, 0.0
        for corner in range(4 if nz > 1 else 2):
            # linear interpolation: the weight of a corner is the product of its distances along the axes
            near = (fz if corner > 1 else 1 - fz) * (fy if corner % 2 else 1 - fy)
            a, b = near * (1 - fx), near * fx
            low = at + (plane if corner > 1 else np.uint64(0)) + (row if corner % 2 else np.uint64(0))
            dz = dz + a * field[low] + b * field[low + three]
            dy = dy + a * field[low + one] + b * field[low + four]
            dx = dx + a * field[low + two] + b * field[low + five]
        pz, py, px = pz + dz * scale[0], py + dy * scale[1], px + dx * scale[2]
        # written so that NaN becomes 0
        position[0, v] = top_z if pz > top_z else (pz if pz > 0 else 0.0)
        position[1, v] = top_y if py > top_y else (py if py > 0 else 0.0)
        position[2, v] = top_x if px > top_x else (px if px > 0 else 0.0)


@njit(cache=True, nogil=True)
def count_ends(ends: np.ndarray, counts: np.ndarray) -> None:
    """Count the trajectories that end at each voxel (-1: none)."""
    for end in ends:
        if end >= 0:
            counts[end] += 1


@njit(cache=True, nogil=True)
def labels_of_ends(ends: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Write the id at the end of its trajectory into each voxel; 0 where there is none."""
    for i, end in enumerate(ends):
        out[i] = ids[end] if end >= 0 else 0


def flow_errors(labels: np.ndarray, flow: np.ndarray, own_flow: np.ndarray, n: int) -> np.ndarray:
    """Mean squared difference of two flows (ndim, (Z)YX) per object 1..n, summed over the axes.

    Args:
        labels: ids (Z)YX.
        flow: the predicted vectors.
        own_flow: the vectors that the labels have.
        n: largest id.
    """
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    shape = (len(flow), *as_volume(labels).shape)
    _errors(as_volume(labels), read_only(flow.astype(np.float32, copy=False)).reshape(shape), own_flow.reshape(shape), sums, counts)
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
