"""Label images in which a part is unlabelled, for example volumes of which only some slices were annotated.

Unlabelled voxels are not scored in training, but the channels of labelled voxels depend on what is beside them: an object does not end
where the annotation ends. `extrapolate_objects` continues objects into the unlabelled part; `nearest_labels` fills it completely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, compact_ids, to_3d
from morula.labels.neighbour_distance import distance_to_others


def extrapolate_objects(labels: np.ndarray, unlabelled: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Labels that are continued into the unlabelled part, as far as each object is deep in its labelled sections.

    Encoded as they are, annotated slices of a volume would consist of contours. A labelled voxel at distance d from the nearest labelled
    voxel of anything else is at least d away from its boundary, so that a ball of radius d around it is given to its object. No labelled
    voxel comes nearer to a boundary than is known. Where balls of several objects overlap, the object with the largest d^2 minus squared
    distance from the ball's centre gets the voxel. Voxels outside all balls are background.

    Args:
        labels: ids (Z)YX uint32.
        unlabelled: true for unlabelled voxels, of the same shape.
        spacing: edge lengths of a voxel.

    Examples:
        >>> section = np.array([[0, 3, 3, 3, 0], [9, 9, 9, 9, 9], [9, 9, 9, 9, 9]], np.uint32)
        >>> extrapolate_objects(section, section == 9, (1, 1))
        array([[0, 3, 3, 3, 0],
               [0, 3, 3, 3, 0],
               [0, 0, 0, 0, 0]], dtype=uint32)
    """
    if not unlabelled.any():
        return labels
    known, largest = compact_ids(np.where(unlabelled, np.uint32(0), labels))
    # labelled background is an object of its own here: its voxels are evidence that an object ends
    known[~unlabelled & (known == 0)] = largest + 1
    depth = distance_to_others(known, spacing, limit=float(np.linalg.norm(np.multiply(labels.shape, spacing))))
    objects = ~unlabelled & (labels != 0)
    found = np.where(objects, labels, np.uint32(0))
    # a ball of radius d around a voxel is where distance squared minus d squared is negative: a parabola that starts at -d squared
    far = np.where(objects, -depth * depth, np.float32(np.inf))
    _spread(found, far, spacing)
    inside = far < -1e-3 * min(spacing) ** 2  # the surface of a ball is outside, however it is rounded
    return np.where(unlabelled, np.where(inside, found, np.uint32(0)), labels)


def nearest_labels(labels: np.ndarray, unlabelled: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Labels in which each unlabelled voxel has the label of the labelled voxel nearest to it.

    Where nothing is labelled, everything is background. Among equally near voxels the one with the lower index counts.

    Args:
        labels: ids (Z)YX uint32.
        unlabelled: true for unlabelled voxels, of the same shape.
        spacing: edge lengths of a voxel.

    Examples:
        >>> mask = np.array([[False, True, True, True, True, False]])
        >>> nearest_labels(np.array([[7, 0, 0, 0, 0, 9]], np.uint32), mask, (1, 1))
        array([[7, 7, 7, 9, 9, 9]], dtype=uint32)
    """
    if not unlabelled.any():
        return labels
    found = np.where(unlabelled, np.uint32(0), labels)
    far = np.where(unlabelled, np.float32(np.inf), np.float32(0))
    _spread(found, far, spacing)
    return found


def _spread(labels: np.ndarray, far: np.ndarray, spacing: Sequence[float]) -> None:
    """Replace `far` of each voxel by the smallest sum of `far` of a voxel and the squared distance to it, and take that voxel's label, in
    place."""
    three_labels, three_far = as_volume(labels), as_volume(far)
    # squared distances add over the axes, so that one pass per axis gives the exact minimum
    for axis, length in enumerate(to_3d(spacing, 1.0)):
        _nearest_along(np.moveaxis(three_labels, axis, 2), np.moveaxis(three_far, axis, 2), length)


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
                    # where the new parabola falls below the last one of the envelope
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


def both_labelled(unlabelled: np.ndarray, step: Sequence[int]) -> np.ndarray:
    """True where neither a voxel nor the one at an offset is `unlabelled`; voxels outside the image count as labelled.

    Examples:
        >>> both_labelled(np.array([False, False, True, False]), (1,))
        array([ True, False, False,  True])
    """
    seen = ~unlabelled
    if all(abs(s) < n for s, n in zip(step, unlabelled.shape, strict=True)):
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, unlabelled.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, unlabelled.shape, strict=True))
        seen[here] &= ~unlabelled[there]
    return seen


def labelled_along(unlabelled: np.ndarray, axis: int) -> np.ndarray:
    """True where neither a voxel nor the ones before and after it along an axis are `unlabelled`.

    Examples:
        >>> labelled_along(np.array([False, False, False, True]), 0)
        array([ True,  True, False, False])
    """
    step = [0] * unlabelled.ndim
    step[axis] = 1
    return both_labelled(unlabelled, step) & both_labelled(unlabelled, [-length for length in step])


def labelled_only(truth: np.ndarray, result: np.ndarray, unlabelled: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Truth and result with background where the truth has the value `unlabelled`: unannotated voxels are not scored.

    Examples:
        >>> truth, result = labelled_only(np.array([1, 9, 9, 0]), np.array([1, 1, 2, 0]), 9)
        >>> truth.tolist(), result.tolist()
        ([1, 0, 0, 0], [1, 0, 0, 0])
    """
    if unlabelled is None:
        return truth, result
    outside = truth == unlabelled
    return np.where(outside, truth.dtype.type(0), truth), np.where(outside, result.dtype.type(0), result)
