"""Positions of the patches in a volume: a grid, from which patches with few labels may be left out.

`FilterSliceBuilder` needs the number of labelled voxels of each patch. Patches overlap, so they are counted with a summed volume table
(integral image) of each block of the volume::

    labelled voxels in [a, b) = table[b] - table[a]     along each axis in turn

Each voxel is read once, and a patch that spans several blocks is the sum of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.errors import DataError
from morula.core.region import Region, blocks
from morula.data.sampling import Grid
from morula.dialects.pytorch3dunet.keys import Section
from morula.dialects.pytorch3dunet.volumes import Array

_BLOCK = 2**22  # voxels that are read together


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """The boxes of a grid, or those numbered in `kept` (numbers in the order z, y, x).

    Examples:
        >>> from morula.dialects.pytorch3dunet.sections import SliceBuilderOptions
        >>> grid = PatchGrid.of((4, 10, 6), SliceBuilderOptions(patch_shape=(2, 4, 6), stride_shape=(2, 4, 6), skip_shape_check=True))
        >>> len(grid), grid[4].start
        (6, (2, 4, 0))
    """

    grid: Grid
    kept: np.ndarray | None = None

    @classmethod
    def of(cls, shape: Sequence[int], options: Section) -> PatchGrid:
        """All patches of a volume (Z, Y, X)."""
        return cls(Grid(Region.whole(shape), options.patch_shape, options.stride_shape))

    def __len__(self) -> int:
        return len(self.grid) if self.kept is None else len(self.kept)

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.grid[index if self.kept is None else int(self.kept[index])]


def build_slices(shape: Sequence[int], options: Section, labels: Array | None = None, *, name: str = "the volume") -> PatchGrid:
    """The patches of a volume (Z, Y, X); with `labels` (CZYX, may be lazy), those that the slice builder keeps.

    Raises:
        DataError: when no patch is kept.
    """
    grid = PatchGrid.of(shape, options)
    if options.name == "SliceBuilder" or labels is None:
        return grid
    share = labelled(labels, grid.grid, options.ignore_index).ravel() / (labels.shape[0] * np.prod(options.patch_shape))
    kept = share > options.threshold
    # the same generator and order as in the original, so that the same patches are kept
    luck = np.random.RandomState(47)
    kept[~kept] = luck.random_sample(int((~kept).sum())) < options.slack_acceptance
    if not kept.any():
        raise DataError(
            "patch.nothing_labelled",
            f"{name}: none of {len(grid)} patches has more than {options.threshold:g} of its voxels labelled (at most {share.max():.3g})",
            remedy="Lower slice_builder.threshold, or write name: SliceBuilder.",
        )
    return PatchGrid(grid.grid, np.flatnonzero(kept))


def labelled(labels: Array, grid: Grid, ignore_index: int | None = None) -> np.ndarray:
    """Number of labelled voxels in each patch of a grid, summed over channels: an array with one axis for each of z, y and x."""
    counts = np.zeros(grid.counts, np.int64)
    shape = labels.shape[1:]
    for box in blocks(shape, _block(shape, getattr(labels, "chunks", None))):
        values = np.asarray(labels[(slice(None), *box.slices)])
        present = values != 0
        if ignore_index is not None:
            present &= values != ignore_index
        sums = np.zeros([n + 1 for n in box.shape], np.int64)
        sums[1:, 1:, 1:] = present.sum(axis=0, dtype=np.int64).cumsum(0).cumsum(1).cumsum(2)
        ends = [
            [np.clip(starts - low + shift, 0, n) for shift in (0, edge)]  # the part of each patch that is in this block
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
