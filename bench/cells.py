"""Simulated label images."""

from __future__ import annotations

import numpy as np


def cells(shape: tuple[int, ...] = (64, 256, 256), n: int = 300, radius: float = 17) -> np.ndarray:
    """Touching cells: the voxels nearest to each of n points, at most `radius` away."""
    from scipy import ndimage

    rng = np.random.default_rng(5)
    seeds = np.zeros(shape, np.uint32)
    seeds[tuple(rng.integers(0, shape, (n, len(shape))).T)] = np.arange(1, n + 1)
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    return np.where(distance < radius, seeds[tuple(nearest)], 0).astype(np.uint32)
