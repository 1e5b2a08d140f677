"""The check of label images at the door, and compact ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastremap
import numpy as np

from morula.core.errors import DataError

LARGEST_ID = 2**32 - 1
_TABLE = 1 << 22  # ids up to here index tables directly


def check_labels(values: Any) -> np.ndarray:
    """Label image as uint32, after it was checked: whole, non-negative ids up to 4,294,967,295; 2D or 3D, not empty.

    Raises:
        DataError: for anything else.

    Examples:
        >>> check_labels([[0, 3]]).dtype
        dtype('uint32')
        >>> check_labels([[0.5, 1]])
        Traceback (most recent call last):
        morula.core.errors.DataError: labels hold the fraction 0.5; ids are whole numbers. Give the label image, not an intensity image.
    """
    array = np.asarray(values)
    if array.ndim not in (2, 3):
        raise DataError(f"labels have shape {array.shape}; 2 (YX) or 3 (ZYX) dimensions are expected here.")
    if array.size == 0:
        raise DataError(f"labels of shape {array.shape} are empty; every axis must be at least one voxel long.")
    if array.dtype.kind == "f":
        _check_whole(array)
    elif array.dtype.kind not in "biu":
        raise DataError(f"labels have values of type {array.dtype}; ids are whole numbers. Convert them to an integer type.")
    if array.dtype.kind in "if" and array.min() < 0:
        raise DataError(f"labels hold the id {array.min()}; ids are 0 (background) or positive. Relabel them or set these voxels to 0.")
    if array.dtype.itemsize >= 4 and array.dtype != np.uint32 and array.max() > LARGEST_ID:
        raise DataError(f"labels hold the id {array.max()}; ids go up to {LARGEST_ID}. Relabel them to consecutive ids.")
    return np.ascontiguousarray(array, dtype=np.uint32)


def _check_whole(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise DataError("labels hold NaN or infinity; ids are whole numbers. Set these voxels to 0.")
    broken = array != np.floor(array)
    if broken.any():
        raise DataError(
            f"labels hold the fraction {array[broken][0]:g}; ids are whole numbers. Give the label image, not an intensity image."
        )


def compact_ids(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels whose largest id is small enough to index a table, and that id; ids stay as they are where they already are.

    Examples:
        >>> compact_ids(np.array([[0, 2**31, 7]], np.uint32))
        (array([[0, 1, 2]], dtype=uint32), 2)
    """
    largest = int(labels.max())
    if largest <= _TABLE:
        return labels, largest
    renumbered, table = fastremap.renumber(labels, preserve_zero=True, in_place=False)
    return renumbered.astype(np.uint32, copy=False), int(max(table.values()))


def smallest_type(largest: int) -> type[np.unsignedinteger[Any]]:
    """Smallest unsigned type that holds an id, uint16 at least.

    Examples:
        >>> smallest_type(300).__name__, smallest_type(70_000).__name__
        ('uint16', 'uint32')
    """
    return np.uint16 if largest < 2**16 else np.uint32


def as_volume(array: np.ndarray) -> np.ndarray:
    """A 2D array as one plane of a 3D one (a view), a 3D array as it is: kernels are written once, for three axes."""
    return array[None] if array.ndim == 2 else array


def to_3d(values: Sequence[float], missing: float) -> np.ndarray:
    """One number an axis as three, `missing` standing for the z axis of a 2D image.

    Examples:
        >>> to_3d((2.0, 0.5), 1.0)
        array([1. , 2. , 0.5])
    """
    return np.array([missing] * (3 - len(values)) + list(values), np.float64)
