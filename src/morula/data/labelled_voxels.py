"""Where an image is labelled, for images of any size: voxels are counted by boxes, and each voxel is read once.

Boxes may overlap, so their voxels are counted with running sums of each block of the image, along one axis after the other::

    voxels in [a, b) = sums[b] - sums[a]     leaves one number per box along this axis

A box that spans several blocks is the sum of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from morula.core.array import ArraySource
from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.region import Region, blocks
from morula.data.crop import crop
from morula.data.sampling import Grid, box_around

Present: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Maps label values C(Z)YX to the mask (Z)YX of the voxels that are meant."""

_BLOCK = 2**22  # voxels that are read together
_INDEXED = {2: (256, 256), 3: (32, 64, 64)}  # a voxel is searched in blocks of this shape


def labelled_voxels(labels: ArraySource, grid: Grid, ignored: int | None = None) -> np.ndarray:
    """Number of labelled voxels in each box of a grid, summed over channels: an array with one axis for each axis of the grid.

    `labels` is C(Z)YX and may be lazy; voxels with the label `ignored` do not count.
    """
    starts = [np.asarray(along) for along in grid.starts]
    return _count(
        labels,
        starts,
        [along + edge for along, edge in zip(starts, grid.shape, strict=True)],
        partial(_differs, others=_background(ignored)),
    )


def foreground(ignored: int | None) -> Present:
    """Voxels with a label other than 0 and `ignored` in any channel."""
    return partial(_any_differs, others=_background(ignored))


def _background(ignored: int | None) -> tuple[int, ...]:
    return (0,) if ignored is None else (0, ignored)


def _differs(values: np.ndarray, others: Sequence[int]) -> np.ndarray:
    found = values != others[0]
    for other in others[1:]:
        found &= values != other
    return found


# functions of the module, not lambdas: they are sent to worker processes
def _any_differs(values: np.ndarray, others: Sequence[int]) -> np.ndarray:
    return np.logical_or.reduce(_differs(values, others), axis=0)


def _all_differ(values: np.ndarray, others: Sequence[int]) -> np.ndarray:
    return np.logical_and.reduce(_differs(values, others), axis=0)


class LabelledVoxels:
    """The voxels of a label image that are `present`: their number by blocks, so that one of them is found by reading one block.

    Args:
        labels: label image, may be lazy.
        extent: the box that may be read.
        present: the voxels that are meant.

    Examples:
        >>> labels = Image(np.array([[9, 9, 9, 0, 9, 9]]), "YX")
        >>> found = LabelledVoxels(labels, Region.whole((1, 6)), lambda values: values[0] != 9)
        >>> found.touches(found.box((1, 2), np.random.default_rng(0))), found.touches(Region((0, 4), (1, 6)))
        (True, False)
    """

    def __init__(self, labels: Image, extent: Region, present: Present) -> None:
        self._labels, self._extent, self._present = labels, extent, present
        edges = _INDEXED[len(extent.shape)]
        starts = [np.arange(low, high, edge) for low, high, edge in zip(extent.start, extent.stop, edges, strict=True)]
        stops = [np.minimum(along + edge, high) for along, high, edge in zip(starts, extent.stop, edges, strict=True)]
        counts = _count(labels.lazy(), starts, stops, present)
        self._blocks = [block.shift(extent.start) for block in blocks(extent.shape, edges)]
        self._ends = np.cumsum(counts.ravel())

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def all(self) -> bool:
        """Whether every voxel is present."""
        return len(self) == math.prod(self._extent.shape)

    def _mask(self, region: Region) -> np.ndarray:
        return self._present(crop(self._labels, region))

    def voxel(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A random voxel that is present, all of them equally likely; there must be one."""
        # choose a block in proportion to its voxels, then a voxel in it: only one block is read
        number = int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))
        block = self._blocks[number]
        voxels = np.flatnonzero(self._mask(block))
        voxel = np.unravel_index(voxels[rng.integers(len(voxels))], block.shape)
        return tuple(int(v) + a for v, a in zip(voxel, block.start, strict=True))

    def box(self, shape: Sequence[int], rng: np.random.Generator) -> Region:
        """A box that contains a random voxel that is present.

        Every voxel, and every position of it in the box, is equally likely as far as the extent allows.
        """
        centre = [v - int(rng.integers(k)) + k // 2 for v, k in zip(self.voxel(rng), shape, strict=True)]
        return box_around(centre, self._extent, shape)

    def touches(self, region: Region) -> bool:
        """Whether any voxel of the box is present."""
        inside = region.intersect(self._extent)
        return inside is not None and bool(self._mask(inside).any())


def annotated_voxels(labels: Image, extent: Region, unlabelled: int, name: str = "the image") -> LabelledVoxels:
    """The annotated voxels of a sparsely annotated image, which have another value than `unlabelled`.

    Raises:
        DataError: when no voxel of the extent is annotated.
    """
    found = LabelledVoxels(labels, extent, partial(_all_differ, others=(unlabelled,)))
    if not len(found):
        raise DataError(
            "labels.none_annotated",
            f"no voxel of the label image is annotated: all have the value {unlabelled} or are outside the mask",
            file=name,
            remedy="Annotate a part of it, or leave it out.",
        )
    return found


def _count(labels: ArraySource, starts: Sequence[np.ndarray], stops: Sequence[np.ndarray], present: Present) -> np.ndarray:
    """Number of voxels in each box that are meant, summed over channels where the mask has any; boxes are the products of the intervals of
    each axis."""
    counts = np.zeros([len(along) for along in starts], np.int64)
    shape = tuple(labels.shape[1:])
    used = Region(tuple(int(along[0]) for along in starts), tuple(int(along[-1]) for along in stops))
    for block in blocks(shape, _block(shape, getattr(labels, "chunks", None))):
        box = block.intersect(used)
        if box is None:
            continue
        found = present(np.asarray(labels[(slice(None), *box.slices)]))
        within = found if found.ndim == len(shape) else found.sum(axis=0, dtype=np.int64)
        for axis in reversed(range(len(shape))):
            # the part of each interval that is in this block
            ends = [np.clip(along[axis] - box.start[axis], 0, box.shape[axis]) for along in (starts, stops)]
            sums = np.zeros([n + (number == axis) for number, n in enumerate(within.shape)], np.int64)
            np.cumsum(within, axis=axis, out=sums[(slice(None),) * axis + (slice(1, None),)])
            within = np.take(sums, ends[1], axis=axis) - np.take(sums, ends[0], axis=axis)
        counts += within
    return counts


def _block(shape: Sequence[int], chunks: Sequence[int] | None) -> tuple[int, ...]:
    """Shape of blocks of about `_BLOCK` voxels; whole chunks where the file has any, because a chunk is decompressed as a whole."""
    block = [min(n, edge) for n, edge in zip(shape, (chunks or (1,) * len(shape))[-len(shape) :], strict=True)]
    for axis in reversed(range(len(shape))):
        # the last axis grows first: it is contiguous in the file
        room = _BLOCK // max(int(np.prod(block)), 1)
        block[axis] = min(shape[axis], block[axis] * max(room, 1))
    return tuple(block)
