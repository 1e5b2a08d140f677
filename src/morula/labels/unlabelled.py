"""Label images of which a part was never looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.labels.check import three, volume


def continued(labels: np.ndarray, unlabelled: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Labels in which each unlabelled voxel has the label of the labelled voxel nearest to it, so that no object ends at its border.

    Nobody has said that an object ends where the labels end: encoded as they are, painted slices of a volume would all be contour.
    Where nothing is labelled, everything is background. Among equally near voxels the one of the lower index counts.

    Args:
        labels: ids (Z)YX uint32.
        unlabelled: true where nobody has looked, of the same shape.
        spacing: edge lengths of a voxel.

    Examples:
        >>> mask = np.array([[False, True, True, True, True, False]])
        >>> continued(np.array([[7, 0, 0, 0, 0, 9]], np.uint32), mask, (1, 1))
        array([[7, 7, 7, 9, 9, 9]], dtype=uint32)
    """
    if not unlabelled.any():
        return labels
    found = np.where(unlabelled, np.uint32(0), labels)
    far = np.where(unlabelled, np.float32(np.inf), np.float32(0))
    three_labels, three_far = volume(found), volume(far)
    for axis, length in enumerate(three(spacing, 1.0)):
        _nearest_along(np.moveaxis(three_labels, axis, 2), np.moveaxis(three_far, axis, 2), length)
    return found


@njit(cache=True, nogil=True)
def _nearest_along(labels: np.ndarray, far: np.ndarray, length: float) -> None:
    """Lower envelope of parabolas (Felzenszwalb & Huttenlocher 2012) along the last axis, in place; each carries its label."""
    rows, columns, n = labels.shape
    place, start = np.empty(n, np.int64), np.empty(n + 1, np.float64)
    height, label = np.empty(n, np.float64), np.empty(n, np.uint32)
    unit = length * length
    for row in range(rows):
        for column in range(columns):
            top = -1
            for x in range(n):
                here = far[row, column, x]
                if here == np.inf:
                    continue
                cut = -np.inf
                while top >= 0:
                    before = place[top]
                    cut = (here - height[top] + unit * (x * x - before * before)) / (2 * unit * (x - before))
                    if cut > start[top]:
                        break
                    top -= 1
                    cut = -np.inf
                top += 1
                place[top], start[top], height[top], label[top] = x, cut, here, labels[row, column, x]
            if top < 0:
                continue
            last, k = top, 0
            for x in range(n):
                while k < last and start[k + 1] < x:
                    k += 1
                far[row, column, x] = height[k] + unit * (x - place[k]) ** 2
                labels[row, column, x] = label[k]


def labelled_only(truth: np.ndarray, result: np.ndarray, unlabelled: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Truth and result with background where the truth has the value `unlabelled`: what nobody has looked at is not scored.

    Examples:
        >>> truth, result = labelled_only(np.array([1, 9, 9, 0]), np.array([1, 1, 2, 0]), 9)
        >>> truth.tolist(), result.tolist()
        ([1, 0, 0, 0], [1, 0, 0, 0])
    """
    if unlabelled is None:
        return truth, result
    outside = truth == unlabelled
    return np.where(outside, truth.dtype.type(0), truth), np.where(outside, result.dtype.type(0), result)
