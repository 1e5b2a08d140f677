"""Images in memory, for example layers of a viewer, as the training images of a job."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import JobError, Problem
from morula.core.image import Image
from morula.io.write import files_behind, write
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.plan import plan
from morula.workflows.object_scale import scale_of
from morula.workflows.prepare import facts_of
from morula.workflows.sources import Opened

FOLDER = "layers"
"""Folder of a run that the images are written to, so that the run can be resumed, repeated and viewed."""
Layers: TypeAlias = Mapping[str, Image | np.ndarray | tuple[Image | np.ndarray, Image | np.ndarray]]
"""Images by name: an `Image`, an array (Z)YX, or a pair of an image and its labels."""


def job_with_layers(job: Mapping[str, Any], layers: Layers, folder: Path) -> dict[str, object]:
    """A job with these images as its training images.

    Args:
        job: a mapping with the keys of a job file, without `images.train`.
        layers: by name, an `Image` or an array (Z)YX, or a pair of an image and its labels (Z)YX.
        folder: folder of the images, see `write_layers`.

    Raises:
        JobError: when there is no image, the job has `images.train` too, or only some of the images have labels.
    """
    document = copy.deepcopy(dict(job))
    images = dict(document.get("images") or {})
    labelled = [name for name, layer in layers.items() if isinstance(layer, tuple)]
    problems = []
    if not layers:
        problems.append(_problem("layers.none", "is missing, and no array was given either", "Give at least one array."))
    if images.get("train") is not None:
        problems.append(_problem("layers.and_images", "is given together with arrays to train on", "Give one of the two."))
    if labelled and len(labelled) < len(layers):
        rule = f"has labels for {', '.join(labelled)} only"
        problems.append(_problem("layers.some_labelled", rule, "Give pairs of image and labels for all images, or for none."))
    if problems:
        raise JobError(problems)
    source = {"raw": str(folder / "images")} | ({"labels": str(folder / "labels")} if labelled else {})
    # the files state their axes, so the axes of the arrays are not valid any more
    document["images"] = {key: value for key, value in images.items() if key != "axes"} | {"train": source}
    return document


def _problem(code: str, rule: str, remedy: str) -> Problem:
    return Problem("images.train", rule, code=code, remedy=remedy)


def files_of_layers(layers: Mapping[str, Any]) -> list[str]:
    """Files that the images and labels in memory were read from."""
    return [file for layer in layers.values() for data in (layer if isinstance(layer, tuple) else (layer,)) for file in files_behind(data)]


def write_layers(layers: Mapping[str, Any], folder: Path, *, axes: str | None = None) -> None:
    """Write images to ``images/NAME.tif`` and their labels to ``labels/NAME.tif``. `axes` of arrays are guessed by default."""
    for name, layer in layers.items():
        for kind, data in zip(("images", "labels"), layer if isinstance(layer, tuple) else (layer,), strict=False):
            stated = None if isinstance(data, Image) or axes is None else axes.replace("C", "") if kind == "labels" else axes
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write(folder / kind / f"{name}.tif", data, labels=kind == "labels", axes=stated)


def plan_for_layers(job: Mapping[str, Any], layers: Layers, *, overrides: Iterable[str] = ()) -> Job:
    """The job with everything that a training with these images would plan. Nothing is written, and no image is changed.

    Raises:
        JobError: with all problems of the job.

    Examples:
        >>> job = plan_for_layers({"method": "wnet3d"}, {"a": np.zeros((40, 60))})  # doctest: +SKIP
        >>> job.training.epochs, job.sampling.patch  # doctest: +SKIP
        (50, (40, 48))
    """
    loaded = load_job(job_with_layers(job, layers, Path(FOLDER)), overrides=overrides)
    axes = (job.get("images") or {}).get("axes")
    opened = []
    for name, layer in layers.items():
        raw, labels = layer if isinstance(layer, tuple) else (layer, None)
        opened.append(Opened(name, _as_image(raw, axes), None if labels is None else _as_image(labels, None)))
    scale = scale_of(loaded, opened)
    return plan(loaded, facts_of(opened if scale is None else [scale.rescaled(image) for image in opened], loaded))


def _as_image(data: Image | np.ndarray, axes: str | None) -> Image:
    return data if isinstance(data, Image) else Image(data, Axes.guess(data.shape) if axes is None else Axes(axes))
