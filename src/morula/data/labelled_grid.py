"""The boxes of a grid that hold enough labelled voxels.

Boxes overlap, so their labelled voxels are counted with a summed volume table (integral image) of each block of the image::

    labelled voxels in [a, b) = table[b] - table[a]     along each axis in turn

Each voxel is read once, and a box that spans several blocks is the sum of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.array import ArraySource
from morula.core.errors import DataError
from morula.core.region import Region, blocks
from morula.data.sampling import Boxes, Grid

_BLOCK = 2**22  # voxels that are read together
_SEED = 47  # that of pytorch-3dunet, so that the same boxes are kept


@dataclass(frozen=True, eq=False)
class LabelledGrid:
    """The boxes of a grid that are numbered in `kept`."""

    grid: Boxes
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int, /) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.grid[int(self.kept[index])]


def labelled_boxes(
    labels: ArraySource, grid: Grid, least: float, *, accept: float = 0.0, ignored: int | None = None, name: str = "the image"
) -> LabelledGrid:
    """The boxes with more than a share of labelled voxels, and some of the others.

    Args:
        labels: C(Z)YX, may be lazy.
        grid: of the boxes, inside the labels or beyond them.
        least: share of labelled voxels, of all channels.
        accept: probability that any other box is kept.
        ignored: label whose voxels count as unlabelled.
        name: of the image, for messages.

    Raises:
        DataError: when no box is kept.

    Examples:
        >>> labels = np.array([[[0, 0, 1, 1, 1, 0]]])
        >>> found = labelled_boxes(labels, Grid(Region((0, 0), (1, 6)), (1, 2), (1, 2)), 0.5)
        >>> [found[i].start for i in range(len(found))]
        [(0, 2)]
    """
    share = labelled_voxels(labels, grid, ignored).ravel() / (labels.shape[0] * math.prod(grid.shape))
    kept = share > least
    kept[~kept] = np.random.RandomState(_SEED).random_sample(int((~kept).sum())) < accept
    if not kept.any():
        raise DataError(
            "patch.nothing_labelled",
            f"{name}: none of {len(grid)} patches has more than {least:g} of its voxels labelled (at most {share.max():.3g})",
            remedy="Lower this share, or use all patches.",
        )
    return LabelledGrid(grid, np.flatnonzero(kept))


def labelled_voxels(labels: ArraySource, grid: Grid, ignored: int | None = None) -> np.ndarray:
    """Number of labelled voxels in each box of a grid, summed over channels: an array with one axis for each axis of the grid."""
    counts = np.zeros(grid.counts, np.int64)
    shape = tuple(labels.shape[1:])
    for box in blocks(shape, _block(shape, getattr(labels, "chunks", None))):
        values = np.asarray(labels[(slice(None), *box.slices)])
        present = values != 0
        if ignored is not None:
            present &= values != ignored
        table = present.sum(axis=0, dtype=np.int64)
        for axis in range(table.ndim):
            table = table.cumsum(axis)
        sums = np.pad(table, [(1, 0)] * table.ndim)
        ends = [
            [np.clip(starts - low + shift, 0, n) for shift in (0, edge)]  # the part of each box that is in this block
            for starts, low, n, edge in zip(grid.starts, box.start, box.shape, grid.shape, strict=True)
        ]
        for axis, (first, last) in enumerate(ends):
            sums = np.take(sums, last, axis=axis) - np.take(sums, first, axis=axis)
        counts += sums
    return counts


def _block(shape: Sequence[int], chunks: Sequence[int] | None) -> tuple[int, ...]:
    """Shape of blocks of about `_BLOCK` voxels; whole chunks where the file has any, because a chunk is decompressed as a whole."""
    block = [min(n, edge) for n, edge in zip(shape, (chunks or (1,) * len(shape))[-len(shape) :], strict=True)]
    for axis in reversed(range(len(shape))):
        # the last axis grows first: it is contiguous in the file
        room = _BLOCK // max(int(np.prod(block)), 1)
        block[axis] = min(shape[axis], block[axis] * max(room, 1))
    return tuple(block)
