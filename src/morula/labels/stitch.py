"""Objects of neighbouring slices joined to 3D objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from morula.core.errors import DataError, OptionError
from morula.core.label_image import check_labels, smallest_type


def stitch(labels: ArrayLike, threshold: float = 0.25) -> np.ndarray:
    """Join the objects of slices that were segmented one by one.

    An object of a slice and one of the next slice become one where their intersection over union is at least `threshold` and each overlaps
    no other object of its slice more than the other one (of equal ones, the lower id counts). So an object has at most one part in each
    slice::

        slice 3      333  44           333  44
        slice 2     2222222     ->    3333333       2 overlaps 3 most, so 4 stays apart
        slice 1       111              333

    Args:
        labels: ZYX; equal ids in different slices mean nothing.
        threshold: least intersection over union, above 0 and up to 1.

    Returns:
        labels ZYX with ids 1..n in the order of their first slice, then of their old ids.

    Raises:
        DataError: for other dimensions than 3.
        OptionError: for a threshold outside its range.

    Examples:
        >>> stitch(np.array([[[1, 1, 0, 2]], [[0, 7, 7, 2]]]), 0.3)
        array([[[1, 1, 0, 2]],
        <BLANKLINE>
               [[0, 1, 1, 2]]], dtype=uint16)
    """
    if not 0 < threshold <= 1:
        raise OptionError("stitch.threshold", "must be above 0 and at most 1", key="threshold", value=threshold)
    array = check_labels(labels)
    if array.ndim != 3:
        raise DataError("stitch.dimensions", "must be a stack of slices ZYX", key="labels", value=array.shape)
    ids, parts = _ids_per_slice(array)
    root = _roots(ids, parts, threshold)
    numbers = np.zeros(parts + 1, np.int64)
    starts = np.unique(root)
    numbers[starts] = np.arange(len(starts))
    return numbers[root].astype(smallest_type(len(starts) - 1))[ids]


def _ids_per_slice(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Ids 1..n that no two slices share, ascending with the slice and the old id; 0 stays. And n."""
    ids, parts = np.zeros(array.shape, np.int64), 0
    for plane, target in zip(array, ids, strict=True):
        values, inverse = np.unique(plane, return_inverse=True)
        first = int(values[0] == 0)  # the background is the lowest value where there is any
        target[...] = np.concatenate([np.zeros(first, np.int64), parts + 1 + np.arange(len(values) - first)])[inverse.reshape(plane.shape)]
        parts += len(values) - first
    return ids, parts


def _roots(ids: np.ndarray, parts: int, threshold: float) -> np.ndarray:
    """The first part of the 3D object of each part, by id; 0 of the background."""
    sizes = np.bincount(ids.ravel(), minlength=parts + 1)
    upper, lower = ids[:-1].ravel(), ids[1:].ravel()
    both = (upper > 0) & (lower > 0)
    pairs, common = np.unique(upper[both] * (parts + 1) + lower[both], return_counts=True)
    upper, lower = np.divmod(pairs, parts + 1)
    iou = common / (sizes[upper] + sizes[lower] - common)
    mutual = _best(upper, iou, lower) & _best(lower, iou, upper) & (iou >= threshold)
    root = np.arange(parts + 1)
    root[lower[mutual]] = upper[mutual]
    while (root[root] != root).any():  # each round doubles the length of the chains that are resolved
        root = root[root]
    return root


def _best(of: np.ndarray, iou: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pairs are the best ones of their object `of`."""
    order = np.lexsort((other, -iou, of))
    best = np.zeros(len(of), bool)
    first = np.ones(len(of), bool)
    first[1:] = of[order][1:] != of[order][:-1]
    best[order] = first
    return best
