"""Values at the source positions of a warp: linear for images, nearest voxel for labels, with reflect padding beyond the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morula.core.label_image import read_only
from morula.core.region import Region
from morula.data.augment.interpolate import linear
from morula.data.augment.warp import VoxelMap, lifted

SPLINE_REACH = 12  # distance in voxels beyond which a value changes a spline by less than float32 resolves


@dataclass(frozen=True, eq=False)
class Fetched:
    """The part of an image that a warp needs. `start` is its position, `extent` the box at whose ends values are reflected."""

    array: np.ndarray
    start: tuple[int, ...]
    extent: Region

    def linear(self, where: VoxelMap) -> np.ndarray:
        """Linear interpolation, C(Z)YX float32."""
        source = read_only(np.asarray(self.array, np.float32)).reshape(len(self.array), *lifted(self.array.shape[1:]))
        out = np.empty((len(source), *lifted(where.shape)), np.float32)
        linear(source, *self._place(), where.matrix, where.offset, where.field, out)
        return out.reshape(len(source), *where.shape)

    def nearest(self, where: VoxelMap) -> np.ndarray:
        """Values of the nearest voxels, C(Z)YX of the same dtype."""
        from morula.data.augment.interpolate import nearest

        source = read_only(self.array).reshape(len(self.array), *lifted(self.array.shape[1:]))
        out = np.empty((len(source), *lifted(where.shape)), source.dtype)
        nearest(source, *self._place(), where.matrix, where.offset, where.field, out)
        return out.reshape(len(source), *where.shape)

    def spline(self, where: VoxelMap, order: int) -> np.ndarray:
        """Spline interpolation of order 2 to 5, C(Z)YX float32; values may exceed the range of the image.

        The part must extend `SPLINE_REACH` voxels beyond the map, or to the end of the image.
        """
        from scipy.ndimage import map_coordinates

        source = np.ascontiguousarray(self.array, np.float32).reshape(len(self.array), *lifted(self.array.shape[1:]))
        start, low, n = self._place()
        places = where.places()
        for axis in range(3):
            period = max(2.0 * (n[axis] - 1), 1.0)
            distance = np.abs(places[axis] - low[axis]) % period
            places[axis] = np.minimum(distance, period - distance) + (low[axis] - start[axis]) if n[axis] > 1 else 0.0
        channels = [map_coordinates(channel, places, np.float32, order, mode="mirror") for channel in source]
        return np.stack(channels).reshape(len(source), *where.shape)

    def _place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lift = 3 - len(self.start)
        return (
            np.array((0,) * lift + self.start, np.int64),
            np.array((0,) * lift + self.extent.start, np.int64),
            np.array((1,) * lift + self.extent.shape, np.int64),
        )


def fetch_region(region: Region, extent: Region) -> Region:
    """The box to read for source positions in `region`: its part inside the extent, and what is reflected where it exceeds the extent.

    Examples:
        >>> fetch_region(Region((-30,), (10,)), Region((0,), (100,)))
        Region(start=(0,), stop=(31,))
    """
    start, stop = [], []
    for a, b, low, high in zip(region.start, region.stop, extent.start, extent.stop, strict=True):
        first, last = a, b - 1
        if a < low:
            first, last = low, max(last, 2 * low - a)
        if b > high:
            first, last = min(first, 2 * (high - 1) - (b - 1)), high - 1
        start.append(min(max(first, low), high - 1))
        stop.append(max(min(last, high - 1), start[-1]) + 1)
    return Region(tuple(start), tuple(stop))
