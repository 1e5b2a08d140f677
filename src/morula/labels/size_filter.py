"""Removal of objects that are too small or too large."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from morula.core.errors import OptionError
from morula.core.label_image import check_labels, compact_ids
from morula.kernels.geometry import voxel_counts
from morula.kernels.object_tables import select_objects


def remove_small(labels: ArrayLike, size: int) -> np.ndarray:
    """Labels without the objects of fewer than `size` voxels; ids and data type stay the same.

    Examples:
        >>> remove_small(np.array([[1, 1, 0, 2]], np.uint16), 2)
        array([[1, 1, 0, 0]], dtype=uint16)

    Raises:
        OptionError: for a negative size.
    """
    return _kept(labels, size, lambda sizes: sizes >= size)


def remove_large(labels: ArrayLike, size: int) -> np.ndarray:
    """Labels without the objects of more than `size` voxels; ids and data type stay the same.

    Examples:
        >>> remove_large(np.array([[1, 1, 0, 2]], np.uint16), 1)
        array([[0, 0, 0, 2]], dtype=uint16)

    Raises:
        OptionError: for a negative size.
    """
    return _kept(labels, size, lambda sizes: sizes <= size)


def _kept(labels: ArrayLike, size: int, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if size < 0:
        raise OptionError("refinement.negative", "must be 0 or more voxels", key="size", value=size)
    array = np.ascontiguousarray(labels)
    ids, largest = compact_ids(check_labels(array))
    out = np.zeros_like(array)
    select_objects(array.ravel(), ids.ravel(), rule(voxel_counts(ids, largest)), out.ravel())
    return out
