"""Boxes of images that may be lazy, and the cache of decoded images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.region import Region


def crop(image: Image, region: Region) -> np.ndarray:
    """The values of a box of an image as C(Z)YX; only this box is read. The box lies inside the image.

    Examples:
        >>> image = Image(np.arange(12).reshape(4, 3), "YX")
        >>> crop(image, Region((1, 0), (3, 2)))
        array([[[3, 4],
                [6, 7]]])
    """
    return image.lazy()[(slice(None), *region.slices)]


def check_region(image: Image, region: Region, name: str) -> None:
    """Check that a box is inside the image.

    Raises:
        DataError: when it is not.
    """
    if any(a < 0 or b > n or a >= b for a, b, n in zip(region.start, region.stop, image.spatial_shape, strict=True)):
        raise DataError(
            "region.outside",
            f"the region must be inside the image, which has {image.spatial_shape} voxels",
            key="region",
            value=(region.start, region.stop),
            file=name,
        )


def cache_in_memory(images: Sequence[Image], limit: int) -> list[Image]:
    """Load images into memory, in order, as long as they fit into `limit` bytes together; the others stay lazy.

    Images whose data are NumPy arrays already do not count.
    """
    used = 0
    result = []
    for image in images:
        size = int(np.prod(image.shape, dtype=np.int64)) * image.dtype.itemsize
        # arrays in memory need no copy
        if not isinstance(image.data, np.ndarray) and used + size <= limit:
            used += size
            image = Image(np.asarray(image), image.axes, image.voxel_size, image.source)
        result.append(image)
    return result
