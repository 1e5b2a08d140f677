"""Boxes in an array: halos, intersections, and the division of an array into blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """A box ``start <= index < stop`` over the spatial axes, in voxels.

    Examples:
        >>> box = Region((2, 4), (6, 9))
        >>> box.shape, box.grow((1, 1), within=(7, 9))
        ((4, 5), Region(start=(1, 3), stop=(7, 9)))
        >>> box.slices
        (slice(2, 6, None), slice(4, 9, None))
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Edge lengths in voxels."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that index the spatial axes of an array."""
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))

    def grow(self, halo: Sequence[int], within: Sequence[int] | None = None) -> Region:
        """The box with a margin of `halo` voxels per axis on both sides, clipped to an array of shape `within` if given."""
        start = tuple(a - h for a, h in zip(self.start, halo, strict=True))
        stop = tuple(b + h for b, h in zip(self.stop, halo, strict=True))
        if within is None:
            return Region(start, stop)
        return Region(tuple(max(a, 0) for a in start), tuple(min(b, n) for b, n in zip(stop, within, strict=True)))

    def around(self, centre: Sequence[int], voxels: int) -> Region:
        """A part of the box with at most `voxels` voxels, around a place in it: the longest edge is halved until it fits.

        Examples:
            >>> Region((0, 0), (100, 40)).around((90, 20), 2000)
            Region(start=(50, 0), stop=(100, 40))
        """
        edges = list(self.shape)
        while math.prod(edges) > max(voxels, 1):
            longest = edges.index(max(edges))
            edges[longest] = -(-edges[longest] // 2)
        start = tuple(
            min(max(middle - edge // 2, first), last - edge)
            for middle, edge, first, last in zip(centre, edges, self.start, self.stop, strict=True)
        )
        return Region(start, tuple(first + edge for first, edge in zip(start, edges, strict=True)))

    def intersect(self, other: Region) -> Region | None:
        """The intersection with another box, or `None` when it is empty."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(map(min, self.stop, other.stop))
        return None if any(a >= b for a, b in zip(start, stop, strict=True)) else Region(start, stop)

    def shift(self, offset: Sequence[int]) -> Region:
        """The box translated by `offset` voxels per axis."""
        return Region(
            tuple(a + d for a, d in zip(self.start, offset, strict=True)), tuple(b + d for b, d in zip(self.stop, offset, strict=True))
        )

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """The box that covers a whole array of this shape."""
        return cls((0,) * len(shape), tuple(shape))


def blocks(shape: Sequence[int], block: Sequence[int]) -> Iterator[Region]:
    """Divide an array into boxes of shape `block` (smaller at the end of an axis), without overlap, in C order.

    Examples:
        >>> [box.slices[0] for box in blocks((5,), (2,))]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    # in C order: neighbouring blocks share chunks of the file, which are then still in the cache
    starts = [range(0, n, b) for n, b in zip(shape, block, strict=True)]
    for start in itertools.product(*starts):
        yield Region(start, tuple(min(a + b, n) for a, b, n in zip(start, block, shape, strict=True)))
