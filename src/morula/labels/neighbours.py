"""Distance of each voxel to the nearest other object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.labels.check import three, volume


def distance_to_others(labels: np.ndarray, spacing: Sequence[float], limit: float) -> np.ndarray:
    """Euclidean distance of each voxel of an object to the nearest voxel of another object, at most `limit`; 0 in the background.

    Exact, by one pass an axis that keeps for each voxel the two nearest objects: the nearest one is its own.

    Args:
        labels: (Z)YX uint32.
        spacing: edge lengths of a voxel.
        limit: largest distance of interest, in the same unit.

    Examples:
        >>> distance_to_others(np.array([[1, 1, 0, 2, 2, 2]], np.uint32), (1, 1), 9.0)
        array([[3., 2., 0., 2., 3., 4.]], dtype=float32)
    """
    ids = volume(labels)
    lengths = three(spacing, 1.0).astype(np.float32)
    first, second = np.zeros_like(ids), np.zeros_like(ids)
    near, far = np.full(ids.shape, np.inf, np.float32), np.full(ids.shape, np.inf, np.float32)
    most = np.float32(limit) ** 2
    _along_rows(ids, lengths[2], first, second, near, far)
    _along_columns(lengths[1], most, first, second, near, far)
    out = np.zeros(labels.shape, np.float32)
    _across_planes(ids, lengths[0], most, first, second, near, far, volume(out))
    return out


@njit(cache=True, nogil=True)
def _along_rows(ids: np.ndarray, length: np.float32, first: np.ndarray, second: np.ndarray, near: np.ndarray, far: np.ndarray) -> None:
    nz, ny, nx = ids.shape
    none = -1
    for z in range(nz):
        for y in range(ny):
            for step in (1, -1):
                a, b, at, before = ids.dtype.type(0), ids.dtype.type(0), none, none
                for i in range(nx):
                    x = i if step == 1 else nx - 1 - i
                    here = ids[z, y, x]
                    if here != 0:
                        if here != a:
                            b, before = a, at
                        a, at = here, x
                    for label, place in ((a, at), (b, before)):
                        if label != 0:
                            distance = np.float32((x - place) * length) ** 2
                            _insert(first, second, near, far, z, y, x, label, distance)


@njit(cache=True, nogil=True, inline="always")
def _insert(  # noqa: PLR0913 - inlined into the loops
    first: np.ndarray, second: np.ndarray, near: np.ndarray, far: np.ndarray, z: int, y: int, x: int, label: int, distance: np.float32
) -> None:
    """Keep an object with its squared distance where it is one of the two nearest."""
    if distance < far[z, y, x]:
        if label == first[z, y, x]:
            near[z, y, x] = min(near[z, y, x], distance)
        elif distance < near[z, y, x]:
            second[z, y, x], far[z, y, x] = first[z, y, x], near[z, y, x]
            first[z, y, x], near[z, y, x] = label, distance
        else:
            second[z, y, x], far[z, y, x] = label, distance


@njit(cache=True, nogil=True)
def _along_columns(  # noqa: C901 - the search to both sides
    length: np.float32, most: np.float32, first: np.ndarray, second: np.ndarray, near: np.ndarray, far: np.ndarray
) -> None:
    nz, ny, nx = first.shape
    for z in range(nz):
        ones, twos, nears, fars = first[z].copy(), second[z].copy(), near[z].copy(), far[z].copy()
        for y in range(ny):
            for x in range(nx):
                a, b, da, db = ones[y, x], twos[y, x], nears[y, x], fars[y, x]
                k = 0
                while True:
                    k += 1
                    more = (k * length) ** 2
                    if more >= db or more >= most or (y - k < 0 and y + k >= ny):
                        break
                    for v in (y - k, y + k):
                        if v < 0 or v >= ny or nears[v, x] + more >= db:
                            continue
                        label, distance = ones[v, x], nears[v, x] + more
                        if label == a:
                            da = min(da, distance)
                        elif distance < da:
                            a, b, da, db = label, a, distance, da
                        else:
                            b, db = label, distance
                        label, distance = twos[v, x], fars[v, x] + more
                        if distance < db:
                            if label == a:
                                da = min(da, distance)
                            elif distance < da:
                                a, b, da, db = label, a, distance, da
                            else:
                                b, db = label, distance
                first[z, y, x], second[z, y, x], near[z, y, x], far[z, y, x] = a, b, da, db


@njit(cache=True, nogil=True)
def _across_planes(
    ids: np.ndarray,
    length: np.float32,
    most: np.float32,
    first: np.ndarray,
    second: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    out: np.ndarray,
) -> None:
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = ids[z, y, x]
                if here == 0:
                    continue
                best = min(most, far[z, y, x] if first[z, y, x] == here else near[z, y, x])
                k = 0
                while True:
                    k += 1
                    more = (k * length) ** 2
                    if more >= best or (z - k < 0 and z + k >= nz):
                        break
                    for w in (z - k, z + k):
                        if 0 <= w < nz:
                            best = min(best, more + (far[w, y, x] if first[w, y, x] == here else near[w, y, x]))
                out[z, y, x] = np.sqrt(best)
