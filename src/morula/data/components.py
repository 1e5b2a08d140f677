"""Masks as label images: each connected component becomes an object."""

from __future__ import annotations

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.lazy import time_points


def connected(labels: Image) -> Image:
    """One id for each connected component of voxels with the same value, for masks and labels of classes.

    Voxels are connected by their faces; ids follow the first voxels of the components. Each time point has its own. The image is read.

    Raises:
        DataError: for an image with several channels.

    Examples:
        >>> np.asarray(connected(Image(np.array([[255, 255, 0, 255, 2]]), "YX"))).tolist()
        [[1, 1, 0, 2, 3]]
    """
    points = time_points(labels)
    if len(points) > 1:
        found = np.stack([np.asarray(connected(point)) for point in points])
        return Image(found, Axes(f"T{labels.axes.spatial_axes}"), labels.voxel_size, labels.source)
    values = points[0].canonical()
    if len(values) != 1:
        rule = f"has {len(values)} channels, but masks have one"
        raise DataError("labels.channels", rule, file=labels.source, remedy="Save the mask as one channel, or name the channel.")
    return Image(_components(values[0], 1), labels.axes.spatial_axes, labels.voxel_size, labels.source)


def separate_parts(labels: np.ndarray) -> np.ndarray:
    """Labels (Z)YX in which parts of an object that share no face, edge or corner are different objects.

    Examples:
        >>> separate_parts(np.array([[7, 7, 0, 7, 2]]))
        array([[1, 1, 0, 2, 3]], dtype=uint32)
    """
    return _components(labels, labels.ndim)


def _components(labels: np.ndarray, connectivity: int) -> np.ndarray:
    from skimage.measure import label

    found: np.ndarray = label(labels, connectivity=connectivity).astype(np.uint32)
    return found
