"""Positions of patches: on a grid, at random, or around labelled objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, field_validator, model_validator

from morula.core.errors import DataError, OptionError
from morula.core.family import did_you_mean
from morula.core.image import Image
from morula.core.options import Options as Base
from morula.core.region import Region, blocks
from morula.data.crop import crop
from morula.measurement.conditions import AnyOfAll

_WHOLE = 2**22  # label images up to this many voxels are searched as a whole
_TRIES = 16  # random boxes of a larger label image that are searched for foreground
_FIGURES = ("mean", "min", "max", "foreground")
_BLOCK = {2: (256, 256), 3: (32, 64, 64)}  # labelled voxels are counted by blocks of this shape


class Options(Base):
    """How patches are taken from the images."""

    kind: Literal["random", "grid", "centre"] = "random"
    """`random`: random positions, new ones in every epoch. `grid`: patches that cover every image, the same in every epoch. `centre`: one
    patch in the middle of each image."""
    overlap: float | tuple[int, ...] = 0.0
    """Overlap of neighbouring patches of a grid: a share of the patch (from 0 to below 1), or voxels per axis; negative ones leave gaps."""
    foreground: float = Field(0.0, ge=0, le=1)
    """Share of the random patches that are centred on labelled foreground."""
    least_labelled: float | None = Field(None, ge=0, le=1)
    """Share of labelled voxels above which a patch of a grid is used; all patches are used when left out."""
    accept_unlabelled: float = Field(0.0, ge=0, le=1)
    """Share of the other patches that are used with `least_labelled`."""
    leave_out: AnyOfAll = ()
    """Patches of a grid that are not used: lists of conditions on the `mean`, `min` and `max` of their values and on `foreground`, their
    share of labelled voxels, such as `[[mean < 20], [max < 50, foreground < 0.1]]`; a patch is left out when it satisfies all conditions of
    one of the lists."""
    leave_out_images: bool = False
    """Whether the conditions in `leave_out` are on whole images, and leave out whole images; random patches need it."""
    leave_out_normalised: bool = False
    """Whether the values in `leave_out` are those after the normalisation."""
    leave_out_validation: AnyOfAll = ()
    """The same conditions as in `leave_out`, for the patches that the network is validated on."""
    scale_voxels: int | None = Field(None, ge=1)
    """Voxels by which one side of a patch is moved at random along each axis, before the patch is resampled to its size."""
    scale_probability: float = Field(0.5, ge=0, le=1)
    """Share of the patches whose scale is changed."""
    spline_order: int = Field(1, ge=0, le=5)
    """Interpolation of warped images: 0 takes the nearest voxel, 1 is linear, 2 to 5 are splines of that order. Labels always take the
    nearest voxel."""
    only_annotated: bool = True
    """Whether patches of partly annotated images have annotated voxels: random patches are around these, other patches of a grid are left
    out. Otherwise patches are as in images that are annotated as a whole; one without annotated voxels has no weight in the loss."""
    score_padding: bool = False
    """Score what a patch shows beyond the image, its mirror image, like the image itself."""
    label_context: bool = True
    """Whether targets near the border of a patch depend on the labels outside of it, as those of the whole image do."""
    patches_per_epoch: Annotated[int, Field(ge=1)] | Literal["grid", "images"] | None = None
    """Patches per epoch: a number, `grid` (as many as cover all images once) or `images` (one per image). Left out: as many as cover all
    images once, but enough for 40 steps."""

    @field_validator("leave_out", "leave_out_validation")
    @classmethod
    def _of_patches(cls, value: AnyOfAll) -> AnyOfAll:
        unknown = [condition.property for group in value for condition in group if condition.property not in _FIGURES]
        if unknown:
            rule = f"is no figure of a patch; known are {', '.join(_FIGURES)}"
            raise OptionError("sampling.unknown_figure", rule, value=unknown[0], remedy=did_you_mean(unknown[0], list(_FIGURES)).strip())
        return value

    @model_validator(mode="after")
    def _on_a_grid(self) -> Options:
        if self.leave_out and self.kind != "grid" and not self.leave_out_images:
            rule, remedy = "applies to the patches of a grid", "Write kind: grid, or leave_out_images: true, or leave it out."
            raise OptionError("sampling.leave_out", rule, key="leave_out", remedy=remedy)
        return self


class Boxes(Protocol):
    """Positions of patches, by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Region: ...


@dataclass(frozen=True)
class Grid:
    """Boxes of one shape that cover an extent. The last box along an axis ends at the border, so that no box leaves the extent.

    Along an axis that is shorter than the box, one box is centred on the extent and exceeds it on both sides.

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
        """Number of boxes per axis."""
        return tuple(max(0, math.ceil((n - k) / s)) + 1 for n, k, s in zip(self.extent.shape, self.shape, self.step, strict=True))

    @cached_property
    def starts(self) -> tuple[np.ndarray, ...]:
        """Starts of the boxes along each axis: every step, and one whose box ends at the border where the last step leaves a rest."""
        return tuple(
            low + (np.minimum(np.arange(count) * s, n - k) if n >= k else np.array([centred(n, k)]))
            for low, n, k, s, count in zip(self.extent.start, self.extent.shape, self.shape, self.step, self.counts, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        steps = np.unravel_index(index, self.counts)
        return box([int(along[i]) for along, i in zip(self.starts, steps, strict=True)], self.shape)


def box(start: Sequence[int], shape: Sequence[int]) -> Region:
    """The box of this shape that starts at `start`."""
    return Region(tuple(start), tuple(a + n for a, n in zip(start, shape, strict=True)))


def centred(extent: int, edge: int) -> int:
    """Start of an edge that is longer than the extent and centred on it (zero or negative)."""
    return -((edge - extent) // 2)


def steps(patch: Sequence[int], overlap: float | tuple[int, ...]) -> tuple[int, ...]:
    """Distance between neighbouring patches in voxels.

    Raises:
        OptionError: for an overlap that is not smaller than the patch.

    Examples:
        >>> steps((64, 64), 0.25), steps((32, 64), (0, 16)), steps((32, 64), (-8, 0))
        ((48, 48), (32, 48), (40, 64))
    """
    if isinstance(overlap, tuple):
        if len(overlap) != len(patch) or any(o >= p for o, p in zip(overlap, patch, strict=True)):
            raise OptionError(
                "sampling.overlap", f"must be one number of voxels per axis, below the patch {tuple(patch)}", key="overlap", value=overlap
            )
        return tuple(p - o for p, o in zip(patch, overlap, strict=True))
    if not 0 <= overlap < 1:
        raise OptionError("sampling.overlap", "must be a share of the patch from 0 to below 1", key="overlap", value=overlap)
    return tuple(max(1, p - round(p * overlap)) for p in patch)


def random_box(extent: Region, shape: Sequence[int], rng: np.random.Generator) -> Region:
    """A box at a random position in the extent, all positions equally likely; centred along axes that are shorter than the box."""
    start = [
        low + (int(rng.integers(0, n - k + 1)) if n >= k else centred(n, k))
        for low, n, k in zip(extent.start, extent.shape, shape, strict=True)
    ]
    return box(start, shape)


def middle_box(extent: Region, shape: Sequence[int]) -> Region:
    """The box in the middle of the extent, which it exceeds along axes that are shorter than the box.

    Examples:
        >>> middle_box(Region((0, 2), (10, 4)), (3, 5))
        Region(start=(3, 1), stop=(6, 6))
    """
    start = [low + ((n - k) // 2 if n >= k else centred(n, k)) for low, n, k in zip(extent.start, extent.shape, shape, strict=True)]
    return box(start, shape)


def box_around(centre: Sequence[int], extent: Region, shape: Sequence[int]) -> Region:
    """The box centred on `centre`, moved into the extent where necessary."""
    start = [
        low + (min(max(c - low - k // 2, 0), n - k) if n >= k else centred(n, k))
        for c, low, n, k in zip(centre, extent.start, extent.shape, shape, strict=True)
    ]
    return box(start, shape)


def foreground_box(
    labels: Image, extent: Region, shape: Sequence[int], rng: np.random.Generator, *, unlabelled: int | None = None
) -> Region:
    """A box centred on a random foreground voxel, all of them equally likely.

    A label image of up to 2**22 voxels is searched as a whole. In a larger one, random boxes are read until one contains foreground;
    after 16 boxes without foreground, the box is at a random position.
    """
    # searching a large lazy label image for every patch would read all of it
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
    """Annotated voxels of a sparsely annotated image: their number per block, read once.

    Args:
        labels: label image.
        extent: the box that may be read.
        unlabelled: value of unannotated voxels.
        name: name of the image in messages.

    Raises:
        DataError: when no voxel of the extent is annotated.

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
                "labels.none_annotated",
                f"no voxel of the label image is annotated: all have the value {unlabelled} or are outside the mask",
                file=name,
                remedy="Annotate a part of it, or leave it out.",
            )

    @property
    def all(self) -> bool:
        """Whether every voxel is annotated."""
        return bool(self._ends[-1] == math.prod(self._extent.shape))

    def _mask(self, region: Region) -> np.ndarray:
        return (crop(self._labels, region) != self._unlabelled).all(axis=0)

    def box(self, shape: Sequence[int], rng: np.random.Generator) -> Region:
        """A box around a random annotated voxel.

        Every annotated voxel, and every position of it in the box, is equally likely as far as the extent allows.
        """
        # choose a block in proportion to its annotated voxels, then a voxel in it: only one block is read
        number = int(np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right"))
        block = self._blocks[number]
        voxels = np.flatnonzero(self._mask(block))
        voxel = np.unravel_index(voxels[rng.integers(len(voxels))], block.shape)
        centre = [int(v) + a - int(rng.integers(k)) + k // 2 for v, a, k in zip(voxel, block.start, shape, strict=True)]
        return box_around(centre, self._extent, shape)

    def touches(self, region: Region) -> bool:
        """Whether any voxel of the box is annotated."""
        inside = region.intersect(self._extent)
        return inside is not None and bool(self._mask(inside).any())
