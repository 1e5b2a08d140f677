"""Positions of patches: on a grid, at random, or around a voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Protocol, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.core.options import Options as Base
from morula.core.region import Region
from morula.measurement.conditions import AnyOfAll

_FIGURES = ("mean", "min", "max", "foreground")


def _of_patches(value: AnyOfAll) -> AnyOfAll:
    unknown = [condition.property for group in value for condition in group if condition.property not in _FIGURES]
    if unknown:
        rule = f"is no figure of a patch; known are {', '.join(_FIGURES)}"
        raise OptionError("sampling.unknown_figure", rule, value=unknown[0], remedy=did_you_mean(unknown[0], list(_FIGURES)).strip())
    return value


Conditions: TypeAlias = Annotated[AnyOfAll, AfterValidator(_of_patches)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Validation(Base):
    """Patches of the validation images, which nothing changes at random."""

    patch: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Edge lengths (Z)YX in voxels; left out: those of the training."""
    kind: Literal["grid", "centre"] = "grid"
    """`grid`: patches that cover every image. `centre`: one in the middle of each image, or of each cell."""
    overlap: float | tuple[int, ...] = 0.0
    """Overlap of neighbouring patches (or cells): a share of the patch, or voxels per axis; negative ones leave gaps."""
    cell: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Edge lengths of the cells of a grid that the patches are taken from."""
    least_labelled: Share | None = None
    """Share of labelled voxels above which a patch is used; all patches are used when left out."""
    accept_unlabelled: Share | None = None
    """Share of the other patches that are used with `least_labelled`; left out: that of the training."""
    ignored_label: Annotated[int, Field(ge=0)] | None = None
    """Label that counts as no label for `least_labelled`; left out: that of the training."""
    leave_out: Conditions = ()
    """Conditions on patches that are not used, as for the training."""


class Options(Base):
    """How patches are taken from the images."""

    kind: Literal["random", "grid", "centre"] = "random"
    """`random`: random positions, new ones in every epoch. `grid`: patches that cover every image, the same in every epoch. `centre`: one
    patch in the middle of each image."""
    cell: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Edge lengths (Z)YX of the cells of a grid, from each of which one patch is taken: at a random position with `kind: grid`, from the
    middle with `kind: centre`. Left out: the patches form the grid themselves."""
    overlap: float | tuple[int, ...] = 0.0
    """Overlap of neighbouring patches of a grid: a share of the patch (from 0 to below 1), or voxels per axis; negative ones leave gaps."""
    foreground: float = Field(0.0, ge=0, le=1)
    """Share of the random patches that are centred on labelled foreground."""
    least_labelled: float | None = Field(None, ge=0, le=1)
    """Share of labelled voxels above which a patch of a grid is used; all patches are used when left out."""
    accept_unlabelled: float = Field(0.0, ge=0, le=1)
    """Share of the other patches that are used with `least_labelled`."""
    ignored_label: int | None = Field(None, ge=0)
    """Label that counts as no label for `least_labelled`, as 0 does; left out: that of unannotated voxels."""
    leave_out: Conditions = ()
    """Patches of a grid that are not used: lists of conditions on the `mean`, `min` and `max` of their values and on `foreground`, their
    share of labelled voxels, such as `[[mean < 20], [max < 50, foreground < 0.1]]`; a patch is left out when it satisfies all conditions of
    one of the lists."""
    leave_out_images: bool = False
    """Whether the conditions in `leave_out` are on whole images, and leave out whole images; random patches need it."""
    leave_out_normalised: bool = False
    """Whether the values in `leave_out` are those after the normalisation."""
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
    separate_parts: bool = False
    """Whether parts of an object that are not connected within a patch are different objects, in its targets and its score."""
    patches_per_epoch: Annotated[int, Field(ge=1)] | Literal["grid", "images"] | None = None
    """Patches per epoch: a number, `grid` (as many as cover all images once) or `images` (one per image). Left out: as many as cover all
    images once, but enough for 40 steps."""

    @model_validator(mode="after")
    def _on_a_grid(self) -> Options:
        if self.leave_out and self.kind == "random" and not self.leave_out_images:
            rule, remedy = "applies to the patches of a grid", "Write kind: grid, or leave_out_images: true, or leave it out."
            raise OptionError("sampling.leave_out", rule, key="leave_out", remedy=remedy)
        if self.cell is not None and self.kind == "random":
            raise OptionError("sampling.cell", "are the cells of a grid", key="cell", value=self.cell, remedy="Write kind: grid or centre.")
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
