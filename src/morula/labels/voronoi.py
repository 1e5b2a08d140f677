"""Voronoi tessellation of a mask by its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image_like import ImageLike, spatial_array
from morula.core.label_image import check_labels, compact_ids
from morula.core.voxel_size import VoxelSizeLike
from morula.kernels.geometry import geometry
from morula.kernels.object_tables import original_ids
from morula.labels.centroids import inner_centroids
from morula.labels.partial_labels import nearest_labels

Nearest = Literal["centroid", "object"]


def voronoi(labels: ImageLike, mask: ImageLike, *, nearest: Nearest = "centroid", voxel_size: VoxelSizeLike = None) -> np.ndarray:
    """Labels that cover a mask without gaps: each voxel of the mask gets the id of the nearest object, voxels outside become background.

    Args:
        labels: ids (Z)YX, an array or `Image`; without any object nothing is covered.
        mask: (Z)YX bool, an array or `Image`.
        nearest: ``centroid``: each voxel gets the object whose centre is nearest (see `inner_centroids`), even if it belonged to another
            object; ``object``: objects keep their voxels, the others get the nearest object.
        voxel_size: edge lengths of a voxel; those of the image where left out, else 1.

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
        raise OptionError("option.choice", f"must be one of {', '.join(get_args(Nearest))}", key="nearest", value=nearest)
    given, spacing = spatial_array(labels, voxel_size)
    covered = np.asarray(spatial_array(mask)[0], np.bool_)
    if covered.shape != given.shape:
        raise DataError("labels.mask_shape", f"must have the shape of the labels, {given.shape}", key="mask", value=covered.shape)
    array = np.ascontiguousarray(given)
    ids, largest = compact_ids(check_labels(array))
    names = original_ids(array, ids, largest)
    # with single voxels as seeds, sizes of objects have no influence
    seeds = ids if nearest == "object" else _centres(ids, largest, spacing)
    found = nearest_labels(seeds, seeds == 0, spacing)
    found[~covered] = 0
    return names[found]


def _centres(ids: np.ndarray, largest: int, spacing: Sequence[float]) -> np.ndarray:
    found = geometry(ids, largest)
    seeds = np.zeros_like(ids)
    seeds[tuple(inner_centroids(ids, found, spacing).T)] = found.ids
    return seeds
