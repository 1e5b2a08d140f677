"""Distance of each voxel of an object to the nearest voxel of any other object, exact.

A distance transform per object would take one pass per object. Here one pass per axis is enough: each voxel carries the nearest object
with its distance, and the distance to the nearest object that is a different one. Whatever object a voxel farther along belongs to, one of
the two is its answer. Complexity: linear in the voxels times the distance of interest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import read_only
from morula.labels.distance import largest_value

_CHUNK = 64  # columns per chunk, whose arrays fit the cache


def distance_to_others(labels: np.ndarray, spacing: Sequence[float], limit: float) -> np.ndarray:
    """Euclidean distance of each voxel of an object to the nearest voxel of another object, at most `limit`; 0 in the background.

    Args:
        labels: (Z)YX uint32.
        spacing: edge lengths of a voxel.
        limit: largest distance of interest, in the same unit.

    Examples:
        >>> distance_to_others(np.array([[1, 1, 0, 2, 2, 2]], np.uint32), (1, 1), 9.0)
        array([[3., 2., 0., 2., 3., 4.]], dtype=float32)
    """
    # the last pass is along z; in 2D that is y
    ids = read_only(labels if labels.ndim == 3 else labels[:, None])
    lengths = np.array([spacing[0], spacing[-2], spacing[-1]], np.float32)
    most = np.float32(limit) ** 2
    first = np.empty_like(ids)
    near, far = np.empty(ids.shape, np.float32), np.empty(ids.shape, np.float32)
    _along_rows(ids, lengths[2], most, first, near, far)
    out = np.empty(labels.shape, np.float32)
    _across(ids, lengths, first, near, far, out.reshape(ids.shape))
    return np.sqrt(out, out=out)


@njit(cache=True, nogil=True)
def _along_rows(  # noqa: C901 - two sweeps
    ids: np.ndarray, length: np.float32, most: np.float32, first: np.ndarray, near: np.ndarray, far: np.ndarray
) -> None:
    """Nearest object, its squared distance and that of the nearest different one, along x."""
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            row, label, one, two = ids[z, y], first[z, y], near[z, y], far[z, y]
            a, at, before = ids.dtype.type(0), -1, -1
            for x in range(nx):
                if row[x] != 0:
                    if row[x] != a:
                        before, a = at, row[x]  # the last voxel of the object before this one
                    at = x
                label[x] = a
                one[x] = min(_squared(x - at, length), most) if at >= 0 else most
                two[x] = min(_squared(x - before, length), most) if before >= 0 else most
            a, at, before = ids.dtype.type(0), -1, -1
            for x in range(nx - 1, -1, -1):
                if row[x] != 0:
                    if row[x] != a:
                        before, a = at, row[x]
                    at = x
                if at < 0:
                    continue
                # the second sweep merges what is to the right with what the first one found to the left
                here, there = _squared(at - x, length), (_squared(before - x, length) if before >= 0 else most)
                if label[x] == a:
                    one[x], two[x] = min(one[x], here), min(two[x], there)
                elif here < one[x]:
                    label[x], one[x], two[x] = a, here, min(one[x], there)
                else:
                    two[x] = min(two[x], here)


@njit(cache=True, nogil=True, inline="always")
def _squared(steps: int, length: np.float32) -> np.float32:
    away = np.float32(steps) * length
    return away * away


@njit(cache=True, nogil=True)
def _across(ids: np.ndarray, lengths: np.ndarray, first: np.ndarray, near: np.ndarray, far: np.ndarray, out: np.ndarray) -> None:
    """The passes along y and z. The one along z gives the result."""
    nz, ny, _ = ids.shape
    for z in range(nz if ny > 1 else 0):
        _two_nearest(lengths[1], first[z], near[z], far[z])
    for y in range(ny):
        _nearest_other(ids[:, y], lengths[0], first[:, y], near[:, y], far[:, y], out[:, y])


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _two_nearest(length: np.float32, first: np.ndarray, near: np.ndarray, far: np.ndarray) -> None:
    """Update the nearest object and both squared distances across the rows of a plane (n, width), in chunks that fit the cache."""
    n, width = first.shape
    for start in range(0, width, _CHUNK):
        size = min(_CHUNK, width - start)
        label, one, two = (
            first[:, start : start + size].copy(),
            near[:, start : start + size].copy(),
            far[:, start : start + size].copy(),
        )
        best_label, best_one, best_two = label.copy(), one.copy(), two.copy()
        for y in range(n):
            k, largest = 0, largest_value(best_two[y])
            while True:
                k += 1
                more = _squared(k, length)
                # no row farther away can improve a value any more
                if more >= largest or (y - k < 0 and y + k >= n):
                    break
                for v in (y - k, y + k):
                    if v < 0 or v >= n:
                        continue
                    for x in range(size):
                        a, da, db = best_label[y, x], best_one[y, x], best_two[y, x]
                        b, d1, d2 = label[v, x], one[v, x] + more, two[v, x] + more
                        same, closer = a == b, d1 < da
                        best_label[y, x] = b if closer else a
                        best_one[y, x] = d1 if closer else da
                        old = da if closer and not same else db
                        new = d2 if same or closer else d1
                        best_two[y, x] = new if new < old else old
                if k % 2 == 0:  # finding the maximum takes as long as one step, in which it shrinks little
                    largest = largest_value(best_two[y])
        first[:, start : start + size], near[:, start : start + size], far[:, start : start + size] = best_label, best_one, best_two


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _nearest_other(ids: np.ndarray, length: np.float32, first: np.ndarray, near: np.ndarray, far: np.ndarray, out: np.ndarray) -> None:
    """Squared distance of the voxels of objects to the nearest other object, across the rows of a plane (n, width), in chunks."""
    n, width = ids.shape
    for start in range(0, width, _CHUNK):
        size = min(_CHUNK, width - start)
        here, label = ids[:, start : start + size].copy(), first[:, start : start + size].copy()
        one, two = near[:, start : start + size].copy(), far[:, start : start + size].copy()
        best = np.where(here != 0, two, np.float32(0))
        for y in range(n):
            k, largest = 0, largest_value(best[y])
            while True:
                k += 1
                more = _squared(k, length)
                if more >= largest or (y - k < 0 and y + k >= n):
                    break
                u = y - k if y - k >= 0 else y + k
                v = y + k if y + k < n else u
                for x in range(size):
                    before = one[u, x] if label[u, x] != here[y, x] else two[u, x]
                    after = one[v, x] if label[v, x] != here[y, x] else two[v, x]
                    value = (before if before < after else after) + more
                    best[y, x] = value if value < best[y, x] else best[y, x]
                if k % 2 == 0:
                    largest = largest_value(best[y])
        for y in range(n):  # an assignment to a slice would take Numba longer to compile, for its messages
            for x in range(size):
                out[y, start + x] = best[y, x]
