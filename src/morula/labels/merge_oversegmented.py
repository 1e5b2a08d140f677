"""Merging of large objects that were over-segmented.

The border between two parts of one object is long compared with their size, the border between two real objects is short::

     _______          _____ _____
    /   |   \\        /     V     \\       left: border as long as the parts are wide  -> merged
    \\___|___/        \\_____A_____/       right: short border                        -> two objects

Objects are nodes of a graph, borders its edges; in rounds, all edges that fulfil the rule are contracted, until none does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula import kernels
from morula.core.errors import OptionError
from morula.core.image_like import ImageLike, spatial_array
from morula.core.label_image import as_volume, check_labels, compact_ids, to_3d
from morula.core.voxel_size import VoxelSizeLike
from morula.kernels.geometry import voxel_counts
from morula.kernels.object_tables import original_ids
from morula.labels.holes import fill_holes


def repair_large(labels: ImageLike, size: int, *, contact: float = 0.8, voxel_size: VoxelSizeLike = None) -> np.ndarray:
    """Labels whose large objects are merged from their parts, with holes filled.

    A neighbour of a large object is merged with it when their border is at least `contact` times the side of a square (3D: the face of a
    cube) with the size of the smaller one. That ratio is 1.6 for the halves of a disc, 3.5 for a part inside it, 0.6 for the cells of a
    honeycomb. Merging is repeated until nothing changes; the largest part gives its id. Then the holes of the large objects are filled.

    Args:
        labels: ids (Z)YX, an array or `Image`.
        size: voxels above which an object is large; more than objects usually have, so that only these and their neighbours are considered.
        contact: relative length of a border above which two parts are merged, see above.
        voxel_size: edge lengths of a voxel; those of the image where left out, else 1.

    Returns:
        Labels of the same data type.

    Raises:
        OptionError: for a size or contact below 0.

    Examples:
        >>> cut = np.zeros((6, 8), np.uint16)
        >>> cut[1:5, 1:4], cut[1:5, 4:7] = 1, 2
        >>> np.unique(repair_large(cut, 10))
        array([0, 1], dtype=uint16)
        >>> np.unique(repair_large(cut, 20))
        array([0, 1, 2], dtype=uint16)
    """
    if size < 0 or contact < 0:
        raise OptionError("refinement.negative", "size and contact must be 0 or more", key="size, contact", value=(size, contact))
    given, spacing = spatial_array(labels, voxel_size)
    array = np.ascontiguousarray(given)
    ids, largest = compact_ids(check_labels(array))
    names = original_ids(array, ids, largest)
    sizes = voxel_counts(ids, largest)
    sizes[0] = 0  # the background is never large
    first, second, areas = kernels.contacts.contacts(as_volume(ids), _faces(spacing))
    group = _merged(first, second, areas, sizes, size, contact, float(np.prod(spacing)), len(spacing))
    table = names[_heads(group, sizes, names)]
    table[0] = 0
    # without a merge the labels need no table; the copy keeps the promise that nothing is modified
    out = table[ids] if (group != np.arange(len(group))).any() else array.copy()
    totals = np.bincount(group, weights=sizes, minlength=len(group))[group]
    large = (sizes > 0) & (totals >= size)
    return fill_holes(out, only=np.unique(table[large]))


def _faces(spacing: Sequence[float]) -> np.ndarray:
    """Area of a voxel's face across z, y and x; in 2D an edge's length."""
    lengths = to_3d(spacing, 1.0)
    return lengths.prod() / lengths


def _merged(
    first: np.ndarray, second: np.ndarray, areas: np.ndarray, sizes: np.ndarray, size: int, contact: float, voxel: float, ndim: int
) -> np.ndarray:
    """Group of each id after all merges."""
    from scipy.sparse import coo_array  # slow to import, and listing refinements imports this module
    from scipy.sparse.csgraph import connected_components

    n = len(sizes)
    group = np.arange(n)
    while len(first):
        totals = np.bincount(group, weights=sizes, minlength=n)
        low, high = np.sort(np.stack([group[first], group[second]]), axis=0)
        # borders inside a merged group no longer count
        apart = low != high
        pairs, inverse = np.unique(low[apart] * n + high[apart], return_inverse=True)
        seen = [np.bincount(inverse, weights=areas[apart, axis], minlength=len(pairs)) for axis in range(3)]
        borders = np.sqrt(np.sum(np.square(seen), axis=0))  # the area of a flat border of any orientation
        one, two = pairs // n, pairs % n
        # the side of a square, or the face of a cube, with the size of the smaller part
        side = (np.minimum(totals[one], totals[two]) * voxel) ** ((ndim - 1) / ndim)
        chosen = (borders >= contact * side) & (np.maximum(totals[one], totals[two]) >= size)
        if not chosen.any():
            break
        # all edges of a round at once: the result does not depend on the order of the ids
        graph = coo_array((np.ones(chosen.sum()), (one[chosen], two[chosen])), shape=(n, n))
        component = connected_components(graph, directed=False)[1]
        group = component[group]
    return group


def _heads(group: np.ndarray, sizes: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The largest part of each id's group; among equal ones that with the lowest id."""
    order = np.lexsort((-names.astype(np.int64), sizes))
    head = np.zeros(len(group), np.intp)
    head[group[order]] = order
    return head[group]
