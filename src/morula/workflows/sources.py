"""The images of a job, opened and checked as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morula.core.errors import DataError, JobError, MorulaError, Problem
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.pairs import pair_images
from morula.io.read import read, read_labels


@dataclass(frozen=True, eq=False)
class Opened:
    """One image of a source, its labels where it has any, and the name that its results bear."""

    name: str
    raw: Image
    labels: Image | None = None


def open_source(source: Any, images: Any, *, key: str, need_labels: bool) -> tuple[list[Opened], list[str]]:
    """All images of a source, lazily, and the warnings that pairing gave.

    Raises:
        JobError: with everything that is wrong with these files.
    """
    if need_labels and source.labels is None:
        raise JobError([Problem(f"{key}.labels", "is missing; these images are learned from, so each needs its label image.")])
    try:
        pairs, warnings = pair_images(source.raw, source.labels, axes=None if images is None else images.axes)
    except MorulaError as error:
        raise JobError([Problem(key, str(error))]) from error
    opened, problems = [], []
    for pair in pairs:
        try:
            opened.append(open_pair(pair.name, pair.raw, pair.labels, images))
        except MorulaError as error:
            problems.append(Problem(key, str(error)))
    problems += [Problem(key, message) for message in unlike(opened)]
    if problems:
        raise JobError(problems)
    return opened, warnings


def open_pair(name: str, raw: Path, labels: Path | None, images: Any = None) -> Opened:
    """One image with its labels.

    Raises:
        DataError: when their shapes differ, or the labels are no labels.
    """
    axes = None if images is None else images.axes
    voxel_size = None if images is None or images.voxel_size == "auto" else VoxelSize(**images.voxel_size)
    image = read(raw, axes=axes, voxel_size=voxel_size)
    if labels is None:
        return Opened(name, image)
    truth = read_labels(labels, axes=None if axes is None else axes.replace("C", ""), voxel_size=voxel_size)
    if truth.spatial_shape != image.spatial_shape:
        raise DataError(
            f"{raw} has {_times(image.spatial_shape)} voxels but its labels {labels} have {_times(truth.spatial_shape)}. "
            "Give labels of the same size, or state images.axes."
        )
    return Opened(name, image, truth)


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
