"""Weights with which overlapping tiles are blended: a raised cosine (Hann window) over the overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Weights: TypeAlias = list[tuple[int, np.ndarray]]
"""Per tile along an axis: the first voxel to which it contributes, and its weights from there."""


def window(length: int, margin: int, ramp: int, *, first: bool, last: bool) -> np.ndarray:
    """Weights of a tile along one axis: 0 in the margin, a raised cosine over the ramp, 1 in the middle.

    The first and the last tile of an axis have full weight up to the border of the image, where they have no neighbour.

    Returns:
        float64 of shape (length,), in [0, 1].

    Examples:
        >>> window(8, 1, 2, first=False, last=True).round(2)
        array([0.  , 0.15, 0.85, 1.  , 1.  , 1.  , 1.  , 1.  ])
    """
    distance = np.arange(length) - margin
    rise = np.where(distance < 0, 0.0, 1.0)
    inside = (distance >= 0) & (distance < ramp)
    # half a voxel: two ramps that face each other then add up to exactly 1
    rise[inside] = 0.5 - 0.5 * np.cos(np.pi * (distance[inside] + 0.5) / ramp)
    weights = np.ones(length)
    if not first:
        weights *= rise
    if not last:
        weights *= rise[::-1]
    return weights


def tile_weights(length: int, tile: int, starts: Sequence[int], *, margin: int, ramp: int) -> Weights:
    """Weights of equally overlapping tiles along an axis.

    The weights of a voxel over all tiles add up to 1. The weight of a tile in 2D or 3D is the product over the axes.

    Args:
        length: length of the image, to which weights are cropped.
        tile: length of a tile.
        starts: starts of the tiles.
        margin: voxels at both ends of a tile with weight 0.
        ramp: voxels behind the margin over which the weight rises.
    """
    whole = [window(tile, margin, ramp, first=i == 0, last=i == len(starts) - 1) for i in range(len(starts))]
    return normalised(length, starts, whole)


def patch_weights(length: int, patch: int, starts: Sequence[int], *, last_wins: bool = False) -> Weights:
    """As `tile_weights`, for patches with any overlap: neighbours are blended over their whole overlap.

    Args:
        length: length of the image, to which weights are cropped.
        patch: length of a patch; there must be no gap between patches.
        starts: starts of the patches, increasing.
        last_wins: no blending; a voxel belongs to the last patch that contains it.

    Examples:
        >>> [(begin, weights.round(2).tolist()) for begin, weights in patch_weights(6, 4, (0, 2))]
        [(0, [1.0, 1.0, 0.8500000238418579, 0.15000000596046448]), (2, [0.15000000596046448, 0.8500000238418579, 1.0, 1.0])]
        >>> [(begin, len(weights)) for begin, weights in patch_weights(6, 4, (0, 2), last_wins=True)]
        [(0, 2), (2, 4)]
    """
    whole = []
    for i, start in enumerate(starts):
        before = 0 if i == 0 else starts[i - 1] + patch - start
        after = 0 if i == len(starts) - 1 else start + patch - starts[i + 1]
        if last_wins:
            whole.append(np.arange(patch) < patch - after)
        else:
            rise = window(patch, 0, before, first=False, last=True)
            whole.append(rise * window(patch, 0, after, first=True, last=False))
    return normalised(length, starts, whole)


def normalised(length: int, starts: Sequence[int], whole: Sequence[np.ndarray]) -> Weights:
    """Weights of tiles, cropped to the image and to their non-zero part, and normalised to a sum of 1 per voxel."""
    total = np.zeros(length)
    parts = []
    for start, weights in zip(starts, whole, strict=True):
        outside = max(0, -start)
        inside = weights[outside : length - start].astype(np.float64)
        # margins have weight 0 and are cropped, so that they are neither stored nor added
        used = np.flatnonzero(inside)
        begin = start + outside + int(used[0])
        inside = inside[used[0] : used[-1] + 1]
        total[begin : begin + len(inside)] += inside
        parts.append((begin, inside))
    return [(begin, (weights / total[begin : begin + len(weights)]).astype(np.float32)) for begin, weights in parts]
