"""Voronoi tessellation of a mask by its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numba import njit

from morula.core.errors import DataError, OptionError
from morula.core.image import spatial_array
from morula.core.voxel_size import VoxelSizeLike
from morula.labels.centroids import inner_centroids
from morula.labels.check import check_labels, compact, three, volume
from morula.labels.geometry import geometry

Nearest = Literal["centroid", "object"]


def voronoi(labels: Any, mask: Any, *, nearest: Nearest = "centroid", voxel_size: VoxelSizeLike = None) -> np.ndarray:
    """Labels that cover a mask without gaps: each of its voxels belongs to the nearest object, and no object reaches beyond it.

    Args:
        labels: ids (Z)YX, an array or `Image`; without any object nothing is covered.
        mask: (Z)YX bool, an array or `Image`.
        nearest: ``centroid``: each voxel goes to the object whose centre is nearest (the voxel at the centroid, or the object's nearest to
            it), also voxels of other objects; ``object``: objects keep their voxels, the rest goes to the nearest of any of them.
        voxel_size: edge lengths of a voxel; an image's own when left out, else 1.

    Returns:
        Labels of the same type.

    Raises:
        DataError: when the shapes differ.
        OptionError: for another `nearest`.

    Examples:
        >>> labels = np.array([[1, 1, 1, 1, 1, 1, 0, 5]], np.uint16)
        >>> mask = np.array([[0, 1, 1, 1, 1, 1, 1, 1]], bool)
        >>> voronoi(labels, mask)
        array([[0, 1, 1, 1, 1, 5, 5, 5]], dtype=uint16)
        >>> voronoi(labels, mask, nearest="object")
        array([[0, 1, 1, 1, 1, 1, 1, 5]], dtype=uint16)
    """
    if nearest not in get_args(Nearest):
        raise OptionError(f"nearest is {nearest!r}; use one of {', '.join(get_args(Nearest))}.")
    given, spacing = spatial_array(labels, voxel_size)
    covered = np.asarray(spatial_array(mask)[0], np.bool_)
    if covered.shape != given.shape:
        raise DataError(f"the labels have shape {given.shape} but the mask has {covered.shape}. Give the mask of these labels.")
    array = np.ascontiguousarray(given)
    ids, largest = compact(check_labels(array))
    names = np.zeros(largest + 1, array.dtype)
    names[ids.ravel()] = array.ravel()
    seeds = ids if nearest == "object" else _centres(ids, largest, spacing)
    found = nearest_ids(seeds, spacing)
    found[~covered] = 0
    return names[found]


def _centres(ids: np.ndarray, largest: int, spacing: Sequence[float]) -> np.ndarray:
    found = geometry(ids, largest)
    seeds = np.zeros_like(ids)
    seeds[tuple(inner_centroids(ids, found, spacing).T)] = found.ids
    return seeds


def nearest_ids(seeds: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Id of the nearest voxel that has one, (Z)YX uint32; 0 everywhere without any. Of two as near, the lower coordinates win.

    One pass an axis over lower envelopes of parabolas (Felzenszwalb & Huttenlocher 2012), linear in the number of voxels.

    Examples:
        >>> nearest_ids(np.array([[3, 0, 0, 0, 8]], np.uint32), (1, 1))
        array([[3, 3, 3, 8, 8]], dtype=uint32)
    """
    out = np.ascontiguousarray(seeds, np.uint32).copy()
    distances = np.where(out > 0, np.float32(0), np.float32(np.inf))
    lengths = three(spacing, 1.0)
    ids, squared = volume(out), volume(distances)
    for axis in (2, 1, 0):
        if ids.shape[axis] > 1:
            _pass(np.moveaxis(ids, axis, 2), np.moveaxis(squared, axis, 2), lengths[axis] ** 2)
    return out


@njit(cache=True, nogil=True)
def _pass(ids: np.ndarray, squared: np.ndarray, weight: float) -> None:
    """Nearest along the last axis, in place: `squared` holds the squared distance to what `ids` names."""
    na, nb, n = ids.shape
    where, label, height = np.zeros(n, np.int64), np.zeros(n, np.uint32), np.zeros(n, np.float64)
    start = np.zeros(n + 1, np.float64)
    for a in range(na):
        for b in range(nb):
            count = 0
            for x in range(n):
                if ids[a, b, x] == 0:
                    continue
                value = np.float64(squared[a, b, x])
                begin = -np.inf
                while count > 0:
                    begin = (value - height[count - 1]) / (2 * weight * (x - where[count - 1])) + (x + where[count - 1]) / 2
                    if begin > start[count - 1]:
                        break
                    count -= 1
                start[count] = begin if count > 0 else -np.inf
                where[count], label[count], height[count] = x, ids[a, b, x], value
                count += 1
            if count == 0:
                continue
            start[count] = np.inf
            k = 0
            for x in range(n):
                while start[k + 1] < x:
                    k += 1
                ids[a, b, x] = label[k]
                squared[a, b, x] = height[k] + weight * (x - where[k]) ** 2
