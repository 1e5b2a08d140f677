"""Reader and writers of napari: images and labels of any format with their voxel size, and run folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from morula.core.image import Image
from morula.core.location import stem_of
from morula.io.read import label_places, read, read_labels
from morula.io.select import suffixes
from morula.io.write import write
from morula.report.run_folder import read_run
from morula.viewer.layers import LayerData, image_of_array, labels_layer, raw_layers, run_layers

Reader: TypeAlias = Callable[[Any], list[LayerData]]

_LABEL_WORDS = re.compile(
    r"(^|[_\W\d])(labels?|masks?|seg|segmentation|objects|truth|prediction|instances|annotations?)($|[_\W\d])", re.IGNORECASE
)
"""Words in the name of a file, or of its folder, that holds labels."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """The function that reads a path, or `None` where Morula cannot read it."""
    first = Path(path if isinstance(path, str) else path[0])
    if first.is_dir() and not first.name.endswith(".zarr"):
        return _read_runs if (first / "job.yaml").is_file() else None
    known = any(first.name.lower().endswith(suffix) for suffix in suffixes())
    return _read_images if known else None


def _paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(path)] if isinstance(path, str) else [Path(file) for file in path]


def _read_runs(path: str | Sequence[str]) -> list[LayerData]:
    """The test images of runs; of a run without predictions its training images in memory."""
    return [layer for run in _paths(path) for image in read_run(run).images for layer in run_layers(image, prefix=f"{image.name} ")]


def _read_images(path: str | Sequence[str]) -> list[LayerData]:
    return [layer for file in _paths(path) for layer in read_layers(file)]


def read_layers(file: Path) -> list[LayerData]:
    """Layers of an image file: one per channel, and its label images where it is an OME-Zarr; or one layer of labels."""
    name = stem_of(file)
    if holds_labels(file):
        return [labels_layer(read_labels(file), name)]
    layers = raw_layers(read(file), name)
    places = label_places(file)[1:] if file.name.endswith(".zarr") else []
    return layers + [labels_layer(read_labels(place), f"{name} {place.name}") for place in places]


def holds_labels(file: Path) -> bool:
    """Whether a file is one of labels, by its name or that of its folder.

    Examples:
        >>> holds_labels(Path("labels/a.tif")), holds_labels(Path("a_mask.tif")), holds_labels(Path("images/a.tif"))
        (True, True, False)
    """
    return _LABEL_WORDS.search(stem_of(file)) is not None or _LABEL_WORDS.fullmatch(file.parent.name) is not None


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write a layer of labels with its voxel size. An existing file is replaced: napari has asked."""
    return _written(path, data, meta, labels=True)


def write_image(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write a layer with an image with its voxel size. An existing file is replaced: napari has asked."""
    return _written(path, data, meta, labels=False)


def _written(path: str, data: Any, meta: Mapping[str, Any], *, labels: bool) -> list[str]:
    finest = data[0] if meta.get("multiscale") else data  # NumPy makes the coarsest level of the levels of a pyramid
    image: Image = image_of_array(np.asarray(finest), meta.get("scale"), meta.get("units"), rgb=bool(meta.get("rgb")))
    return [str(write(path, image, labels=labels, overwrite=True))]
