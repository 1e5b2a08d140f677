"""Label images at the boundary of the package: checked once, with ids that can index a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import fastremap
import numpy as np

from morula.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LARGEST_ID = 2**32 - 1
_TABLE = 1 << 22  # a table of this many entries (16 MB of uint32) is cheaper than renumbering the image


def check_labels(values: ArrayLike) -> np.ndarray:
    """Check a label image and return it as uint32.

    Args:
        values: array (Z)YX of whole, non-negative ids up to 4,294,967,295; 0 is background. Floats with whole values are accepted.

    Returns:
        C-contiguous uint32 array of the same shape; the input itself where it is one already.

    Raises:
        DataError: for other dimensions than 2 or 3, an empty array, or values that are not ids.

    Examples:
        >>> check_labels([[0, 3]]).dtype
        dtype('uint32')
        >>> check_labels([[0.5, 1]])
        Traceback (most recent call last):
        morula.core.errors.DataError: labels = 0.5: ids are whole numbers. Give the label image, not an intensity image.
    """
    array = np.asarray(values)
    if array.ndim not in (2, 3):
        raise DataError("labels.dimensions", f"have shape {array.shape}; 2 (YX) or 3 (ZYX) dimensions are expected", key="labels")
    if array.size == 0:
        raise DataError("labels.empty", f"have shape {array.shape}; every axis must be at least one voxel long", key="labels")
    if array.dtype.kind == "f":
        _check_whole(array)
    elif array.dtype.kind not in "biu":
        remedy = "Convert them to an integer type."
        raise DataError("labels.type", f"have values of type {array.dtype}; ids are whole numbers", key="labels", remedy=remedy)
    if array.dtype.kind in "if" and array.min() < 0:
        remedy = "Relabel them, or set these voxels to 0."
        raise DataError("labels.negative_id", "ids are 0 (background) or positive", key="labels", value=array.min().item(), remedy=remedy)
    # only these types hold larger numbers; the maximum of a large image is not computed for nothing
    if array.dtype.itemsize >= 4 and array.dtype != np.uint32 and array.max() > LARGEST_ID:
        remedy = "Relabel them to consecutive ids."
        raise DataError("labels.large_id", f"ids go up to {LARGEST_ID}", key="labels", value=int(array.max()), remedy=remedy)
    return np.ascontiguousarray(array, dtype=np.uint32)


def _check_whole(array: np.ndarray) -> None:
    """Raise for floats that are not whole numbers."""
    if not np.isfinite(array).all():
        remedy = "Set these voxels to 0."
        raise DataError("labels.not_finite", "hold NaN or infinity; ids are whole numbers", key="labels", remedy=remedy)
    broken = array != np.floor(array)  # exact: a label image that was interpolated is to be found, however small the fractions
    if broken.any():
        remedy = "Give the label image, not an intensity image."
        raise DataError("labels.fraction", "ids are whole numbers", key="labels", value=array[broken][0].item(), remedy=remedy)


def compact_ids(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels whose largest id is small enough to index a table, and that id.

    Args:
        labels: uint32 label image, not empty.

    Returns:
        The labels themselves if their ids are small already, else labels with ids renumbered from 1 (order of first occurrence).

    Examples:
        >>> compact_ids(np.array([[0, 2**31, 7]], np.uint32))
        (array([[0, 1, 2]], dtype=uint32), 2)
    """
    largest = int(labels.max())
    if largest <= _TABLE:
        return labels, largest
    renumbered, table = fastremap.renumber(labels, preserve_zero=True, in_place=False)
    return renumbered.astype(np.uint32, copy=False), int(max(table.values()))


def smallest_type(largest: int) -> type[np.unsignedinteger]:
    """Smallest unsigned type, uint16 at least, that holds the id `largest`.

    Examples:
        >>> smallest_type(300).__name__, smallest_type(70_000).__name__
        ('uint16', 'uint32')
    """
    return np.uint16 if largest < 2**16 else np.uint32


def as_volume(array: np.ndarray) -> np.ndarray:
    """A 2D array as a volume of one plane (a view), a 3D array unchanged: kernels are written once, for three axes.

    Examples:
        >>> as_volume(np.zeros((4, 5))).shape
        (1, 4, 5)
    """
    return array[None] if array.ndim == 2 else array


def read_only(array: np.ndarray) -> np.ndarray:
    """A C-contiguous view that cannot be written to, of arrays that kernels only read.

    Numba compiles a kernel once per type of its arguments, and arrays that can be written to are another type than those that cannot
    (memory maps, for example). With this view one compiled version serves both.

    Examples:
        >>> read_only(np.zeros(2)).flags.writeable
        False
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def to_3d(values: Sequence[float], missing: float) -> np.ndarray:
    """One number per axis of a 2D or 3D image as three numbers; `missing` is that of the z axis of a 2D image.

    Examples:
        >>> to_3d((2.0, 0.5), 1.0)
        array([1. , 2. , 0.5])
    """
    return np.array([missing] * (3 - len(values)) + list(values), np.float64)


def rows_to_3d(rows: np.ndarray) -> np.ndarray:
    """Indices or offsets (n, ndim) of a 2D or 3D image as (n, 3) int64; z is 0 in 2D.

    Examples:
        >>> rows_to_3d(np.array([[4, 5], [-1, 0]]))
        array([[ 0,  4,  5],
               [ 0, -1,  0]])
    """
    out = np.zeros((len(rows), 3), np.int64)
    out[:, 3 - rows.shape[1] :] = rows
    return out
