"""Relative h-maxima: one seed per object, where valleys of an image separate the objects.

An h-maximum is a peak that rises at least h above the passes to higher peaks. Networks predict objects with different certainty, so that
one h for all is either too high for dim objects or too low for bright ones. Here h is a share of the peak itself::

    height
      5 |    /\\        /\\                 depth 0.2: the pass at 4.5 is not 20 % below the lower peak,
    4.5 |   /  \\______/  \\    __          so that the two peaks at 5 are one region; the pass at 2 is,
      3 |  /              \\  /  \\         so that the peak at 3 is a region of its own
      2 | /                \\/    \\
          1 1 1 1 1 1 1 1 1 . 2 2 2

Voxels are visited from the highest to the lowest. A voxel beside one region joins it; a voxel beside none starts a region; a voxel beside
several merges those of which the lower peak is not deep enough, else it is a valley and stays 0. A disjoint-set forest keeps the regions.
So every region has a peak, and no region contains a valley deeper than its share.

Which regions are merged depends on values only, not on the extent of the image: heights are sorted exactly (a radix sort of the bits of
the floats), never scaled to the largest one. Complexity: linear in the number of voxels.

Source: Soille, Morphological Image Analysis (2004), chapter 6; the relative height is our addition.
"""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit
from morula.kernels.components import connected_components
from morula.kernels.object_tables import object_maxima
from morula.kernels.watershed import neighbour_offsets

_HALF = 65_536


def relative_h_maxima(height: np.ndarray, mask: np.ndarray, depth: float, *, connectivity: int = 1) -> tuple[np.ndarray, int]:
    """Regions of a mask that are separated by valleys of an image.

    Args:
        height: (Z)YX float; values below 0 count as 0.
        mask: (Z)YX bool.
        depth: share of the lower peak by which a valley has to be deeper, from 0 (every peak separately) to 1 (connected components).
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
    levels = np.zeros(padded, np.float32)
    # adding 0 turns a negative zero into a positive one: the sort compares bits
    np.add(np.maximum(np.where(mask, height, 0), 0), 0, out=levels[inner], casting="same_kind")
    # Above the share of the highest peak of all, regions that touch are one whatever their peaks: connected components find them at once.
    summits = mask & (levels[inner] >= np.float32(1 - depth) * levels.max())
    tops, number = connected_components(summits, connectivity)
    peaks = object_maxima(tops, levels[inner], number) * np.float32(1 - depth)
    ids = np.zeros(padded, np.int32)
    ids[inner] = tops
    # summits are regions already; only the other voxels are visited one by one
    rest = np.zeros(padded, np.bool_)
    np.greater(mask, summits, out=rest[inner])
    order = _descending(levels.view(np.uint32).ravel(), rest.ravel())
    strides = np.array([np.prod(padded[axis + 1 :], dtype=np.int64) for axis in range(mask.ndim)], np.int64)
    neighbours = (neighbour_offsets(mask.ndim, connectivity) @ strides).astype(np.int64)
    number = _descend(levels.ravel(), order, neighbours, 1 - depth, peaks, ids.ravel())
    return ids[inner].astype(np.uint32), number


@njit(cache=True, nogil=True)
def _descending(bits: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Indices of the mask's voxels from the highest value to the lowest, in array order among equal values.

    The bits of floats that are not negative are in the order of their values. Two passes of a counting sort, first by the lower and then by
    the upper 16 bits; both are stable.
    """
    lower, upper = np.zeros(_HALF + 1, np.int64), np.zeros(_HALF + 1, np.int64)
    for i in range(bits.size):
        if inside[i]:
            lower[_HALF - np.int64(bits[i] & np.uint32(0xFFFF))] += 1
            upper[_HALF - np.int64(bits[i] >> np.uint32(16))] += 1
    for level in range(_HALF):
        lower[level + 1] += lower[level]
        upper[level + 1] += upper[level]
    by_lower, order = np.empty(lower[_HALF], np.int64), np.empty(lower[_HALF], np.int64)
    for i in range(bits.size):
        if inside[i]:
            slot = _HALF - 1 - np.int64(bits[i] & np.uint32(0xFFFF))
            by_lower[lower[slot]] = i
            lower[slot] += 1
    for i in by_lower:
        slot = _HALF - 1 - np.int64(bits[i] >> np.uint32(16))
        order[upper[slot]] = i
        upper[slot] += 1
    return order


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, region: int) -> int:
    """Representative of a region; paths are halved on the way."""
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = parent[region]
    return region


@njit(cache=True, nogil=True)
def _merge(roots: np.ndarray, count: int, level: float, peaks: np.ndarray, parent: np.ndarray) -> int:
    """Merge the regions that no valley separates; returns the region that is left, or -1 where there are several."""
    for i in range(1, count):
        for j in range(i):
            a, b = _root(parent, roots[i]), _root(parent, roots[j])
            # peaks hold the share below the peak, so that the pass itself is compared
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
def _descend(  # noqa: C901 - one loop over the voxels
    levels: np.ndarray, order: np.ndarray, neighbours: np.ndarray, share: float, summits: np.ndarray, ids: np.ndarray
) -> int:
    """Grow the regions `ids`, the summits 1..m, over the voxels in `order`; returns their number n, ids are then 1..n.

    `peaks` holds per region the height down to which it merges with others; `summits` are those of the regions 1..m. -1 marks valleys.
    """
    made = summits.size
    parent = np.arange(order.size + made + 1).astype(np.int32)
    peaks = np.zeros(order.size + made + 1, np.float32)
    peaks[1 : made + 1] = summits
    roots = np.zeros(len(neighbours), np.int64)
    for i in range(order.size):
        voxel, count, beside_valley = order[i], 0, False
        for offset in neighbours:
            label = ids[voxel + offset]
            if label > 0:
                root = _root(parent, label)
                if count == 0 or root != roots[count - 1]:
                    roots[count] = root
                    count += 1
            elif label < 0:
                beside_valley = True
        if count == 1:
            ids[voxel] = roots[0]
        elif count > 1:
            ids[voxel] = _merge(roots, count, levels[voxel], peaks, parent)
        elif beside_valley:
            ids[voxel] = -1  # a valley continues; a region that starts here would have no peak
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
