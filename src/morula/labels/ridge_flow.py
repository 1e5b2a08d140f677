"""Vectors that lead from the boundary of an object to its ridge: the gradient of the distance to the boundary.

Unlike the flow to the centre (`morula.kernels.flow_fields`), it depends on the shape near a voxel only, so that long and bent objects, such
as bacteria, have the same flow along their whole length. Its length is about 1 beside the ridge and falls to 0 on it::

    . v v v v v v .       the ridge, where vectors of both sides meet,
    > = = = = = = <       connects all ends of one object
    . ^ ^ ^ ^ ^ ^ .

After Cutler et al., Omnipose (Nature Methods 19, 2022), with the Euclidean distance instead of a relaxed one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.labels.distance import distance


def ridge_flow(labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Vectors (ndim, (Z)YX) float32 of at most length 1 in array order that lead to the ridge of each object; 0 in the background.

    The distance is 0 at the first voxel of another object or of the background; at the border of the image it goes on as it is.

    Args:
        labels: ids (Z)YX.
        spacing: edge lengths of a voxel.

    Examples:
        >>> ridge_flow(np.array([[0, 1, 1, 1, 2, 2, 0]], np.uint32), (1, 1))[1]
        array([[ 0. ,  1. ,  0. , -1. ,  0.5, -0.5,  0. ]], dtype=float32)
    """
    depth = distance(labels, spacing)
    out = np.zeros((labels.ndim, *labels.shape), np.float32)
    for axis, length in enumerate(spacing):
        before, after = _beside(labels, depth, axis, forward=False), _beside(labels, depth, axis, forward=True)
        np.multiply(after - before, np.float32(0.5 / length), out=out[axis], where=labels != 0)
    size = np.sqrt(np.einsum("a...,a...->...", out, out))
    return np.divide(out, np.maximum(size, 1), out=out)


def _beside(labels: np.ndarray, depth: np.ndarray, axis: int, *, forward: bool) -> np.ndarray:
    """Depth of the next voxel along an axis: 0 where it is of another object, the voxel's own where the image ends."""
    here, there = [slice(None)] * labels.ndim, [slice(None)] * labels.ndim
    here[axis], there[axis] = (slice(None, -1), slice(1, None)) if forward else (slice(1, None), slice(None, -1))
    found = depth.copy()
    same = labels[tuple(here)] == labels[tuple(there)]
    found[tuple(here)] = np.where(same, depth[tuple(there)], np.float32(0))
    return found
