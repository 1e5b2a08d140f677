"""Images in memory, such as the layers of a viewer, as the training images of a job."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, Problem

FOLDER = "layers"
"""Folder of a run that the images are written to: with them the run can be resumed, repeated and shown."""


def job_of_layers(job: Mapping[str, Any], layers: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A job whose training images are these.

    Args:
        job: a mapping with the keys of a job file, without `images.train`.
        layers: by name, each an `Image` or an array (Z)YX, or a pair of one and its labels (Z)YX.
        folder: where they will lie, see `write_layers`.

    Raises:
        JobError: when there is no image, the job names training images too, or a part of the images has labels.
    """
    found = copy.deepcopy(dict(job))
    images = dict(found.get("images") or {})
    problems = []
    if not layers:
        problems.append("names no image, and no array was given either; give one at least.")
    if images.get("train") is not None:
        problems.append("is stated, but arrays to train on were given too; leave one of the two out.")
    labelled = [name for name, each in layers.items() if isinstance(each, tuple)]
    if labelled and len(labelled) < len(layers):
        problems.append(f"has labels for {', '.join(labelled)} only; give pairs of image and labels for all images, or for none.")
    if problems:
        raise JobError([Problem("images.train", problem) for problem in problems])
    source = {"raw": str(folder / "images")} | ({"labels": str(folder / "labels")} if labelled else {})
    found["images"] = {key: value for key, value in images.items() if key != "axes"} | {"train": source}  # the files tell their axes
    return found


def write_layers(layers: Mapping[str, Any], folder: Path, *, axes: str | None = None) -> None:
    """Write images to ``images/NAME.tif`` and their labels to ``labels/NAME.tif``. `axes` are those of arrays; guessed when left out."""
    from morula.core.image import Image
    from morula.io.write import write

    for name, each in layers.items():
        for kind, part in zip(("images", "labels"), each if isinstance(each, tuple) else (each,), strict=False):
            stated = None if isinstance(part, Image) or axes is None else axes.replace("C", "") if kind == "labels" else axes
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write(folder / kind / f"{name}.tif", part, labels=kind == "labels", axes=stated)
