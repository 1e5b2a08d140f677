"""The contingency table of two label images, and the overlap of masks and classes that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import DataError, OptionError
from morula.core.image_like import ImageLike, spatial_array

_DENSE_CELLS = 2**20  # 8 MB of int64: a table of this size stays in the cache


@dataclass(frozen=True, eq=False)
class Contingency:
    """Pairs of labels of the same voxel, one entry per pair, ordered by `truth`, then `prediction`; background (0) included.

    `truth` and `prediction` are int64 labels, `count` is the number of voxels (int64) with this pair.
    """

    truth: np.ndarray
    prediction: np.ndarray
    count: np.ndarray


@njit(cache=True, nogil=True)
def _count_dense(truth: np.ndarray, prediction: np.ndarray, table: np.ndarray) -> None:  # pragma: no cover - compiled
    i, n = 0, truth.size
    while i < n:
        t, p, start = truth[i], prediction[i], i
        while i < n and truth[i] == t and prediction[i] == p:  # runs of equal pairs are long: one write per run
            i += 1
        table[t, p] += i - start


@njit(cache=True, nogil=True)
def _slot(keys: np.ndarray, counts: np.ndarray, key: np.uint64, shift: np.uint64) -> np.int64:  # pragma: no cover - compiled
    mask = counts.size - 1
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> shift)  # Fibonacci hashing, Knuth TAOCP 6.4
    # linear probing; a count of 0 marks a free slot, so that no key value is reserved
    while counts[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _count_hashed(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    bits, used = 12, 0
    keys, counts = np.zeros(2**bits, np.uint64), np.zeros(2**bits, np.int64)
    i, n = 0, truth.size
    while i < n:
        t, p, start = truth[i], prediction[i], i
        while i < n and truth[i] == t and prediction[i] == p:
            i += 1
        # one 64-bit key per pair; sorted by key, the pairs are ordered by truth, then prediction
        key = (np.uint64(t) << np.uint64(32)) | np.uint64(p)
        slot = _slot(keys, counts, key, np.uint64(64 - bits))
        if counts[slot] == 0:
            keys[slot] = key
            used += 1
        counts[slot] += i - start
        # at most half full: probing stays short
        if 2 * used > counts.size:
            old_keys, old_counts = keys, counts
            bits += 2
            keys, counts = np.zeros(2**bits, np.uint64), np.zeros(2**bits, np.int64)
            for old in range(old_counts.size):
                if old_counts[old]:
                    slot = _slot(keys, counts, old_keys[old], np.uint64(64 - bits))
                    keys[slot] = old_keys[old]
                    counts[slot] = old_counts[old]
    filled = np.nonzero(counts)[0]
    return keys[filled], counts[filled]


def label_arrays(truth: ImageLike, prediction: ImageLike) -> tuple[np.ndarray, np.ndarray]:
    """Two label images as uint32 arrays (Z)YX of equal shape.

    Raises:
        DataError: when the shapes differ, the values are not integers, or one is negative or 2**32 and more.
    """
    arrays = spatial_array(truth)[0], spatial_array(prediction)[0]
    if arrays[0].shape != arrays[1].shape:
        raise DataError("metric.shapes", f"the truth has the shape {arrays[0].shape} but the prediction {arrays[1].shape}")
    return _as_uint32(arrays[0], "truth"), _as_uint32(arrays[1], "prediction")


def _as_uint32(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "iub":
        remedy = "Convert it, for example with .astype('uint32')."
        raise DataError("metric.type", f"has values of type {array.dtype}; labels are integers", key=what, remedy=remedy)
    if array.size and (array.dtype.kind == "i" or array.dtype.itemsize > 4):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= 2**32:
            raise DataError("metric.ids", f"has labels from {low} to {high}; ids are 0 to 4294967295", key=what, remedy="Relabel it.")
    return np.ascontiguousarray(array, dtype=np.uint32)


def contingency(truth: ImageLike, prediction: ImageLike) -> Contingency:
    """Number of voxels of every pair (true label, predicted label) that occurs.

    One pass over the runs of equal pairs: into a dense table where the ids are small, else into a hash map.

    Args:
        truth: integer label image (Z)YX, array or `Image`; ids below 2**32, in any order, with gaps.
        prediction: likewise, of the same shape.

    Raises:
        DataError: for different shapes, or values that are not labels.

    Examples:
        >>> table = contingency(np.array([[0, 1, 1]]), np.array([[7, 7, 0]]))
        >>> table.truth.tolist(), table.prediction.tolist(), table.count.tolist()
        ([0, 1, 1], [7, 0, 7], [1, 1, 1])
    """
    arrays = label_arrays(truth, prediction)
    first, second = (array.ravel() for array in arrays)
    if not first.size:
        return Contingency(*(np.zeros(0, np.int64) for _ in range(3)))
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    if rows * columns <= _DENSE_CELLS:
        table = np.zeros((rows, columns), np.int64)
        _count_dense(first, second, table)
        where = np.nonzero(table)
        return Contingency(where[0], where[1], table[where])
    keys, counts = _count_hashed(first, second)
    order = np.argsort(keys)
    keys = keys[order]
    return Contingency((keys >> np.uint64(32)).astype(np.int64), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), counts[order])


def class_table(truth: ImageLike, prediction: ImageLike, classes: int, *, ignore: int | None = None) -> np.ndarray:
    """Voxels by true and predicted class: int64 (classes, classes), true classes in rows. The sum of tables pools several images.

    Args:
        truth: class image (Z)YX with values 0 to `classes` - 1, and `ignore` where the class is unknown.
        prediction: class image of the same shape.
        classes: number of classes, background included.
        ignore: true value whose voxels are not evaluated.

    Raises:
        DataError: for a value that is not a class.

    Examples:
        >>> class_table(np.array([[0, 1, 255]]), np.array([[0, 0, 1]]), 2, ignore=255)
        array([[1, 0],
               [1, 0]])
    """
    if classes < 1:
        raise OptionError("metric.class_count", "must be 1 or more", key="classes", value=classes)
    pairs = contingency(truth, prediction)
    kept = np.ones(len(pairs.count), bool) if ignore is None else pairs.truth != ignore
    for what, values in (("truth", pairs.truth[kept]), ("prediction", pairs.prediction[kept])):
        if values.max(initial=0) >= classes:
            raise DataError(
                "metric.class_range",
                f"must be one of the {classes} classes 0 to {classes - 1}",
                key=what,
                value=int(values.max()),
                remedy="Give more classes, or ignore=VALUE for a value of the truth that is not a class.",
            )
    table = np.zeros((classes, classes), np.int64)
    table[pairs.truth[kept], pairs.prediction[kept]] = pairs.count[kept]
    return table


def _iou_of(table: np.ndarray) -> np.ndarray:
    common = np.diag(table).astype(np.float64)
    union = table.sum(axis=0) + table.sum(axis=1) - common
    return np.divide(common, union, out=np.full(len(table), np.nan), where=union > 0)


def _dice_of(table: np.ndarray) -> np.ndarray:
    common = np.diag(table).astype(np.float64)
    total = table.sum(axis=0) + table.sum(axis=1)
    return np.divide(2 * common, total, out=np.full(len(table), np.nan), where=total > 0)


def iou_per_class(table: np.ndarray | Sequence[Sequence[int]]) -> np.ndarray:
    """Intersection over union of each class of a `class_table`; NaN for a class that occurs in neither image.

    Examples:
        >>> iou_per_class([[6, 1, 0], [1, 2, 0], [0, 0, 0]])
        array([0.75, 0.5 ,  nan])
    """
    return _iou_of(np.asarray(table))


def dice_per_class(table: np.ndarray | Sequence[Sequence[int]]) -> np.ndarray:
    """Dice coefficient of each class of a `class_table`; NaN for a class that occurs in neither image.

    Examples:
        >>> dice_per_class([[5, 0, 0], [1, 1, 0], [0, 0, 0]]).round(3)
        array([0.909, 0.667,   nan])
    """
    return _dice_of(np.asarray(table))


def _foreground_table(truth: ImageLike, prediction: ImageLike, ignore: int | None) -> np.ndarray:
    pairs = contingency(truth, prediction)
    kept = np.ones(len(pairs.count), bool) if ignore is None else pairs.truth != ignore
    table = np.zeros((2, 2), np.int64)
    np.add.at(table, ((pairs.truth[kept] > 0).astype(np.intp), (pairs.prediction[kept] > 0).astype(np.intp)), pairs.count[kept])
    return table


def iou(truth: ImageLike, prediction: ImageLike, *, ignore: int | None = None) -> float:
    """Intersection over union (Jaccard index) of the foreground (all values other than 0). NaN when there is none.

    Args:
        truth: mask, class image or label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: true value whose voxels are not evaluated.

    Examples:
        >>> iou(np.array([[1, 1, 0, 0]]), np.array([[2, 0, 2, 0]]))
        0.3333333333333333
    """
    return float(_iou_of(_foreground_table(truth, prediction, ignore))[1])


def dice(truth: ImageLike, prediction: ImageLike, *, ignore: int | None = None) -> float:
    """Dice coefficient of the foreground (all values other than 0). NaN when there is none.

    Args:
        truth: mask, class image or label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: true value whose voxels are not evaluated.

    Examples:
        >>> dice(np.array([[1, 1, 0, 0]]), np.array([[2, 0, 2, 0]]))
        0.5
    """
    return float(_dice_of(_foreground_table(truth, prediction, ignore))[1])
