"""Resolution pyramids: planned from shape and spacing, built block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.array import ArraySource, ArrayTarget
from morula.core.axes import Axes
from morula.core.region import Region, blocks

_SMALL = 256  # voxels: a level of this size is shown at once by every viewer
_COARSER = 1.5  # between 1 and 2: halving an axis that is coarser than this would move its spacing away from the others


def plan_levels(shape: Sequence[int], axes: Axes, spacing: Sequence[float]) -> list[tuple[int, ...]]:
    """Downsampling factors per level and axis: powers of 2, until no axis that is halved is longer than 256 voxels.

    An axis whose spacing is more than 1.5 times that of the finest is not halved until the others have reached it.

    Args:
        shape: of level 0, in the order of `axes`.
        axes: names of the dimensions.
        spacing: voxel edge lengths of the spatial axes in the order of `axes`.

    Examples:
        >>> plan_levels((64, 1000, 1000), Axes("ZYX"), (1.0, 0.25, 0.25))
        [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    """
    factors = [1] * len(shape)
    length = dict(zip(axes.spatial, spacing, strict=True))
    levels = [tuple(factors)]
    while True:
        edges = {letter: -(-shape[axes.index(letter)] // factors[axes.index(letter)]) for letter in axes.spatial}
        # z does not count as the finest: stacks are sampled more coarsely along it, and planes are what viewers show
        finest = min((length[letter] * factors[axes.index(letter)] for letter in "YX" if edges[letter] > 1), default=0.0)
        halved = [
            letter for letter in axes.spatial if edges[letter] > 1 and length[letter] * factors[axes.index(letter)] <= _COARSER * finest
        ]
        if not halved or max(edges[letter] for letter in halved) <= _SMALL:
            return levels
        for letter in halved:
            factors[axes.index(letter)] *= 2
        levels.append(tuple(factors))


def level_shape(shape: Sequence[int], factors: Sequence[int]) -> tuple[int, ...]:
    """Shape of a level, rounded up."""
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def shrink_mean(source: ArraySource, target: ArrayTarget, block: Sequence[int]) -> None:
    """Fill `target` with the mean of the 1 or 2 source voxels per axis that each target voxel covers, block by block."""
    ratio = [1 if n == m else 2 for n, m in zip(source.shape, target.shape, strict=True)]
    for box in blocks(target.shape, block):
        region = tuple(slice(a * r, min(b * r, n)) for a, b, r, n in zip(box.start, box.stop, ratio, source.shape, strict=True))
        values = np.asarray(source[region])
        # an odd axis ends with half a pair: repeating the last voxel gives the mean of that voxel alone
        values = np.pad(values, [(0, b * r - n) for b, r, n in zip(box.shape, ratio, values.shape, strict=True)], mode="edge")
        split = [part for b, r in zip(box.shape, ratio, strict=True) for part in (b, r)]
        # each axis becomes (voxels of the target, 1 or 2); means of up to 16 bits are exact enough in float32
        mean = values.reshape(split).mean(
            axis=tuple(range(1, len(split), 2)), dtype=np.float64 if values.dtype.itemsize > 2 else np.float32
        )
        target[box.slices] = (np.rint(mean) if np.issubdtype(target.dtype, np.integer) else mean).astype(target.dtype)


def shrink_nearest(source: ArraySource, target: ArrayTarget, block: Sequence[int], level: int) -> None:
    """Fill `target` with the source voxel nearest to the centre of each target voxel, block by block; for any pair of shapes.

    When an axis is halved, two voxels are equally near. Odd levels take the first and even levels the second one, so that the shift does
    not add up over the levels.
    """
    nearest = [_nearest(n, m, level) for n, m in zip(source.shape, target.shape, strict=True)]
    for box in blocks(target.shape, block):
        picks = [index[a:b] for index, a, b in zip(nearest, box.start, box.stop, strict=True)]
        region = Region(tuple(int(p[0]) for p in picks), tuple(int(p[-1]) + 1 for p in picks))
        values = np.asarray(source[region.slices])
        target[box.slices] = values[np.ix_(*[p - p[0] for p in picks])]


def _nearest(n: int, m: int, level: int) -> np.ndarray:
    # the small shift decides between two equally near voxels
    place = (np.arange(m) + 0.5) * (n / m) - (1e-6 if level % 2 else 0.0)
    return np.clip(place.astype(np.int64), 0, n - 1)
