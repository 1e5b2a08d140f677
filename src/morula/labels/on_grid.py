"""Label images on another grid of the same extent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def on_grid(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Labels (Z)YX at another size: each voxel takes the label of the nearest one, and no object is lost while there is room for it.

    An object that no voxel of a coarser grid would take gets one of the voxels that it covers, of the background where possible, else of
    the largest object. Only where all of these are the single voxels of other objects it has no place.

    Args:
        labels: label image (Z)YX.
        shape: the new shape.

    Examples:
        >>> on_grid(np.array([[1, 1, 2, 2]]), (2, 2))
        array([[1, 2],
               [1, 2]])
        >>> on_grid(np.array([[1, 1, 2, 3, 3, 3]]), (1, 3))
        array([[1, 2, 3]])
    """
    result = nearest(labels, shape)
    if all(m >= n for m, n in zip(shape, labels.shape, strict=True)):  # every voxel is taken
        return result
    kept = np.bincount(result.ravel(), minlength=int(labels.max(initial=0)) + 1)
    lost = np.setdiff1d(labels, result)
    if lost.size:
        _restore(result, labels, lost[lost > 0], kept)
    return result


def nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An array (Z)YX at another size: each voxel takes the nearest one.

    Examples:
        >>> nearest(np.array([[0.5, 1.5]]), (1, 4))
        array([[0.5, 0.5, 1.5, 1.5]])
    """
    places = [np.minimum(((np.arange(m) + 0.5) * n / m).astype(np.intp), n - 1) for m, n in zip(shape, array.shape, strict=True)]
    return array[np.ix_(*places)]


def _restore(result: np.ndarray, labels: np.ndarray, lost: np.ndarray, kept: np.ndarray) -> None:
    """Give each lost object one voxel of `result`; `kept` counts the voxels of each label there."""
    from scipy import ndimage

    boxes = ndimage.find_objects(labels)
    for label in lost:
        box = boxes[label - 1]
        assert box is not None
        voxels = np.argwhere(labels[box] == label) + [part.start for part in box]
        targets = np.unique((voxels + 0.5) * result.shape / labels.shape, axis=0).astype(np.intp)
        owners = result[tuple(targets.T)]
        # background first, then the object that loses the smallest share of itself
        best = int(np.argmax(np.where(owners == 0, np.iinfo(np.int64).max, kept[owners])))
        if owners[best] and kept[owners[best]] < 2:
            continue  # as many objects as voxels: there is no room
        kept[owners[best]] -= 1
        result[tuple(targets[best])] = label
        kept[label] = 1
