"""Where patches lie: on a grid, at random, or around labelled objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.options import Options as Base
from morula.core.region import Region, blocks
from morula.data.crop import crop

_WHOLE = 2**22  # label images up to this many voxels are searched as a whole
_TRIES = 16
_BLOCK = {2: (256, 256), 3: (32, 64, 64)}  # labelled voxels are counted by blocks of this shape


class Options(Base):
    """How patches are taken from the images."""

    kind: Literal["random", "grid"] = "random"
    """`random`: patches lie anywhere, new places each epoch. `grid`: patches cover each image, the same in each epoch."""
    overlap: float | tuple[int, ...] = 0.0
    """Overlap of neighbouring patches of a grid: a share of the patch (0 to below 1), or voxels per axis."""
    foreground: float = Field(0.0, ge=0, le=1)
    """Share of the random patches that are centred on labelled foreground."""
    patches_per_epoch: int | None = Field(None, ge=1)
    """Patches in an epoch; as many as cover all images once when left out."""


@dataclass(frozen=True)
class Grid:
    """Boxes of one shape that cover an extent. The last box of an axis ends at the border, so that none leaves the extent.

    Along an axis that is shorter than the box, one box is centred on the extent and stands over on both sides.

    Examples:
        >>> grid = Grid(Region((0, 0), (10, 3)), (4, 4), (4, 4))
        >>> len(grid), grid[0].slices[0], grid[2].slices[0], grid[0].start[1]
        (3, slice(0, 4, None), slice(6, 10, None), 0)
    """

    extent: Region
    shape: tuple[int, ...]
    step: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of boxes along each axis."""
        return tuple(max(0, math.ceil((n - k) / s)) + 1 for n, k, s in zip(self.extent.shape, self.shape, self.step, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        steps = np.unravel_index(index, self.counts)
        start = []
        for low, n, k, s, i in zip(self.extent.start, self.extent.shape, self.shape, self.step, steps, strict=True):
            start.append(low + (min(int(i) * s, n - k) if n >= k else centred(n, k)))
        return box(start, self.shape)


def box(start: Sequence[int], shape: Sequence[int]) -> Region:
    """The box of this shape that begins at `start`."""
    return Region(tuple(start), tuple(a + n for a, n in zip(start, shape, strict=True)))


def centred(extent: int, edge: int) -> int:
    """Start of an edge that is longer than the extent and lies centrally over it (zero or negative)."""
    return -((edge - extent) // 2)


def steps(patch: Sequence[int], overlap: float | tuple[int, ...]) -> tuple[int, ...]:
    """Distance of neighbouring patches in voxels.

    Raises:
        OptionError: for an overlap that is not below the patch.

    Examples:
        >>> steps((64, 64), 0.25), steps((32, 64), (0, 16))
        ((48, 48), (32, 48))
    """
    if isinstance(overlap, tuple):
        if len(overlap) != len(patch) or any(not 0 <= o < p for o, p in zip(overlap, patch, strict=True)):
            raise OptionError(
                f"overlap {overlap} does not fit the patch {tuple(patch)}; give one number of voxels an axis, below the patch's edge."
            )
        return tuple(p - o for p, o in zip(patch, overlap, strict=True))
    if not 0 <= overlap < 1:
        raise OptionError(f"overlap is {overlap:g}; it is a share of the patch from 0 to below 1, for example 0.25.")
    return tuple(max(1, p - round(p * overlap)) for p in patch)


def random_box(extent: Region, shape: Sequence[int], rng: np.random.Generator) -> Region:
    """A box anywhere in the extent, all places equally likely; centred over an axis that is too short."""
    start = [
        low + (int(rng.integers(0, n - k + 1)) if n >= k else centred(n, k))
        for low, n, k in zip(extent.start, extent.shape, shape, strict=True)
    ]
    return box(start, shape)


def box_around(centre: Sequence[int], extent: Region, shape: Sequence[int]) -> Region:
    """The box with `centre` in its middle, or as near to it as the extent allows."""
    start = [
        low + (min(max(c - low - k // 2, 0), n - k) if n >= k else centred(n, k))
        for c, low, n, k in zip(centre, extent.start, extent.shape, shape, strict=True)
    ]
    return box(start, shape)


def foreground_box(
    labels: Image, extent: Region, shape: Sequence[int], rng: np.random.Generator, *, unlabelled: int | None = None
) -> Region:
    """A box centred on a voxel of the labelled foreground, each such voxel equally likely.

    A label image of up to 2**22 voxels is searched as a whole. In a larger one, random boxes are read until one holds foreground;
    after 16 without, the box lies anywhere.
    """
    tries = 1 if math.prod(extent.shape) <= _WHOLE else _TRIES
    for _ in range(tries):
        place = extent if tries == 1 else random_box(extent, shape, rng).intersect(extent)
        if place is None:
            break
        values = crop(labels, place)
        foreground = (values != 0).any(axis=0) if unlabelled is None else ((values != 0) & (values != unlabelled)).any(axis=0)
        voxels = np.flatnonzero(foreground)
        if voxels.size:
            voxel = np.unravel_index(voxels[rng.integers(voxels.size)], foreground.shape)
            return box_around([int(v) + a for v, a in zip(voxel, place.start, strict=True)], extent, shape)
    return random_box(extent, shape, rng)


class LabelledVoxels:
    """Where the labelled voxels of a sparsely labelled image lie: their number in each block, read once.

    Args:
        labels: label image.
        extent: the part that may be read.
        unlabelled: label of voxels that nobody has looked at.
        name: what messages call the image.

    Raises:
        DataError: when no voxel of the extent is labelled.

    Examples:
        >>> labels = Image(np.array([[9, 9, 9, 0, 9, 9]]), "YX")
        >>> found = LabelledVoxels(labels, Region.whole((1, 6)), 9)
        >>> found.touches(found.box((1, 2), np.random.default_rng(0))), found.touches(Region((0, 4), (1, 6)))
        (True, False)
    """

    def __init__(self, labels: Image, extent: Region, unlabelled: int, name: str = "the image") -> None:
        self._labels, self._extent, self._unlabelled = labels, extent, unlabelled
        self._blocks = [block.shift(extent.start) for block in blocks(extent.shape, _BLOCK[len(extent.shape)])]
        self._ends = np.cumsum([int(self._mask(block).sum()) for block in self._blocks])
        if not self._ends[-1]:
            raise DataError(
                f"{name} has no labelled voxel: each has the value {unlabelled} of unlabelled ones, or lies outside the mask. "
                "Label a part of it, or leave it out."
            )

    @property
    def all(self) -> bool:
        """Whether every voxel is labelled."""
        return bool(self._ends[-1] == math.prod(self._extent.shape))

    def _mask(self, region: Region) -> np.ndarray:
        return (crop(self._labels, region) != self._unlabelled).all(axis=0)

    def box(self, shape: Sequence[int], rng: np.random.Generator) -> Region:
        """A box around a labelled voxel, each such voxel and each place of it in the box equally likely as far as the extent allows."""
        number = int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))
        block = self._blocks[number]
        voxels = np.flatnonzero(self._mask(block))
        voxel = np.unravel_index(voxels[rng.integers(len(voxels))], block.shape)
        centre = [int(v) + a - int(rng.integers(k)) + k // 2 for v, a, k in zip(voxel, block.start, shape, strict=True)]
        return box_around(centre, self._extent, shape)

    def touches(self, region: Region) -> bool:
        """Whether a voxel of the box is labelled."""
        inside = region.intersect(self._extent)
        return inside is not None and bool(self._mask(inside).any())
