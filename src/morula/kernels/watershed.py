"""Marker-controlled watershed, by a queue of 65,536 buckets."""

from __future__ import annotations

import numpy as np
from numba import njit

from morula.core.errors import DataError

LEVELS = 65_536


def quantised(surface: np.ndarray, mask: np.ndarray | None = None, *, lowest: float | None = None) -> np.ndarray:
    """A surface as uint16: its smallest value (in the mask), or `lowest`, becomes 0, its largest 65,535.

    Examples:
        >>> quantised(np.array([0.0, 0.5, 1.0], np.float32))
        array([    0, 32768, 65535], dtype=uint16)
    """
    surface = np.asarray(surface, np.float32)
    seen = surface if mask is None else surface[mask]
    low, high = (float(seen.min()) if lowest is None else lowest, float(seen.max())) if seen.size else (0.0, 0.0)
    out = np.zeros(surface.shape, np.uint16)
    if high > low:
        _quantise(surface.ravel(), np.float32(low), np.float32((LEVELS - 1) / (high - low)), out.ravel())
    return out


@njit(cache=True, nogil=True)
def _quantise(values: np.ndarray, low: np.float32, scale: np.float32, out: np.ndarray) -> None:
    for i in range(values.size):
        level = (values[i] - low) * scale + np.float32(0.5)
        out[i] = np.uint16(min(max(level, np.float32(0)), np.float32(65_535)))


def steps(ndim: int, connectivity: int = 1, *, in_plane: bool = False) -> np.ndarray:
    """Offsets (n, ndim) to the neighbours of a voxel, nearest first: faces (1), edges (2), corners (3); in planes: none along z."""
    offsets = np.argwhere(np.ones((3,) * ndim)) - 1
    distance = np.abs(offsets).sum(axis=1)
    kept = (distance > 0) & (distance <= connectivity)
    if in_plane and ndim == 3:
        kept &= offsets[:, 0] == 0
    return offsets[kept][np.argsort(distance[kept], kind="stable")]


def watershed(
    surface: np.ndarray, markers: np.ndarray, mask: np.ndarray | None = None, *, connectivity: int = 1, by_slice: bool = False
) -> np.ndarray:
    """Flood a surface from markers: each voxel of the mask gets the id of the marker whose water reaches it first.

    Voxels are taken by level, those of one level in the order in which water reached them, as ``skimage.segmentation.watershed`` does
    on the same uint16 surface. A float surface is brought to 65,536 levels first.

    Args:
        surface: heights (Z)YX, uint16 or float.
        markers: ids (Z)YX uint32, 0 where there is none.
        mask: where water may go; everywhere when left out. Markers outside it are dropped.
        connectivity: 1 for faces, 2 for edges, 3 for corners.
        by_slice: water never passes from one z plane to another (3D).

    Returns:
        Ids (Z)YX uint32, 0 where no water came.

    Raises:
        DataError: when the shapes differ.

    Examples:
        >>> watershed(np.array([[0, 1, 3, 2, 1]], np.uint16), np.array([[1, 0, 0, 0, 2]], np.uint32))
        array([[1, 1, 1, 2, 2]], dtype=uint32)
    """
    if surface.shape != markers.shape or (mask is not None and mask.shape != markers.shape):
        shapes = [surface.shape, markers.shape] + ([] if mask is None else [mask.shape])
        raise DataError(f"surface, markers and mask have the shapes {', '.join(map(str, shapes))}; give arrays of one shape.")
    levels = surface if surface.dtype == np.uint16 else quantised(surface, mask)
    closed = _OUTSIDE
    padded = np.full(tuple(n + 2 for n in markers.shape), closed, np.uint32)
    inner = (slice(1, -1),) * markers.ndim
    padded[inner] = markers if mask is None else np.where(mask, markers, closed)
    heights = np.zeros(padded.shape, np.uint16)
    heights[inner] = levels
    strides = np.array([np.prod(padded.shape[axis + 1 :], dtype=np.int64) for axis in range(padded.ndim)], np.int64)
    neighbours = steps(markers.ndim, connectivity, in_plane=by_slice) @ strides
    after = np.empty(padded.size, np.int32 if padded.size < 2**31 else np.int64)
    _flood(heights.ravel(), padded.ravel(), neighbours.astype(np.int64), after)
    result = padded[inner]
    return np.where(result == closed, np.uint32(0), result)


_OUTSIDE = np.uint32(2**32 - 1)


@njit(cache=True, nogil=True, inline="always")
def _push(voxel: int, level: int, head: np.ndarray, tail: np.ndarray, after: np.ndarray, filled: np.ndarray) -> None:
    """Append a voxel to the queue of its level. `filled` counts the queues in use by blocks of 256 levels."""
    if head[level] < 0:
        head[level] = voxel
        filled[level >> 8] += 1
    else:
        after[tail[level]] = voxel
    tail[level] = voxel
    after[voxel] = -1


@njit(cache=True, nogil=True)
def _flood(heights: np.ndarray, ids: np.ndarray, neighbours: np.ndarray, after: np.ndarray) -> None:  # noqa: C901 - the queue's inner loop
    """Flood `ids` in place; its outermost voxels are outside. Queues are linked lists through `after`."""
    head, tail = np.full(65_536, np.int64(-1)), np.full(65_536, np.int64(-1))
    filled = np.zeros(257, np.int64)
    filled[256] = 1
    for voxel in range(ids.size):
        if ids[voxel] != 0 and ids[voxel] != _OUTSIDE:
            for step in neighbours:
                if ids[voxel + step] == 0:  # a marker's inner voxels have nobody to flood
                    _push(voxel, heights[voxel], head, tail, after, filled)
                    break
    level = 0
    while True:
        if head[level] < 0:
            block = level >> 8
            if filled[block] == 0 or level & 255 == 255:
                block += filled[block] == 0 or level & 255 == 255
                while filled[block] == 0:
                    block += 1
                if block == 256:
                    break
                level = block << 8
            else:
                level += 1
            continue
        voxel = head[level]
        head[level] = after[voxel]
        if head[level] < 0:
            filled[level >> 8] -= 1
        lowest = level
        for step in neighbours:
            other = voxel + step
            if ids[other] == 0:
                ids[other] = ids[voxel]
                height = int(heights[other])
                _push(other, height, head, tail, after, filled)
                lowest = min(lowest, height)
        level = lowest
