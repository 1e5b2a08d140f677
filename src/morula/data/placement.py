"""Boxes that are read for a patch: turned before a rotation, and with a side moved for a change of scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.orientation import Orientation
from morula.core.region import Region
from morula.data.augment.warp import Warp


def turned(region: Region, orientation: Orientation, extent: Region) -> Region:
    """The box that has the shape of the region after the orientation: about the same centre, moved into the extent where it fits.

    Examples:
        >>> quarter = Orientation((1, 0), (False, True))
        >>> turned(Region((0, 4), (2, 10)), quarter, Region((0, 0), (20, 20)))
        Region(start=(0, 6), stop=(6, 8))
    """
    edges = tuple(region.shape[orientation.permutation.index(axis)] for axis in range(len(region.shape)))
    start = []
    for a, old, new, low, n in zip(region.start, region.shape, edges, extent.start, extent.shape, strict=True):
        first = a + (old - new) // 2
        start.append(first if old == new or new > n else min(max(first, low), low + n - new))
    return Region(tuple(start), tuple(a + edge for a, edge in zip(start, edges, strict=True)))


def change_of_scale(region: Region, extent: Region, most: int, rng: np.random.Generator, spacing: Sequence[float]) -> Warp:
    """The warp of a patch one side of which is moved by less than `most` voxels along each axis, outwards or inwards, within the image.

    Args:
        region: the patch in voxels of the image.
        extent: the image.
        most: voxels, exclusive.
        rng: draws the side, the direction and the voxels along each axis.
        spacing: edge lengths of a voxel.

    Examples:
        >>> patch, image = Region((2, 2), (10, 10)), Region((0, 0), (12, 12))
        >>> change_of_scale(patch, image, 1, np.random.default_rng(0), (1, 1)).matrix.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    ndim = len(region.start)
    offsets = rng.integers(0, most, ndim) * (1 if rng.random() < 0.5 else -1)
    at_start = rng.random() < 0.5
    scale, shift = np.ones(ndim), np.zeros(ndim)
    for axis, (a, b, first, last) in enumerate(zip(region.start, region.stop, extent.start, extent.stop, strict=True)):
        if b - a > 1:
            low = max(first, a + int(offsets[axis])) if at_start and a >= first else a
            high = min(last, b + int(offsets[axis])) if not at_start and b <= last else b
            scale[axis] = (high - low) / (b - a)
            shift[axis] = (low + high - a - b) / 2 * spacing[axis]
    return Warp.affine(np.diag(scale), shift)
