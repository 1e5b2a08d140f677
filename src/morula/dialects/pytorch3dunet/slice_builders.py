"""Where patches lie in a volume, as pytorch-3dunet lays them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.region import Region, blocks
from morula.data.sampling import centred
from morula.dialects.pytorch3dunet.loaders import SliceBuilderOptions

_BLOCK = 2**22  # voxels that are looked at together


def starts(length: int, patch: int, stride: int) -> np.ndarray:
    """Starts of the patches along an axis: every `stride`, and one that ends at the border where that leaves a rest.

    Along an axis that is shorter than the patch, one patch stands over on both sides.

    Examples:
        >>> starts(10, 4, 3).tolist(), starts(11, 4, 3).tolist(), starts(3, 5, 3).tolist()
        ([0, 3, 6], [0, 3, 6, 7], [-1])
    """
    if length < patch:
        return np.array([centred(length, patch)])
    found = np.arange(0, length - patch + 1, stride)
    return found if found[-1] + patch >= length else np.append(found, length - patch)


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Boxes of one shape at all combinations of starts, or at those `kept` (numbers in the order z, y, x).

    Examples:
        >>> grid = PatchGrid.of((4, 10, 6), SliceBuilderOptions(patch_shape=(2, 4, 6), stride_shape=(2, 4, 6), skip_shape_check=True))
        >>> len(grid), grid[4].start
        (6, (2, 4, 0))
    """

    starts: tuple[np.ndarray, ...]
    patch: tuple[int, ...]
    kept: np.ndarray | None = None

    @classmethod
    def of(cls, shape: Sequence[int], options: SliceBuilderOptions) -> PatchGrid:
        """All patches of a volume (Z, Y, X)."""
        axes = zip(shape, options.patch_shape, options.stride_shape, strict=True)
        return cls(tuple(starts(*each) for each in axes), options.patch_shape)

    def __len__(self) -> int:
        return int(np.prod([len(each) for each in self.starts])) if self.kept is None else len(self.kept)

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index if self.kept is None else int(self.kept[index])
        steps = np.unravel_index(number, [len(each) for each in self.starts])
        start = tuple(int(each[i]) for each, i in zip(self.starts, steps, strict=True))
        return Region(start, tuple(a + n for a, n in zip(start, self.patch, strict=True)))


def build_slices(shape: Sequence[int], options: SliceBuilderOptions, labels: Any = None, *, name: str = "the volume") -> PatchGrid:
    """The patches of a volume (Z, Y, X); with `labels`, CZYX and perhaps lazy, those that the slice builder keeps.

    Labels are read block by block, each voxel once.

    Raises:
        DataError: when nothing is kept.
    """
    grid = PatchGrid.of(shape, options)
    if options.name == "SliceBuilder" or labels is None:
        return grid
    share = labelled(labels, grid, options.ignore_index).ravel() / (labels.shape[0] * np.prod(options.patch_shape))
    kept = share > options.threshold
    # the same generator as the original's, which throws the dice for the other patches in their order
    luck = np.random.RandomState(47)
    kept[~kept] = luck.random_sample(int((~kept).sum())) < options.slack_acceptance
    if not kept.any():
        raise DataError(
            "patch.nothing_labelled",
            f"{name}: none of {len(grid)} patches has more than {options.threshold:g} of its voxels labelled (at most {share.max():.3g})",
            remedy="Lower slice_builder.threshold, or write name: SliceBuilder.",
        )
    return PatchGrid(grid.starts, grid.patch, np.flatnonzero(kept))


def labelled(labels: Any, grid: PatchGrid, ignore_index: int | None = None) -> np.ndarray:
    """Number of labelled voxels, of all channels together, in each patch of a whole grid: an array of one axis for each of z, y, x."""
    counts = np.zeros([len(each) for each in grid.starts], np.int64)
    shape = labels.shape[1:]
    for box in blocks(shape, _block(shape, getattr(labels, "chunks", None))):
        values = np.asarray(labels[(slice(None), *box.slices)])
        present = values != 0
        if ignore_index is not None:
            present &= values != ignore_index
        sums = np.zeros([n + 1 for n in box.shape], np.int64)
        sums[1:, 1:, 1:] = present.sum(axis=0, dtype=np.int64).cumsum(0).cumsum(1).cumsum(2)
        ends = [
            [np.clip(each - low + shift, 0, n) for shift in (0, edge)]
            for each, low, n, edge in zip(grid.starts, box.start, box.shape, grid.patch, strict=True)
        ]
        for axis, (first, last) in enumerate(ends):
            sums = np.take(sums, last, axis=axis) - np.take(sums, first, axis=axis)
        counts += sums
    return counts


def _block(shape: Sequence[int], chunks: Sequence[int] | None) -> tuple[int, ...]:
    """Blocks of about `_BLOCK` voxels, whole chunks of the file where it has any."""
    block = [min(n, edge) for n, edge in zip(shape, (chunks or (1,) * len(shape))[-len(shape) :], strict=True)]
    for axis in reversed(range(len(shape))):
        room = _BLOCK // max(int(np.prod(block)), 1)
        block[axis] = min(shape[axis], block[axis] * max(room, 1))
    return tuple(block)
