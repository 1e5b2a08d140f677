"""EmbedSeg clustering: voxels that are embedded near a sure one are of its object."""

from __future__ import annotations

import numpy as np
from numba import njit

_LN2 = float(np.log(2))
_PART = 1 << 20
"""Points whose keys are made at a time."""


def cluster(
    places: np.ndarray,
    sigma: np.ndarray,
    seediness: np.ndarray,
    inside: np.ndarray | None = None,
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
        inside: (n,) bool, points that are clustered; all when left out.
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
    inside = np.ones(seediness.shape, np.bool_) if inside is None else inside
    number = int(np.count_nonzero(inside))
    if number == 0:
        return np.zeros(inside.size, np.uint32), np.zeros(0, np.float32)
    order = _surest_first(np.flatnonzero(inside & (seediness >= seed_threshold)), seediness)
    ends = [(float(axis[inside].min()), float(axis[inside].max())) for axis in places]
    low, span = np.array([a for a, _ in ends]), np.array([b - a for a, b in ends])
    grid = np.floor(span / cell).astype(np.int64) + 1
    while np.prod(grid.astype(np.float64)) > number + 64:  # some points lie far away
        cell *= 2
        grid = np.floor(span / cell).astype(np.int64) + 1
    limits = (number, int(min_unclustered), int(min_size))
    ids, seeds = _grow(places, inside, _three(grid, 1), _three(low, 0), float(cell), order, sigma, limits)
    return ids, seediness[seeds]


def _surest_first(points: np.ndarray, seediness: np.ndarray) -> np.ndarray:
    """Points, given in their order and overwritten, the surest first; among equals the order stays.

    Seediness, as bits that count down, and point are one number each, sorted in place: an argsort would take twice the memory.
    """
    if seediness.size >= 2**32:
        return points[np.argsort(-seediness[points], kind="stable")]
    keys = points.view(np.uint64)
    for start in range(0, len(keys), _PART):
        part = keys[start : start + _PART]
        bits = (seediness[points[start : start + _PART]].astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: no negative zero
        down = np.where(bits >> np.uint32(31), bits, ~bits & np.uint32(0x7FFFFFFF))
        part |= down.astype(np.uint64) << np.uint64(32)
    keys.sort()
    keys &= np.uint64(2**32 - 1)
    return keys.astype(np.int32 if seediness.size < 2**31 else np.int64)


def _three(values: np.ndarray, missing: float) -> np.ndarray:
    """Values by axis with a z axis in front where there is none."""
    return np.concatenate([np.full(3 - len(values), missing, values.dtype), values])


@njit(cache=True, nogil=True)
def _by_cell(
    places: np.ndarray, inside: np.ndarray, grid: np.ndarray, origin: np.ndarray, cell: float, kind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The points sorted by their cell, of the type of `kind`, and where each cell begins."""
    starts = np.zeros(grid[0] * grid[1] * grid[2] + 1, np.int64)
    points = np.empty(0, kind.dtype)
    for turn in range(2):
        for i in range(inside.size):
            if not inside[i]:
                continue
            number = 0
            for axis in range(len(places)):
                own = 3 - len(places) + axis
                number = number * grid[own] + min(int((np.float64(places[axis, i]) - origin[own]) / cell), grid[own] - 1)
            if turn == 0:
                starts[number + 1] += 1
            else:
                points[starts[number]] = i
                starts[number] += 1
        if turn == 0:
            starts = np.cumsum(starts)
            points = np.empty(starts[-1], kind.dtype)
    for number in range(starts.size - 1, 0, -1):
        starts[number] = starts[number - 1]
    starts[0] = 0
    return points, starts


@njit(cache=True, nogil=True)
def _grow(  # noqa: C901 - the loop over seeds and the cells around them
    places: np.ndarray,
    inside: np.ndarray,
    grid: np.ndarray,
    origin: np.ndarray,
    cell: float,
    candidates: np.ndarray,
    sigma: np.ndarray,
    limits: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the points, and the seed of each id. A cluster is looked through twice: to count it, then to give it its id."""
    points, starts = _by_cell(places, inside, grid, origin, cell, candidates)
    axes, lead = len(places), 3 - len(places)
    ids, clustered = np.zeros(inside.size, np.uint32), np.zeros(inside.size, np.bool_)
    seeds, number, left = np.empty(1024, candidates.dtype), 0, limits[0]
    scale, centre = np.ones(axes), np.zeros(axes)
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for seed in candidates:
        if left <= limits[1]:
            break
        if clustered[seed]:
            continue
        for axis in range(axes):
            scale[axis] = np.exp(10 * np.float64(sigma[0 if len(sigma) == 1 else axis, seed]))
            reach = np.sqrt(_LN2 / max(scale[axis], 1e-30)) + 1e-6 * cell
            centre[axis] = places[axis, seed]
            at = centre[axis] - origin[lead + axis]
            first[lead + axis] = int(max((at - reach) / cell, 0.0))
            last[lead + axis] = int(min((at + reach) / cell, grid[lead + axis] - 1.0))
        found, new, whole = 0, 0, False
        for turn in range(2):
            for a in range(first[0], last[0] + 1):
                for b in range(first[1], last[1] + 1):
                    line = (a * grid[1] + b) * grid[2]
                    for k in range(starts[line + first[2]], starts[line + last[2] + 1]):
                        i = points[k]
                        square = 0.0
                        for axis in range(axes):
                            way = np.float64(places[axis, i]) - centre[axis]
                            square += way * way * scale[axis]
                        if square >= _LN2:
                            continue
                        if turn == 0:
                            found += 1
                            new += not clustered[i]
                        elif not clustered[i]:
                            clustered[i] = True
                            ids[i] = number if whole else 0
            if turn == 0:
                whole = 2 * new > found and new >= limits[2]
                number += whole
        left -= new
        if whole:
            if number > seeds.size:
                seeds = np.concatenate((seeds, np.empty_like(seeds)))
            seeds[number - 1] = seed
    return ids, seeds[:number]
