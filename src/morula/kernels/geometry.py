"""Size, box and centroid of each object, in one pass over the runs of equal ids along x.

A run contributes its length, its ends and the sum of its coordinates at once, so that the work per voxel is one comparison. That is several
times faster than `cc3d.statistics` (docs/decisions/0011-kernels-kept.md). Complexity: linear in the number of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, read_only


@dataclass(frozen=True, eq=False)
class Geometry:
    """Tables indexed by id; row 0 is the background, absent ids have size 0.

    `sizes` (n+1,) voxels; `centroids` (n+1, ndim) in voxels, NaN where absent;
    `starts` and `stops` (n+1, ndim) boxes, start <= index < stop.
    """

    sizes: np.ndarray
    centroids: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """Ids of the objects that are present, ascending."""
        return np.flatnonzero(self.sizes[1:]) + 1

    def shifted(self, offset: Sequence[int]) -> Geometry:
        """The tables with all positions moved by a number of voxels per axis."""
        step = np.asarray(offset)
        return Geometry(self.sizes, self.centroids + step, self.starts + step, self.stops + step)

    def box(self, label: int, margin: int = 0) -> tuple[slice, ...]:
        """The object's box as slices, extended by a margin on both sides (clipped at 0; NumPy clips the other end)."""
        return tuple(slice(max(int(a) - margin, 0), int(b) + margin) for a, b in zip(self.starts[label], self.stops[label], strict=True))


def geometry(labels: np.ndarray, largest: int | None = None) -> Geometry:
    """Size, centroid and box of each id in compact labels (Z)YX (see `morula.core.label_image.compact_ids`).

    Examples:
        >>> table = geometry(np.array([[0, 1, 1], [0, 0, 1]], np.uint32))
        >>> table.sizes.tolist(), table.centroids[1].round(2).tolist(), table.box(1)
        ([3, 3], [0.33, 1.67], (slice(0, 2, None), slice(1, 3, None)))
    """
    largest = int(labels.max()) if largest is None else largest
    sizes, sums, starts, stops = _tables(as_volume(read_only(labels)), largest)
    ndim = labels.ndim
    # absent ids have size 0 and get NaN centroids
    with np.errstate(invalid="ignore"):
        centroids = sums / sizes[:, None]
    return Geometry(sizes, centroids[:, -ndim:], starts[:, -ndim:], stops[:, -ndim:])


def voxel_counts(labels: np.ndarray, largest: int) -> np.ndarray:
    """Number of voxels of each id, (largest + 1,) int64; index 0 is the background."""
    counts = np.zeros(largest + 1, np.int64)
    _count(labels.ravel(), counts)
    return counts


@njit(cache=True, nogil=True)
def _count(flat: np.ndarray, counts: np.ndarray) -> None:
    start, previous = 0, flat[0]
    for i in range(1, flat.size):
        if flat[i] != previous:
            counts[previous] += i - start
            start, previous = i, flat[i]
    counts[previous] += flat.size - start


@njit(cache=True, nogil=True)
def _tables(ids: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    nz, ny, nx = ids.shape
    sizes = np.zeros(largest + 1, np.int64)
    # float64 holds sums of coordinates and their halves exactly up to 2^52
    sums = np.zeros((largest + 1, 3), np.float64)
    # beyond every image, so that the first run of an object lowers it
    starts = np.full((largest + 1, 3), np.int64(1) << 40)
    stops = np.zeros((largest + 1, 3), np.int64)
    for z in range(nz):
        for y in range(ny):
            x = 0
            while x < nx:
                label, first = ids[z, y, x], x
                # one run of equal ids
                while x < nx and ids[z, y, x] == label:
                    x += 1
                length = x - first
                sizes[label] += length
                sums[label, 0] += z * length
                sums[label, 1] += y * length
                # the sum of consecutive coordinates is their mean times their number
                sums[label, 2] += 0.5 * (first + x - 1) * length
                starts[label, 0] = min(starts[label, 0], z)
                starts[label, 1] = min(starts[label, 1], y)
                starts[label, 2] = min(starts[label, 2], first)
                stops[label, 0] = max(stops[label, 0], z + 1)
                stops[label, 1] = max(stops[label, 1], y + 1)
                stops[label, 2] = max(stops[label, 2], x)
    return sizes, sums, starts, stops
