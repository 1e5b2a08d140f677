"""Centroids of objects, moved to the nearest voxel inside where an object is not convex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.kernels.geometry import Geometry


def inner_centroids(labels: np.ndarray, found: Geometry, spacing: Sequence[float]) -> np.ndarray:
    """Voxel at the centroid of each object, or the object's voxel nearest to it where that is outside the object.

    Args:
        labels: compact ids (Z)YX.
        found: geometry of the labels.
        spacing: edge lengths of a voxel.

    Returns:
        Indices (n, ndim) int64, in the order of the ids.
    """
    ids = found.ids
    centroids = found.centroids[ids]
    voxels = np.rint(centroids).astype(np.int64)
    # concave objects and rings
    outside = labels[tuple(voxels.T)] != ids
    for row in np.flatnonzero(outside):
        # in physical units, because a step along z is longer than one in the plane
        box = found.box(ids[row])
        inside = np.argwhere(labels[box] == ids[row]) + found.starts[ids[row]]
        voxels[row] = inside[(((inside - centroids[row]) * spacing) ** 2).sum(axis=1).argmin()]
    return voxels
