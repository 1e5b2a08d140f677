"""Reflect padding of lazy arrays, for any pad width.

``numpy.pad(mode="reflect")`` needs the whole array in memory; here only the required part is read:

    index   -3 -2 -1 | 0  1  2  3 | 4  5  6
    value    d  c  b | a  b  c  d | c  b  a
"""

from __future__ import annotations

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import Region


def reflected_indices(start: int, stop: int, low: int, high: int) -> np.ndarray:
    """Indices ``start <= i < stop``, reflected at the first and last index of ``low <= i < high`` as often as necessary.

    Returns:
        int array of length ``stop - start`` with values from `low` to ``high - 1``.

    Examples:
        >>> reflected_indices(-2, 6, 0, 4)
        array([2, 1, 0, 1, 2, 3, 2, 1])
        >>> reflected_indices(0, 3, 5, 6)
        array([5, 5, 5])
    """
    length = high - low
    if length == 1:  # the period would be 0; every index is the only voxel
        return np.full(stop - start, low)
    # forth and back without repeating the two ends, as `numpy.pad(mode="reflect")` does
    period = 2 * (length - 1)
    folded = np.abs(np.arange(start, stop) - low) % period
    return np.where(folded >= length, period - folded, folded) + low


def read_reflected(source: ArraySource, region: Region, within: Region | None = None) -> np.ndarray:
    """Values of a box of a C(Z)YX array; voxels outside `within` are reflected at its borders, as by ``numpy.pad(mode="reflect")``.

    Args:
        source: array C(Z)YX, in memory or lazy; only the required part is read, in one call.
        region: box over the spatial axes, which may extend beyond the array.
        within: box that counts as the image; the whole array when `None`.

    Returns:
        Array C(Z)YX with the spatial shape of `region`.

    Examples:
        >>> read_reflected(np.arange(12).reshape(1, 4, 3), Region((2, -1), (5, 2)))
        array([[[ 7,  6,  7],
                [10,  9, 10],
                [ 7,  6,  7]]])
    """
    within = Region.whole(source.shape[1:]) if within is None else within
    ranges = zip(region.start, region.stop, within.start, within.stop, strict=True)
    indices = [reflected_indices(*limits) for limits in ranges]
    first = [int(index.min()) for index in indices]
    box = tuple(slice(begin, int(index.max()) + 1) for begin, index in zip(first, indices, strict=True))
    values = np.asarray(source[(slice(None), *box)])
    if box == region.slices:  # the usual case, a box inside the image, costs no copy
        return values
    for axis, (index, begin) in enumerate(zip(indices, first, strict=True), start=1):
        values = np.take(values, index - begin, axis=axis)
    return values
