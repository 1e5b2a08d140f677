"""Exact receptive field of a U-Net: the distance over which an input voxel can change an output voxel.

Pooling makes it depend on the position relative to the pooling grid, so an interval of output indices is traced back through decoder,
skip connections and encoder for every position of one period of the grid, and the largest distance is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

Interval: TypeAlias = tuple[int, int]


def unet_halo(down: Sequence[int], pools: Sequence[int], up: Sequence[int], linear: bool) -> int:
    """Radius of the receptive field of a U-Net along one axis, in voxels.

    Exact for every position relative to the pooling grid; tiles must start at multiples of the product of `pools`.

    Args:
        down: radius of the convolutions of each encoder level together, in voxels of that level.
        pools: pooling factor of each step (one entry less than `down`).
        up: the same as `down` for the decoder (one entry less: the coarsest level has no decoder).
        linear: whether upsampling is linear interpolation, which also reads the neighbouring voxel.

    Examples:
        >>> unet_halo([2], [], [], linear=False)
        2
        >>> unet_halo([2, 2], [2], [2], linear=False)
        9
    """
    encoded = _encoder(down, pools)

    def decoded(level: int, first: int, last: int) -> Interval:
        """Input interval that the indices first..last of the decoder output of this level depend on."""
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
    # one period of the pooling grid contains all cases
    for index in range(prod(pools)):
        low, high = decoded(0, index, index)
        reach = max(reach, index - low, high - index)
    return reach


def _encoder(down: Sequence[int], pools: Sequence[int]) -> Callable[[int, int, int], Interval]:
    """Function (level, first, last) -> input interval that these indices of the encoder output of a level depend on."""

    def encoded(level: int, first: int, last: int) -> Interval:
        for step in range(level, -1, -1):
            first, last = first - down[step], last + down[step]
            if step:
                first, last = first * pools[step - 1], last * pools[step - 1] + pools[step - 1] - 1
        return first, last

    return encoded
