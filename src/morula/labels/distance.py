"""Euclidean distance of each voxel to the boundary of its own object, for all objects at once.

Two exact algorithms, both separable: squared distances along x are combined along y, then along z.

* Lower envelopes of parabolas (Felzenszwalb and Huttenlocher 2012; the library edt): linear in the number of voxels.
* Search outwards from each voxel, many voxels at once, until the search distance exceeds every distance found so far: the cost grows with
the
  depth of objects, but the inner loop is SIMD code, which is faster up to a mean depth of about 25 voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, compact_ids, read_only, to_3d
from morula.kernels.geometry import geometry

_DEEP = 25.0
"""Mean depth of objects, in voxels of the finest axis, up to which the search is faster than lower envelopes (measured)."""
_CHUNK = 64
_FAR = 1e12  # squared distance for no limit; an infinite one could become NaN, which the fast arithmetic excludes


def distance(labels: np.ndarray, spacing: Sequence[float], *, limit: float = np.inf, outside: float = 0.0) -> np.ndarray:
    """Euclidean distance (in units of `spacing`) to the nearest voxel of another id or the background, (Z)YX float32.

    The border of the image is no boundary, except for an object that fills the whole image, where it is the only one (unless a limit is
    set: then every distance in such an object exceeds it).

    Args:
        labels: (Z)YX, unsigned integers or bool.
        spacing: edge lengths of a voxel.
        limit: largest distance of interest in objects; longer ones may have any greater value.
        outside: compute distances in the background to the nearest object, too, up to this value; 0 leaves the background 0.

    Examples:
        >>> distance(np.array([[0, 1, 1, 1, 2, 2]], np.uint32), (1, 1))
        array([[0., 1., 2., 1., 1., 2.]], dtype=float32)
        >>> distance(np.array([[0, 0, 0, 1, 1]], np.uint32), (1, 1), outside=2.5)
        array([[2.5, 2. , 1. , 1. , 2. ]], dtype=float32)
    """
    alone = limit == np.inf and bool(labels.flat[0]) and bool((labels == labels.flat[0]).all())
    if alone or (limit == np.inf and _depth(labels, spacing) > _DEEP):
        # with a label for the background, its distances are computed, too
        whole = labels.astype(np.uint32) + np.uint32(1) if outside else labels
        found = edt.edt(whole, anisotropy=tuple(spacing), black_border=alone, parallel=2)
        return np.where(labels == 0, np.minimum(found, np.float32(outside)), found) if outside else found
    out = np.empty(labels.shape, np.float32)
    largest = [np.float32(min(values, _FAR**0.5)) ** 2 for values in (limit, outside)]
    lengths = to_3d(spacing, 1.0).astype(np.float32)
    # one type of ids: the search takes seconds to compile
    ids = as_volume(read_only(labels.astype(np.uint32, copy=False)))
    _search(ids, lengths, np.float32(largest[0]), np.float32(largest[1]), as_volume(out))
    return np.sqrt(out, out=out)


def _depth(labels: np.ndarray, spacing: Sequence[float]) -> float:
    """Upper bound of the mean depth of objects, in voxels of the finest axis: half the shortest side of each object's box, or the whole
    side where the box ends at the border of the image."""
    sample = labels[(slice(None, None, 2),) * labels.ndim]  # an estimate of the effort is enough
    ids, largest = compact_ids(np.ascontiguousarray(sample, np.uint32))
    found = geometry(ids, largest)
    there = found.ids
    starts, stops, shape = found.starts[there], found.stops[there], np.array(ids.shape)
    ends = (starts > 0).astype(int) + (stops < shape)
    sides = 2 * (stops - starts) * np.asarray(spacing) / min(spacing)
    depths = np.where(ends > 0, sides / np.maximum(ends, 1), np.inf).min(axis=1, initial=np.inf)
    return float((depths * found.sizes[there]).sum() / max(found.sizes[there].sum(), 1))


@njit(cache=True, nogil=True)
def _search(ids: np.ndarray, lengths: np.ndarray, most: np.float32, outside: np.float32, out: np.ndarray) -> None:
    """Squared distances. `most` and `outside` are the largest of interest in objects and in the background, squared."""
    nz, ny, _ = ids.shape
    for z in range(nz):
        for y in range(ny):
            _along_row(ids[z, y], lengths[2], most, outside, out[z, y])
    if ny > 1:
        for z in range(nz):
            # `::1` hides that the rows are contiguous: along z they are not, and one compiled version serves both
            _across_rows(ids[z, ::1], lengths[1], out[z, ::1])
    if nz > 1:
        for y in range(ny):
            _across_rows(ids[:, y], lengths[0], out[:, y])


@njit(cache=True, nogil=True)
def _along_row(ids: np.ndarray, length: np.float32, most: np.float32, outside: np.float32, out: np.ndarray) -> None:
    """Squared distance to the ends of the run of each voxel, clipped to the largest of interest."""
    n = ids.size
    first = 0
    while first < n:
        stop = first + 1
        while stop < n and ids[stop] == ids[first]:
            stop += 1
        limit = most if ids[first] != 0 else outside
        for x in range(first, stop):
            left = x - first + 1 if first > 0 else n
            right = stop - x if stop < n else n
            away = np.float32(min(left, right)) * length
            out[x] = min(away * away, limit) if first > 0 or stop < n else limit
        first = stop


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _across_rows(ids: np.ndarray, length: np.float32, out: np.ndarray) -> None:
    """Lower squared distances along rows to those across them: a voxel k rows away contributes its own squared distance + k^2, or k^2
    where it belongs to another object.

    `ids` and `out` (n, width). Rows are compared in chunks; the search stops when k exceeds every distance in the chunk.
    """
    n, width = ids.shape
    for start in range(0, width, _CHUNK):
        size = min(_CHUNK, width - start)
        here, before = ids[:, start : start + size].copy(), out[:, start : start + size].copy()
        best = before.copy()
        for y in range(n):
            k, most = 0, largest_value(best[y])
            while True:
                k += 1
                step = np.float32(k) * length
                more = step * step
                # farther rows cannot lower any distance of this chunk
                if more >= most or (y - k < 0 and y + k >= n):
                    break
                u = y - k if y - k >= 0 else y + k
                v = y + k if y + k < n else u
                for x in range(size):
                    one = before[u, x] if here[u, x] == here[y, x] else np.float32(0)
                    two = before[v, x] if here[v, x] == here[y, x] else np.float32(0)
                    value = (one if one < two else two) + more
                    best[y, x] = value if value < best[y, x] else best[y, x]
                if k % 2 == 0:
                    most = largest_value(best[y])
        for y in range(n):  # an assignment to a slice would take Numba longer to compile, for its messages
            for x in range(size):
                out[y, start + x] = best[y, x]


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"}, inline="always")
def largest_value(values: np.ndarray) -> np.float32:
    """The largest of values that are not negative."""
    most = np.float32(0)
    for x in range(values.size):
        most = values[x] if values[x] > most else most
    return most


def normalise(values: np.ndarray, labels: np.ndarray, largest: int, constant: float) -> np.ndarray:
    """Values scaled to [0, 1] per object by its smallest and largest value; an object with a single value gets `constant`.

    `values` float32 and compact `labels` of one shape; 0 in the background.
    """
    out = np.empty_like(values)
    _normalise(values.ravel(), read_only(labels).ravel(), largest, np.float32(constant), out.ravel())
    return out


@njit(cache=True, nogil=True)
def _normalise(values: np.ndarray, ids: np.ndarray, largest: int, constant: np.float32, out: np.ndarray) -> None:
    low = np.full(largest + 1, np.float32(np.inf))
    high = np.full(largest + 1, np.float32(-np.inf))
    for i in range(ids.size):
        label = ids[i]
        if label != 0:
            low[label] = min(low[label], values[i])
            high[label] = max(high[label], values[i])
    scale = np.zeros(largest + 1, np.float32)
    for label in range(1, largest + 1):
        if high[label] > low[label]:
            scale[label] = high[label] - low[label]
    for i in range(ids.size):
        label = ids[i]
        if label == 0:
            out[i] = 0
        elif scale[label] == 0:
            out[i] = constant
        else:
            out[i] = (values[i] - low[label]) / scale[label]
