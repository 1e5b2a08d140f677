"""Peaks of a landscape that valleys part: one seed an object."""

from __future__ import annotations

import numpy as np
from numba import njit

from morula.kernels.components import connected_components
from morula.kernels.object_tables import object_maxima
from morula.kernels.watershed import quantised, steps


def relative_h_maxima(height: np.ndarray, mask: np.ndarray, depth: float, *, connectivity: int = 1) -> tuple[np.ndarray, int]:
    """Regions of a mask that valleys of a landscape part.

    Water sinks from the highest voxel on. Two regions that meet become one when the pass between them is less than the share `depth`
    below the lower of their peaks; else they stay two, and the voxels where they meet belong to none. So every region has a peak, and
    no region has a valley deeper than `depth`: h-maxima with a relative height (Soille, Morphological Image Analysis, chapter 6).

    Args:
        height: landscape (Z)YX float, not negative where it matters (values below 0 count as 0).
        mask: (Z)YX bool.
        depth: share of the lower peak, between 0 (every peak by itself) and 1 (connected pieces of the mask).
        connectivity: 1 for faces, 2 for edges, 3 for corners.

    Returns:
        Ids (Z)YX uint32 from 1 on, 0 in valleys and outside the mask; and their number.

    Examples:
        >>> row = np.array([[0, 4, 5, 4.5, 5, 2, 3, 0]], np.float32)
        >>> relative_h_maxima(row, row > 0, 0.2)
        (array([[0, 1, 1, 1, 1, 0, 2, 0]], dtype=uint32), 2)
    """
    padded = tuple(n + 2 for n in mask.shape)
    inner = (slice(1, -1),) * mask.ndim
    levels = np.zeros(padded, np.uint16)
    levels[inner] = quantised(height, mask, lowest=0.0)
    # where the pass is higher than the share of the highest peak of all, regions that touch are one: no need to sink there step by step
    summits = mask & (levels[inner] >= (1 - depth) * int(levels.max()))
    tops, made = connected_components(summits, connectivity)
    peaks = object_maxima(tops, levels[inner], made) * np.float32(1 - depth)
    ids = np.zeros(padded, np.int32)
    ids[inner] = tops
    rest = np.zeros(padded, np.bool_)
    np.greater(mask, summits, out=rest[inner])
    order = _descending(levels.ravel(), rest.ravel())
    strides = np.array([np.prod(padded[axis + 1 :], dtype=np.int64) for axis in range(mask.ndim)], np.int64)
    neighbours = (steps(mask.ndim, connectivity) @ strides).astype(np.int64)
    number = _sink(levels.ravel(), order, neighbours, 1 - depth, peaks, ids.ravel())
    return ids[inner].astype(np.uint32), number


@njit(cache=True, nogil=True)
def _descending(levels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Indices of the mask's voxels from the highest level to the lowest, in array order within a level."""
    starts = np.zeros(65_537, np.int64)
    for i in range(levels.size):
        if inside[i]:
            starts[65_536 - np.int64(levels[i])] += 1
    for level in range(65_536):
        starts[level + 1] += starts[level]
    order = np.empty(starts[65_536], np.int64)
    for i in range(levels.size):
        if inside[i]:
            slot = 65_535 - np.int64(levels[i])
            order[starts[slot]] = i
            starts[slot] += 1
    return order


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(cache=True, nogil=True)
def _meet(roots: np.ndarray, count: int, level: float, peaks: np.ndarray, parent: np.ndarray) -> int:
    """Join those of the regions that no valley parts; the region that is left, or -1 where there are several."""
    for i in range(1, count):
        for j in range(i):
            a, b = _root(parent, roots[i]), _root(parent, roots[j])
            if a != b and level >= min(peaks[a], peaks[b]):
                low, high = min(a, b), max(a, b)
                parent[high] = low
                peaks[low] = max(peaks[low], peaks[high])
    left = _root(parent, roots[0])
    for i in range(1, count):
        if _root(parent, roots[i]) != left:
            return -1
    return left


@njit(cache=True, nogil=True)
def _sink(  # noqa: C901 - the loop over sinking water
    levels: np.ndarray, order: np.ndarray, neighbours: np.ndarray, share: float, summits: np.ndarray, ids: np.ndarray
) -> int:
    """Let `ids`, the summits 1..m, grow into regions 1..n, and return n. `peaks` (of the summits: `summits`) is the height down to which a
    region joins others."""
    made = summits.size
    parent = np.arange(order.size + made + 1).astype(np.int32)
    peaks = np.zeros(order.size + made + 1, np.float32)
    peaks[1 : made + 1] = summits
    roots = np.zeros(len(neighbours), np.int64)
    for i in range(order.size):
        voxel, count, sunk = order[i], 0, False
        for step in neighbours:
            label = ids[voxel + step]
            if label > 0:
                root = _root(parent, label)
                if count == 0 or root != roots[count - 1]:
                    roots[count] = root
                    count += 1
            elif label < 0:
                sunk = True
        if count == 1:
            ids[voxel] = roots[0]
        elif count > 1:
            ids[voxel] = _meet(roots, count, levels[voxel], peaks, parent)
        elif sunk:
            ids[voxel] = -1
        else:
            made += 1
            peaks[made] = share * levels[voxel]
            ids[voxel] = made
    number = 0
    table = np.zeros(made + 1, np.int32)
    for label in range(1, made + 1):
        root = _root(parent, label)
        if root == label:
            number += 1
            table[label] = number
        else:
            table[label] = table[root]
    for i in range(ids.size):
        ids[i] = table[ids[i]] if ids[i] > 0 else 0
    return number
