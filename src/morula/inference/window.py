"""The weights with which overlapping tiles are blended."""

from __future__ import annotations

import numpy as np

from morula.inference.plan import TilePlan


def window(length: int, margin: int, ramp: int, *, first: bool, last: bool) -> np.ndarray:
    """Weights of a tile along one axis: nothing in the margin, a raised cosine over the ramp, 1 in the middle.

    The first and the last tile of an axis keep full weight towards the border of the image, where they have no neighbour.

    Returns:
        float64 of shape (length,), in [0, 1].

    Examples:
        >>> window(8, 1, 2, first=False, last=True).round(2)
        array([0.  , 0.15, 0.85, 1.  , 1.  , 1.  , 1.  , 1.  ])
    """
    distance = np.arange(length) - margin
    rise = np.where(distance < 0, 0.0, 1.0)
    inside = (distance >= 0) & (distance < ramp)
    rise[inside] = 0.5 - 0.5 * np.cos(np.pi * (distance[inside] + 0.5) / ramp)
    weights = np.ones(length)
    if not first:
        weights *= rise
    if not last:
        weights *= rise[::-1]
    return weights


def axis_weights(plan: TilePlan, axis: int) -> list[tuple[int, np.ndarray]]:
    """For each tile along the axis, the first voxel to which it contributes and its weights from there, cut to the image.

    Over all tiles the weights of a voxel add up to 1; the weight of a tile is the product over the axes, which adds up to 1 as well.
    """
    length, tile = plan.shape[axis], plan.tile[axis]
    starts, margin, ramp = plan.starts[axis], plan.margin[axis], plan.ramp[axis]
    total = np.zeros(length)
    parts = []
    for i, start in enumerate(starts):
        weights = window(tile, margin, ramp, first=i == 0, last=i == len(starts) - 1)[: length - start]
        used = np.flatnonzero(weights)
        begin = start + int(used[0])
        weights = weights[used[0] : used[-1] + 1]
        total[begin : begin + len(weights)] += weights
        parts.append((begin, weights))
    return [(begin, (weights / total[begin : begin + len(weights)]).astype(np.float32)) for begin, weights in parts]
