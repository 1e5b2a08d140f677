"""How far a U-Net sees: the exact distance over which an input voxel can change an output voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

Interval: TypeAlias = tuple[int, int]


def unet_halo(down: Sequence[int], pools: Sequence[int], up: Sequence[int], linear: bool) -> int:
    """Voxels along one axis that an output voxel of a U-Net sees at most to either side.

    Exact for every position relative to the pooling grid; tiles must start at multiples of the product of `pools`.

    Args:
        down: voxels that the convolutions of each level see to either side on the way down, in voxels of that level.
        pools: pooling factor of each step down (one entry less than `down`).
        up: the same as `down` on the way up (one entry less: the last level has no way up).
        linear: whether levels are brought up by linear interpolation, which also sees the neighbour.

    Examples:
        >>> unet_halo([2], [], [], linear=False)
        2
        >>> unet_halo([2, 2], [2], [2], linear=False)
        9
    """
    encoded = _encoder(down, pools)

    def decoded(level: int, first: int, last: int) -> Interval:
        """Input interval seen by the indices first..last of this level's end result."""
        if level == len(pools):
            return encoded(level, first, last)
        first, last = first - up[level], last + up[level]
        skip = encoded(level, first, last)
        factor = pools[level]
        if linear:
            coarse = (2 * first + 1 - factor) // (2 * factor), -((factor - 1 - 2 * last) // (2 * factor))
        else:
            coarse = first // factor, last // factor
        low, high = decoded(level + 1, *coarse)
        return min(low, skip[0]), max(high, skip[1])

    reach = 0
    for index in range(prod(pools)):
        low, high = decoded(0, index, index)
        reach = max(reach, index - low, high - index)
    return reach


def _encoder(down: Sequence[int], pools: Sequence[int]) -> Callable[[int, int, int], Interval]:
    """Function (level, first, last) -> input interval seen by these indices at the end of the level's way down."""

    def encoded(level: int, first: int, last: int) -> Interval:
        for step in range(level, -1, -1):
            first, last = first - down[step], last + down[step]
            if step:
                first, last = first * pools[step - 1], last * pools[step - 1] + pools[step - 1] - 1
        return first, last

    return encoded
