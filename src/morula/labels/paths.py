"""Where flows lead: each voxel moves along a vector field until it comes to rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.labels.check import volume

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
    ends = np.full(mask.shape, -1, np.int32 if mask.size < 2**31 else np.int64)
    scale = np.ones(3)
    scale[3 - mask.ndim :] = min(spacing) / np.asarray(spacing, float)
    field = np.ascontiguousarray(flow, np.float32)
    if mask.ndim == 2:
        _follow_2d(field, mask, scale[1:], steps, ends)
    else:
        _follow_3d(field, mask, scale, steps, ends)
    return ends


@njit(cache=True, nogil=True)
def _follow_2d(flow: np.ndarray, mask: np.ndarray, scale: np.ndarray, steps: int, ends: np.ndarray) -> None:
    ny, nx = mask.shape
    for y in range(ny):
        for x in range(nx):
            if not mask[y, x]:
                continue
            py, px, oy, ox = float(y), float(x), float(y), float(x)
            for step in range(steps):
                if step % REST == REST - 1:
                    if (py - oy) ** 2 + (px - ox) ** 2 < 1:
                        break
                    oy, ox = py, px
                j, i = min(int(py), max(ny - 2, 0)), min(int(px), max(nx - 2, 0))
                fy, fx = py - j, px - i
                dy, dx = 0.0, 0.0
                for b in range(min(2, ny)):
                    for a in range(min(2, nx)):
                        if mask[j + b, i + a]:
                            share = (fy if b else 1 - fy) * (fx if a else 1 - fx)
                            dy += share * flow[0, j + b, i + a]
                            dx += share * flow[1, j + b, i + a]
                py, px = min(max(py + dy * scale[0], 0.0), ny - 1.0), min(max(px + dx * scale[1], 0.0), nx - 1.0)
            ends[y, x] = int(py + 0.5) * nx + int(px + 0.5)


@njit(cache=True, nogil=True)
def _follow_3d(flow: np.ndarray, mask: np.ndarray, scale: np.ndarray, steps: int, ends: np.ndarray) -> None:
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    ends[z, y, x] = _end_3d(flow, mask, scale, steps, (z, y, x))


@njit(cache=True, nogil=True)
def _end_3d(flow: np.ndarray, mask: np.ndarray, scale: np.ndarray, steps: int, start: tuple[int, int, int]) -> int:
    nz, ny, nx = mask.shape
    pz, py, px = float(start[0]), float(start[1]), float(start[2])
    oz, oy, ox = pz, py, px
    for step in range(steps):
        if step % REST == REST - 1:
            if (pz - oz) ** 2 + (py - oy) ** 2 + (px - ox) ** 2 < 1:
                break
            oz, oy, ox = pz, py, px
        k, j, i = min(int(pz), max(nz - 2, 0)), min(int(py), max(ny - 2, 0)), min(int(px), max(nx - 2, 0))
        fz, fy, fx = pz - k, py - j, px - i
        dz, dy, dx = 0.0, 0.0, 0.0
        for c in range(min(2, nz)):
            for b in range(min(2, ny)):
                near = (fz if c else 1 - fz) * (fy if b else 1 - fy)
                for a in range(min(2, nx)):
                    if mask[k + c, j + b, i + a]:
                        share = near * (fx if a else 1 - fx)
                        dz += share * flow[0, k + c, j + b, i + a]
                        dy += share * flow[1, k + c, j + b, i + a]
                        dx += share * flow[2, k + c, j + b, i + a]
        pz = min(max(pz + dz * scale[0], 0.0), nz - 1.0)
        py = min(max(py + dy * scale[1], 0.0), ny - 1.0)
        px = min(max(px + dx * scale[2], 0.0), nx - 1.0)
    return (int(pz + 0.5) * ny + int(py + 0.5)) * nx + int(px + 0.5)


@njit(cache=True, nogil=True)
def arrivals(ends: np.ndarray, counts: np.ndarray) -> None:
    """Add 1 to the count at each end (-1: none)."""
    for end in ends:
        if end >= 0:
            counts[end] += 1


@njit(cache=True, nogil=True)
def take_from_ends(ends: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Write into each voxel the id at its end; 0 where there is none."""
    for i, end in enumerate(ends):
        out[i] = ids[end] if end >= 0 else 0


def flow_errors(labels: np.ndarray, flow: np.ndarray, again: np.ndarray, n: int) -> np.ndarray:
    """Mean squared difference of two flows (ndim, (Z)YX) in each object 1..n, summed over the axes, (n,)."""
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    shape = (len(flow), *volume(labels).shape)
    _errors(volume(labels), np.ascontiguousarray(flow, np.float32).reshape(shape), again.reshape(shape), sums, counts)
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
