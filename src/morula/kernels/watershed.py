"""Marker-controlled watershed with a bucket queue.

Voxels are flooded in the order of their height: the lowest voxel beside a basin joins that basin next. A priority queue costs a logarithm
per voxel. Here the surface has 65,536 levels, and each level has a first-in-first-out queue, a linked list through one array, so that
every operation takes constant time::

    level  0   1   2   3  ...          pop the first voxel of the lowest level, give its id to its
           |       |   |               unlabelled neighbours, append each neighbour to the queue of
           v       v   v               its own height; go back down when a neighbour is lower
          12      40   7
           |           |
           v           v
          13           9

Within a level voxels are processed in the order in which they were reached, so that two basins share a plateau evenly. The result equals
that of ``skimage.segmentation.watershed`` on the same uint16 surface; docs/decisions/0011-kernels-kept.md has the comparison.

Complexity: linear in the number of voxels. Source: Meyer, Color image segmentation (1992); Beucher and Meyer (1993).
"""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import DataError
from morula.core.label_image import read_only

LEVELS = 65_536


def quantised(surface: np.ndarray, mask: np.ndarray | None = None, *, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """A surface as uint16: the low end of the range becomes 0, the high end 65,535; values outside are clipped.

    Args:
        surface: heights.
        mask: voxels whose extreme values are the range where none is given.
        value_range: lowest and highest value. Blocks of one image need the same range to be flooded in the same order.

    Examples:
        >>> quantised(np.array([0.0, 0.5, 1.0], np.float32))
        array([    0, 32768, 65535], dtype=uint16)
    """
    surface = np.asarray(surface, np.float32)
    if value_range is None:
        inside = surface if mask is None else surface[mask]
        value_range = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    low, high = value_range
    out = np.zeros(surface.shape, np.uint16)
    if high > low:
        _quantise(read_only(surface).ravel(), np.float32(low), np.float32((LEVELS - 1) / (high - low)), out.ravel())
    return out


@njit(cache=True, nogil=True)
def _quantise(values: np.ndarray, low: np.float32, scale: np.float32, out: np.ndarray) -> None:
    for i in range(values.size):
        level = (values[i] - low) * scale + np.float32(0.5)
        out[i] = np.uint16(min(max(level, np.float32(0)), np.float32(65_535)))


def neighbour_offsets(ndim: int, connectivity: int = 1, *, in_plane: bool = False) -> np.ndarray:
    """Offsets (n, ndim) to the neighbours of a voxel, nearest first.

    Args:
        ndim: number of axes.
        connectivity: 1 for faces, 2 for edges, 3 for corners.
        in_plane: leave out the neighbours in other z planes.
    """
    offsets = np.argwhere(np.ones((3,) * ndim)) - 1
    distance = np.abs(offsets).sum(axis=1)
    kept = (distance > 0) & (distance <= connectivity)
    if in_plane and ndim == 3:
        kept &= offsets[:, 0] == 0
    return offsets[kept][np.argsort(distance[kept], kind="stable")]


def watershed(
    surface: np.ndarray,
    markers: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    connectivity: int = 1,
    by_slice: bool = False,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Flood a surface from markers: each voxel of the mask gets the id of the marker whose water reaches it first.

    Args:
        surface: heights (Z)YX, uint16 or float; floats are converted to 65,536 levels.
        markers: ids (Z)YX uint32, 0 where there is none.
        mask: voxels that may be flooded; all where left out. Markers outside are ignored.
        connectivity: 1 for faces, 2 for edges, 3 for corners.
        by_slice: flood each z plane separately (3D).
        value_range: values of a float surface that become the lowest and the highest level; those inside the mask where left out.

    Returns:
        Ids (Z)YX uint32, 0 where no marker reaches.

    Raises:
        DataError: when the shapes differ.

    Examples:
        >>> watershed(np.array([[0, 1, 3, 2, 1]], np.uint16), np.array([[1, 0, 0, 0, 2]], np.uint32))
        array([[1, 1, 1, 2, 2]], dtype=uint32)
    """
    if surface.shape != markers.shape or (mask is not None and mask.shape != markers.shape):
        shapes = [surface.shape, markers.shape] + ([] if mask is None else [mask.shape])
        raise DataError("watershed.shapes", "surface, markers and mask must have one shape", value=shapes)
    # float surfaces lose differences below 1/65,535 of their range: finer ones mean nothing in a prediction
    levels = surface if surface.dtype == np.uint16 else quantised(surface, mask, value_range=value_range)
    # a border of one voxel that is never flooded, so that neighbours need no check against the image's edges
    padded = np.full(tuple(n + 2 for n in markers.shape), _CLOSED, np.uint32)
    inner = (slice(1, -1),) * markers.ndim
    padded[inner] = markers if mask is None else np.where(mask, markers, _CLOSED)
    heights = np.zeros(padded.shape, np.uint16)
    heights[inner] = levels
    strides = np.array([np.prod(padded.shape[axis + 1 :], dtype=np.int64) for axis in range(padded.ndim)], np.int64)
    neighbours = neighbour_offsets(markers.ndim, connectivity, in_plane=by_slice) @ strides
    following = np.empty(padded.size, np.int32 if padded.size < 2**31 else np.int64)
    _flood(heights.ravel(), padded.ravel(), neighbours.astype(np.int64), following)
    result = padded[inner]
    return np.where(result == _CLOSED, np.uint32(0), result)


_CLOSED = np.uint32(2**32 - 1)


@njit(cache=True, nogil=True, inline="always")
def _push(voxel: int, level: int, head: np.ndarray, tail: np.ndarray, following: np.ndarray, used: np.ndarray) -> None:
    """Append a voxel to the queue of its level. `used` counts the non-empty queues of each block of 256 levels."""
    if head[level] < 0:
        head[level] = voxel
        used[level >> 8] += 1
    else:
        following[tail[level]] = voxel
    tail[level] = voxel
    following[voxel] = -1


@njit(cache=True, nogil=True)
def _flood(heights: np.ndarray, ids: np.ndarray, neighbours: np.ndarray, following: np.ndarray) -> None:  # noqa: C901 - the queue's inner loop
    """Flood `ids` in place; its outermost voxels are closed."""
    head, tail = np.full(65_536, np.int64(-1)), np.full(65_536, np.int64(-1))
    used = np.zeros(257, np.int64)
    used[256] = 1  # a sentinel that ends the search for the next non-empty block
    for voxel in range(ids.size):
        if ids[voxel] != 0 and ids[voxel] != _CLOSED:
            for offset in neighbours:
                if ids[voxel + offset] == 0:  # the inner voxels of a marker have nothing to flood
                    _push(voxel, heights[voxel], head, tail, following, used)
                    break
    level = 0
    while True:
        if head[level] < 0:
            # skip empty levels, whole blocks of them where possible
            block = level >> 8
            if used[block] == 0 or level & 255 == 255:
                block += used[block] == 0 or level & 255 == 255
                while used[block] == 0:
                    block += 1
                if block == 256:
                    break
                level = block << 8
            else:
                level += 1
            continue
        voxel = head[level]
        head[level] = following[voxel]
        if head[level] < 0:
            used[level >> 8] -= 1
        lowest = level
        for offset in neighbours:
            other = voxel + offset
            if ids[other] == 0:
                ids[other] = ids[voxel]
                height = int(heights[other])
                _push(other, height, head, tail, following, used)
                lowest = min(lowest, height)
        level = lowest  # water runs downhill at once
