"""EmbedSeg clustering: voxels that are embedded near a sure one are of its object."""

from __future__ import annotations

import numpy as np
from numba import njit

_LN2 = float(np.log(2))


def cluster(
    places: np.ndarray,
    sigma: np.ndarray,
    seediness: np.ndarray,
    *,
    cell: float,
    seed_threshold: float = 0.5,
    min_unclustered: int = 0,
    min_size: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of embedded points.

    Again and again the surest point that is not clustered yet becomes a seed: all points with a membership above 0.5 around it are
    clustered. They are an object when more than half of them were not clustered before and those are at least `min_size`; points that
    belong to an object stay with it. Places are sorted into the cells of a grid, so that a seed looks only at the points around it;
    the result does not depend on the cells.

    Args:
        places: (axes, n) float32, where points are embedded.
        sigma: (1 or axes, n) float32; the membership in the cluster of a seed s is exp(-sum over axes of (e - e_s)^2 exp(10 sigma_s)).
        seediness: (n,) float32, how sure each point is.
        cell: edge of a cell.
        seed_threshold: no seed below it.
        min_unclustered: stop when no more than so many points are left.
        min_size: points that an object needs.

    Returns:
        Ids (n,) uint32 from 1 on in the order of the seeds, 0 without object; and the seediness of each object's seed.

    Examples:
        >>> places = np.array([[0.0, 0.1, 5.0]], np.float32)
        >>> cluster(places, np.zeros((1, 3), np.float32), np.array([0.9, 0.8, 0.7], np.float32), cell=1.0)
        (array([1, 1, 2], dtype=uint32), array([0.9, 0.7], dtype=float32))
    """
    n = places.shape[1]
    if n == 0:
        return np.zeros(0, np.uint32), np.zeros(0, np.float32)
    low = places.min(axis=1).astype(np.float64)
    span = places.max(axis=1) - low
    grid = np.floor(span / cell).astype(np.int64) + 1
    while np.prod(grid.astype(np.float64)) > 4 * n + 64:  # some points lie far away
        cell *= 2
        grid = np.floor(span / cell).astype(np.int64) + 1
    cells = np.zeros(n, np.int64)
    for axis in range(len(places)):
        cells = cells * grid[axis] + np.minimum(((places[axis] - low[axis]) / cell).astype(np.int64), grid[axis] - 1)
    order = np.argsort(cells, kind="stable").astype(np.int32 if n < 2**31 else np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=int(np.prod(grid))))])
    candidates = np.flatnonzero(seediness >= seed_threshold)
    candidates = candidates[np.argsort(-seediness[candidates], kind="stable")]
    limits = (int(min_unclustered), int(min_size))
    ids, seeds = _grow(_three(places, 0)[:, order], order, starts, _three(grid, 1), _three(low, 0), float(cell), candidates, sigma, limits)
    return ids, seediness[seeds]


def _three(values: np.ndarray, missing: float) -> np.ndarray:
    """Values by axis with a z axis in front where there is none."""
    lacking = np.full((3 - len(values), *values.shape[1:]), missing, values.dtype)
    return np.concatenate([lacking, values])


@njit(cache=True, nogil=True)
def _grow(  # noqa: C901, PLR0913 - the loop over seeds and the cells around them
    points: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    grid: np.ndarray,
    origin: np.ndarray,
    cell: float,
    candidates: np.ndarray,
    sigma: np.ndarray,
    limits: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the points, and the seed of each id. `points` (3, n) are sorted by cell, `order` says where each was."""
    n = order.size
    place = np.empty(n, order.dtype)
    for i in range(n):
        place[order[i]] = i
    ids, clustered = np.zeros(n, np.uint32), np.zeros(n, np.bool_)
    members, seeds, number = np.empty(n, order.dtype), np.empty(candidates.size, np.int64), 0
    scale, first, last, left = np.ones(3), np.zeros(3, np.int64), np.zeros(3, np.int64), n
    for candidate in candidates:
        if left <= limits[0]:
            break
        seed = place[candidate]
        if clustered[seed]:
            continue
        for axis in range(3):
            row = 0 if len(sigma) == 1 else axis - (3 - len(sigma))
            scale[axis] = np.exp(10 * np.float64(sigma[max(row, 0), candidate]))
            reach = np.sqrt(_LN2 / max(scale[axis], 1e-30)) + 1e-6 * cell
            at = np.float64(points[axis, seed]) - origin[axis]
            first[axis] = int(max((at - reach) / cell, 0.0))
            last[axis] = int(min((at + reach) / cell, grid[axis] - 1.0))
        found, new = 0, 0
        for a in range(first[0], last[0] + 1):
            for b in range(first[1], last[1] + 1):
                line = (a * grid[1] + b) * grid[2]
                for i in range(starts[line + first[2]], starts[line + last[2] + 1]):
                    square = 0.0
                    for axis in range(3):
                        way = np.float64(points[axis, i]) - np.float64(points[axis, seed])
                        square += way * way * scale[axis]
                    if square < _LN2:
                        members[found] = i
                        found += 1
                        new += not clustered[i]
        whole = 2 * new > found and new >= limits[1]
        if whole:
            seeds[number] = candidate
            number += 1
        left -= new
        for k in range(found):
            i = members[k]
            if whole and not clustered[i]:
                ids[order[i]] = np.uint32(number)
            clustered[i] = True
    return ids, seeds[:number]
