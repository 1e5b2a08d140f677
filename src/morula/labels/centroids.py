"""Centres that lie inside their objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.kernels.geometry import Geometry


def inner_centroids(labels: np.ndarray, found: Geometry, spacing: Sequence[float]) -> np.ndarray:
    """Voxel (n, ndim) at the centroid of each object; where that lies outside the object, the object's voxel nearest to it."""
    ids = found.ids
    centroids = found.centroids[ids]
    voxels = np.rint(centroids).astype(np.int64)
    outside = labels[tuple(voxels.T)] != ids
    for row in np.flatnonzero(outside):
        box = found.box(ids[row])
        inside = np.argwhere(labels[box] == ids[row]) + found.starts[ids[row]]
        voxels[row] = inside[(((inside - centroids[row]) * spacing) ** 2).sum(axis=1).argmin()]
    return voxels
