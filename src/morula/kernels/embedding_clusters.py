"""Clustering in embedding space, as in EmbedSeg.

Every voxel has a position in embedding space; voxels of one object are embedded near its centre. Objects are found greedily:

1. The unclustered voxel with the highest seediness becomes a seed.
2. All voxels with a membership above 0.5 around it form its cluster: those inside an ellipsoid given by the seed's bandwidths.
3. The cluster is an object when more than half of it was unclustered; voxels that belong to an earlier object stay with it.
4. Repeat until no voxel has enough seediness.

The original compares every seed with all voxels, which is quadratic. Here voxels are sorted into the cells of a grid in embedding space, so
that a seed visits only the cells that its ellipsoid touches; the result does not depend on the cells. Complexity: O(n log n) for sorting by
seediness, and about linear for the clusters.

After Lalit et al., EmbedSeg (Medical Image Analysis 81, 2022).
"""

from __future__ import annotations

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import to_3d

_LN2 = float(np.log(2))
_BATCH = 1 << 20
"""Points whose sort keys are computed at a time, which bounds the memory."""


def cluster(
    positions: np.ndarray,
    sigma: np.ndarray,
    seediness: np.ndarray,
    inside: np.ndarray | None = None,
    *,
    cell: float,
    seed_threshold: float = 0.5,
    min_unclustered: int = 0,
    min_size: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of embedded points, each around a seed.

    Args:
        positions: (axes, n) float32, in embedding space.
        sigma: (1 or axes, n) float32; the membership in the cluster of a seed s is exp(-sum over axes of (e - e_s)^2 exp(10 sigma_s)).
        seediness: (n,) float32, how certain it is that a point is near its object's centre.
        inside: (n,) bool, points that are clustered; all where left out.
        cell: edge of a grid cell; it affects the speed only.
        seed_threshold: lowest seediness of a seed.
        min_unclustered: stop when at most this many points are left.
        min_size: smallest number of new points of an object.

    Returns:
        Ids (n,) uint32 from 1 on in the order of decreasing seediness, 0 for points without an object; and the seediness of each seed.

    Examples:
        >>> positions = np.array([[0.0, 0.1, 5.0]], np.float32)
        >>> cluster(positions, np.zeros((1, 3), np.float32), np.array([0.9, 0.8, 0.7], np.float32), cell=1.0)
        (array([1, 1, 2], dtype=uint32), array([0.9, 0.7], dtype=float32))
    """
    inside = np.ones(seediness.shape, np.bool_) if inside is None else inside
    number = int(np.count_nonzero(inside))
    if number == 0:
        return np.zeros(inside.size, np.uint32), np.zeros(0, np.float32)
    order = _by_seediness(np.flatnonzero(inside & (seediness >= seed_threshold)), seediness)
    ends = [(float(axis[inside].min()), float(axis[inside].max())) for axis in positions]
    low, span = np.array([a for a, _ in ends]), np.array([b - a for a, b in ends])
    grid = np.floor(span / cell).astype(np.int64) + 1
    # outliers: fewer and larger cells, so that the grid needs no more memory than the points; the product in float64 cannot overflow
    while np.prod(grid.astype(np.float64)) > number + 64:
        cell *= 2
        grid = np.floor(span / cell).astype(np.int64) + 1
    limits = (number, int(min_unclustered), int(min_size))
    ids, seeds = _cluster_all(
        positions, inside, to_3d(grid.tolist(), 1).astype(np.int64), to_3d(low.tolist(), 0), float(cell), order, sigma, limits
    )
    return ids, seediness[seeds]


def _by_seediness(points: np.ndarray, seediness: np.ndarray) -> np.ndarray:
    """Points by decreasing seediness, in their order among equal values; the argument is overwritten.

    The bits of the seediness and the index are combined to one 64-bit key and sorted in place: an argsort would need twice the memory.
    """
    # the index does not fit the lower half of a 64-bit key
    if seediness.size >= 2**32:
        return points[np.argsort(-seediness[points], kind="stable")]
    keys = points.view(np.uint64)
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        bits = (seediness[points[start : start + _BATCH]].astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: no negative zero
        # sorting is ascending, so that the bits of positive values are inverted; those of negative ones descend already
        down = np.where(bits >> np.uint32(31), bits, ~bits & np.uint32(0x7FFFFFFF))
        batch |= down.astype(np.uint64) << np.uint64(32)
    keys.sort()
    keys &= np.uint64(2**32 - 1)
    return keys.astype(np.int32 if seediness.size < 2**31 else np.int64)


@njit(cache=True, nogil=True)
def _by_cell(
    positions: np.ndarray, inside: np.ndarray, grid: np.ndarray, origin: np.ndarray, cell: float, kind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The points sorted by cell (counting sort), of the type of `kind`, and the start of each cell."""
    starts = np.zeros(grid[0] * grid[1] * grid[2] + 1, np.int64)
    points = np.empty(0, kind.dtype)
    # the first pass counts the points per cell, the second one places them
    for phase in range(2):
        for i in range(inside.size):
            if not inside[i]:
                continue
            number = 0
            for axis in range(len(positions)):
                own = 3 - len(positions) + axis
                number = number * grid[own] + min(int((np.float64(positions[axis, i]) - origin[own]) / cell), grid[own] - 1)
            if phase == 0:
                starts[number + 1] += 1
            else:
                points[starts[number]] = i
                starts[number] += 1
        if phase == 0:
            starts = np.cumsum(starts)
            points = np.empty(starts[-1], kind.dtype)
    # placing the points has moved each start to the start of the next cell
    for number in range(starts.size - 1, 0, -1):
        starts[number] = starts[number - 1]
    starts[0] = 0
    return points, starts


@njit(cache=True, nogil=True)
def _cluster_all(  # noqa: C901 - the loop over seeds and the cells around them
    positions: np.ndarray,
    inside: np.ndarray,
    grid: np.ndarray,
    origin: np.ndarray,
    cell: float,
    candidates: np.ndarray,
    sigma: np.ndarray,
    limits: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the points, and the seed of each id. A cluster is visited twice: to count its points, then to label them."""
    points, starts = _by_cell(positions, inside, grid, origin, cell, candidates)
    axes, lead = len(positions), 3 - len(positions)
    ids, clustered = np.zeros(inside.size, np.uint32), np.zeros(inside.size, np.bool_)
    seeds, number, left = np.empty(1024, candidates.dtype), 0, limits[0]
    scale, centre = np.ones(axes), np.zeros(axes)
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for seed in candidates:
        if left <= limits[1]:
            break
        # another seed has taken this voxel already
        if clustered[seed]:
            continue
        for axis in range(axes):
            scale[axis] = np.exp(10 * np.float64(sigma[0 if len(sigma) == 1 else axis, seed]))
            # the membership is above 0.5 within this distance along the axis; the spare covers rounding at the edge of a cell
            reach = np.sqrt(_LN2 / max(scale[axis], 1e-30)) + 1e-6 * cell
            centre[axis] = positions[axis, seed]
            at = centre[axis] - origin[lead + axis]
            first[lead + axis] = int(max((at - reach) / cell, 0.0))
            last[lead + axis] = int(min((at + reach) / cell, grid[lead + axis] - 1.0))
        members, new, accepted = 0, 0, False
        for phase in range(2):
            for a in range(first[0], last[0] + 1):
                for b in range(first[1], last[1] + 1):
                    line = (a * grid[1] + b) * grid[2]
                    # cells of a line are consecutive, so that their points are one range
                    for k in range(starts[line + first[2]], starts[line + last[2] + 1]):
                        i = points[k]
                        square = 0.0
                        for axis in range(axes):
                            distance = np.float64(positions[axis, i]) - centre[axis]
                            square += distance * distance * scale[axis]
                        if square >= _LN2:
                            continue
                        if phase == 0:
                            members += 1
                            new += not clustered[i]
                        elif not clustered[i]:
                            clustered[i] = True
                            ids[i] = number if accepted else 0
            if phase == 0:
                # mostly new: an object; mostly old: a remainder of an earlier object, which is consumed without an id
                accepted = 2 * new > members and new >= limits[2]
                number += accepted
        left -= new
        if accepted:
            if number > seeds.size:
                seeds = np.concatenate((seeds, np.empty_like(seeds)))
            seeds[number - 1] = seed
    return ids, seeds[:number]
