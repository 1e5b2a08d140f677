"""Passes over a label image that collect one value per object, renumber objects, or keep some of them.

All of them index a table by the id, so that their cost is linear in the voxels and does not depend on the number of objects. Ids must be
small enough for a table: see `morula.core.label_image.compact_ids`.
"""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import read_only, smallest_type


def renumber(labels: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with ids 1..n in the order of the old ones, in the smallest type that holds them, and the old id of each new one.

    No id may exceed `largest`.

    Examples:
        >>> renumber(np.array([[0, 7, 3]], np.uint32), 7)
        (array([[0, 2, 1]], dtype=uint16), array([3, 7]))
    """
    present = np.zeros(largest + 1, np.bool_)
    _mark(labels.ravel(), present)
    present[0] = False
    old = np.flatnonzero(present)
    table = np.zeros(largest + 1, smallest_type(len(old)))
    # a look-up table: one read per voxel, however many objects there are
    table[old] = np.arange(1, len(old) + 1)
    return table[labels], old


def original_ids(labels: np.ndarray, ids: np.ndarray, largest: int) -> np.ndarray:
    """Id in `labels` of each compact id in `ids`, as a table (largest + 1,).

    Examples:
        >>> original_ids(np.array([[0, 90, 7]]), np.array([[0, 2, 1]]), 2)
        array([ 0,  7, 90])
    """
    # all voxels of an object write the same id, so that the order does not matter
    table = np.zeros(largest + 1, labels.dtype)
    table[ids.ravel()] = labels.ravel()
    return table


def object_means(labels: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Mean of the values in each object 1..n, (n,) float32."""
    # sums in float64: those of float32 values lose digits in large objects
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    _sum(labels.ravel(), read_only(values.astype(np.float32, copy=False)).ravel(), sums, counts)
    return (sums[1:] / np.maximum(counts[1:], 1)).astype(np.float32)


def object_maxima(labels: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Largest of the values in each object 1..n, (n,) float32."""
    high = np.full(n + 1, -np.inf, np.float32)
    _maxima(read_only(labels).ravel(), read_only(values.astype(np.float32, copy=False)).ravel(), high)
    return high[1:]


def first_voxels(labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first voxel of each id, in C order, and its number of voxels; both (n + 1,) int64, with 0 for the background.

    Examples:
        >>> first_voxels(np.array([[0, 2, 2], [1, 2, 0]], np.uint32), 2)
        (array([0, 3, 1]), array([0, 1, 3]))
    """
    first, counts = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    _first_voxels(read_only(labels).ravel(), first, counts)
    first[0] = counts[0] = 0
    return first, counts


@njit(cache=True, nogil=True)
def _mark(ids: np.ndarray, present: np.ndarray) -> None:
    for i in range(ids.size):
        present[ids[i]] = True


@njit(cache=True, nogil=True)
def _sum(ids: np.ndarray, values: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    for i in range(ids.size):
        sums[ids[i]] += values[i]
        counts[ids[i]] += 1


@njit(cache=True, nogil=True)
def _maxima(ids: np.ndarray, values: np.ndarray, high: np.ndarray) -> None:
    for i in range(ids.size):
        high[ids[i]] = max(high[ids[i]], values[i])


@njit(cache=True, nogil=True)
def select_objects(values: np.ndarray, ids: np.ndarray, kept: np.ndarray, out: np.ndarray) -> None:
    """Copy the values of the kept objects into `out`, run by run. All arrays are flat; `kept` is indexed by id."""
    # the look-up is needed once per run of equal ids, and most voxels continue a run
    previous, copy = ids[0], ids[0] != 0 and kept[ids[0]]
    for i in range(ids.size):
        if ids[i] != previous:
            previous, copy = ids[i], ids[i] != 0 and kept[ids[i]]
        if copy:
            out[i] = values[i]


@njit(cache=True, nogil=True)
def _first_voxels(flat: np.ndarray, first: np.ndarray, counts: np.ndarray) -> None:
    for i in range(flat.size):
        if counts[flat[i]] == 0:
            first[flat[i]] = i
        counts[flat[i]] += 1
