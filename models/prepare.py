"""Training images of the bundled 2D models: each image is rescaled until its median object has a common diameter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morula.inference.rescale import rescaled as resize
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.labels.on_grid import on_grid

DIAMETER = 24.0
"""Diameter in pixels of the median object of each prepared image."""
LIMITS = (0.25, 3.0)
"""Scales beyond these are not applied."""
LEAST = 12
"""Pixels below which an object of a prepared image is removed: it is a remnant at the border."""
CENTRE = 352
"""Edge of the block that is taken of a brightfield image."""


@dataclass(frozen=True)
class Kind:
    """Images of a data set whose names begin with one of these words."""

    data: str
    words: tuple[str, ...] = ("",)


KINDS = {
    "nuclei": (Kind("nuclei2d"), Kind("nuclei2d_diverse", ("fluo",))),
    "nuclei-stained": (Kind("nuclei2d_diverse", ("stained", "brightfield")),),
}
"""Data sets of each model."""


def files_of(model: str, data: Path, split: str) -> Iterator[tuple[Path, Path]]:
    """Images of a split and their label images."""
    for kind in KINDS[model]:
        for image in sorted((data / kind.data / split / "images").glob("*.tif")):
            if image.name.startswith(kind.words):
                yield image, data / kind.data / split / "labels" / image.name


def prepare(model: str, data: Path, folder: Path) -> None:
    """Write the rescaled training and validation images of a model, those that are not there yet."""
    for split in ("train", "val"):
        for image, labels in files_of(model, data, split):
            name = f"{image.parent.parent.parent.name}_{image.name}"
            targets = [folder / split / part / name for part in ("images", "labels")]
            if all(target.is_file() for target in targets):
                continue
            raw, truth = np.asarray(read(image, axes=axes_of(image)).canonical()), np.asarray(read_labels(labels))
            if image.name.startswith("brightfield"):  # patches are drawn by area: these large images would be most of them
                raw, truth = central(raw), central(truth)
            scaled, objects = rescaled(raw, truth, scale_of(truth))
            if model == "nuclei-stained" and len(scaled) == 1:
                scaled = np.repeat(scaled, 3, axis=0)
            for target, array, axes in zip(targets, (scaled, objects), ("CYX", "YX"), strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                write(target, array, axes=axes, overwrite=True)


def central(array: np.ndarray) -> np.ndarray:
    """The central block of (C)YX with edges of at most `CENTRE` pixels."""
    places = [slice(max(0, (n - CENTRE) // 2), max(0, (n - CENTRE) // 2) + CENTRE) for n in array.shape[-2:]]
    return array[..., places[0], places[1]]


def axes_of(image: Path) -> str | None:
    """Axes of an image: the stained ones do not state that the last axis holds the colours."""
    return "YXC" if "stained" in image.name or "histology" in str(image) else None


def scale_of(labels: np.ndarray) -> float:
    """The factor that brings the median object to the common diameter."""
    return float(np.clip(DIAMETER / median_diameter(labels), *LIMITS))


def median_diameter(labels: np.ndarray) -> float:
    """Diameter of a disk with the median area of the objects."""
    areas = np.bincount(labels.ravel())[1:]
    return float(2 * np.sqrt(np.median(areas[areas > 0]) / np.pi))


def rescaled(image: np.ndarray, labels: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """An image CYX and its labels at another scale; labels take the nearest pixel."""
    shape = tuple(max(1, round(n * scale)) for n in labels.shape)
    enlarged = resize(image, shape)
    objects = on_grid(labels, shape)
    sizes = np.bincount(objects.ravel())
    numbers = np.where(sizes >= LEAST, np.cumsum(sizes >= LEAST), 0)
    numbers = np.where(numbers > 0, numbers - 1, 0)  # the background is counted too
    return np.clip(np.rint(enlarged), 0, 255).astype(np.uint8), numbers[objects].astype(np.uint16)
