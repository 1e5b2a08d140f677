"""The images of a job, opened and checked as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morula.core.errors import DataError, JobError, MorulaError, Problem
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.data.patches import Source
from morula.io.annotation_mask import UNANNOTATED, mark_unannotated
from morula.io.pairs import pair_images
from morula.io.read import read, read_labels, read_labels_and_classes


@dataclass(frozen=True)
class Truth:
    """Where the truth of an image lies."""

    labels: Path
    classes: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """One image of a source, its labels (and classes) where it has any, and the name that its results bear.

    `unlabelled` is the label of voxels that nobody has looked at.
    """

    name: str
    raw: Image
    labels: Image | None = None
    classes: Image | None = None
    unlabelled: int | None = None
    truth: Truth | None = None

    def truth_row(self) -> dict[str, str | None]:
        """Where its truth lies: `truth`, `classes`, `mask`."""
        parts = (None,) * 3 if self.truth is None else (self.truth.labels, self.truth.classes, self.truth.mask)
        return {name: None if part is None else str(part) for name, part in zip(("truth", "classes", "mask"), parts, strict=True)}

    def patches(self, *, classes: bool = False) -> Source:
        """As patches are taken from it, its classes with them where these are learned."""
        return Source(self.raw, self.labels, self.name, classes=self.classes if classes else None, unlabelled=self.unlabelled)


def open_source(source: Any, images: Any, *, key: str, need_labels: bool) -> tuple[list[Opened], list[str]]:
    """All images of a source, lazily, and the warnings that pairing gave.

    Raises:
        JobError: with everything that is wrong with these files.
    """
    if need_labels and source.labels is None:
        raise JobError([Problem(f"{key}.labels", "is missing; these images are learned from, so each needs its label image.")])
    pairs, warnings = paired(source, images, key)
    opened, problems = [], []
    for name, raw, truth in pairs:
        try:
            opened.append(open_pair(name, raw, truth, images))
        except MorulaError as error:
            problems.append(Problem(key, str(error)))
    problems += [Problem(key, message) for message in unlike(opened)]
    if problems:
        raise JobError(problems)
    return opened, warnings


def paired(source: Any, images: Any, key: str) -> tuple[list[tuple[str, Path, Truth | None]], list[str]]:
    """Name, image and truth of each image of a source, and the warnings that pairing gave.

    Raises:
        JobError: when files are missing or do not fit.
    """
    axes = None if images is None else images.axes
    sides: dict[str, dict[Path, Path | None]] = {}
    names: dict[Path, str] = {}
    warnings: list[str] = []
    for side in ("labels", "classes", "mask"):
        place = getattr(source, side)
        if place is None and side != "labels":
            continue
        try:
            found, said = pair_images(source.raw, place, axes=axes)
        except MorulaError as error:
            raise JobError([Problem(key if side == "labels" else f"{key}.{side}", str(error))]) from error
        names |= {pair.raw: pair.name for pair in found}
        sides[side] = {pair.raw: pair.labels for pair in found}
        warnings += said
    empty: dict[Path, Path | None] = {}
    result: list[tuple[str, Path, Truth | None]] = []
    for raw, name in names.items():
        labels = sides["labels"][raw]
        others = {side: sides.get(side, empty).get(raw) for side in ("classes", "mask")}
        result.append((name, raw, None if labels is None else Truth(labels, **others)))
    return result, warnings


def open_pair(name: str, raw: Path, truth: Truth | None, images: Any = None) -> Opened:
    """One image with its labels.

    Raises:
        DataError: when their shapes differ, or the labels are no labels.
    """
    image = read(raw, **_reading(images))
    return Opened(name, image) if truth is None else Opened(name, image, *open_truth(truth, image, images), truth)


def open_truth(truth: Truth, image: Image, images: Any = None) -> tuple[Image, Image | None, int | None]:
    """Labels of an image, its classes where there are some, and the label of voxels that nobody has looked at.

    Raises:
        DataError: when the shapes differ, or the labels are no labels.
    """
    reading = _reading(images, labels=True)
    labels, classes = read_labels_and_classes(truth.labels, image.spatial_shape, **reading)
    if truth.classes is not None:
        classes = read_labels(truth.classes, **reading)
    for what, part, file in (("labels", labels, truth.labels), ("classes", classes, truth.classes)):
        if part is not None and part.spatial_shape != image.spatial_shape:
            raise DataError(
                f"{image.source} has {_times(image.spatial_shape)} voxels but its {what} {file} have {_times(part.spatial_shape)}. "
                f"Give {what} of the same size, or state images.axes."
            )
    value = None if images is None else images.ignore_label
    if truth.mask is None:
        return labels, classes, value
    value = UNANNOTATED if value is None else value
    return mark_unannotated(labels, read(truth.mask, **reading), value), classes, value


def _reading(images: Any, *, labels: bool = False) -> dict[str, Any]:
    """Axes and voxel size as the job states them."""
    if images is None:
        return {"axes": None, "voxel_size": None}
    axes = images.axes.replace("C", "") if labels and images.axes else images.axes
    return {"axes": axes, "voxel_size": None if images.voxel_size == "auto" else VoxelSize(**images.voxel_size)}


def unlike(opened: Sequence[Opened]) -> list[str]:
    """What is wrong with images that are to be used together: other dimensions or channels than the first one's."""
    if not opened:
        return []
    first = opened[0]
    said = []
    for each in opened[1:]:
        if each.raw.ndim_spatial != first.raw.ndim_spatial:
            said.append(f"{each.name} is {each.raw.ndim_spatial}D but {first.name} is {first.raw.ndim_spatial}D; one job takes one kind.")
        elif each.raw.n_channels != first.raw.n_channels:
            said.append(f"{each.name} has {each.raw.n_channels} channel(s) but {first.name} has {first.raw.n_channels}; they must agree.")
    return said


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
