"""Training of a model that continues with objects that a person has corrected."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula.core.errors import DataError, ModelError
from morula.core.events import Event
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.jobs.run_folder import RunFolder
from morula.labels.on_grid import nearest
from morula.workflows.run_settings import RunSettings, never_stop
from morula.workflows.stream import events_of

if TYPE_CHECKING:
    from morula.models.model import Model
    from morula.workflows.corrections import Corrections

EPOCHS, PATCHES = 10, 48
"""Epochs and patches per epoch where they are not stated: one to two minutes on two cores."""
SLOWER = 0.25
"""Share of the learning rate of the model's own training: its weights are good already."""


@events_of("morula.workflows.retrain.retrain")
def retrain(
    model: str | Path,
    images: Mapping[str, Corrections],
    *,
    output: str | Path,
    epochs: int = EPOCHS,
    overwrite: bool = False,
    device: str = "auto",
    stop: Callable[[], bool] = never_stop,
) -> Iterator[Event]:
    """Continue the training of a model with the reviewed objects of some images.

    Only what was reviewed is learned from, see `Corrections.training_labels`. The new run has its own job and the images, so that it can be
    resumed and repeated; the model itself is not changed. A 2D model learns from the slices of a volume that hold reviewed voxels.

    Args:
        model: a bundled model by its name, a run folder or a model folder.
        images: by name, corrections with their image.
        output: the new run folder.
        epochs: number of epochs.
        overwrite: replace a former run in this folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        stop: called after every training step; when it returns true, the state is saved and the stream ends.

    Yields:
        events of the training; `Finished` is the last one unless it was stopped.

    Raises:
        ModelError: when the model does not learn from labels of objects, or does not fit the images.
        DataError: when nothing was reviewed, or corrections have no image.
        FileWriteError: when the folder is not empty.

    Examples:
        >>> for event in retrain("nuclei", {"cells": corrections}, output="runs/corrected"):  # doctest: +SKIP
        ...     print(event)
        >>> better = morula.load("runs/corrected").segment(image)  # doctest: +SKIP
    """
    from morula.models.load import load
    from morula.workflows.train import train

    RunFolder(Path(output)).check_free(overwrite=overwrite)
    trained = load(model)
    _check_model(trained, model)
    layers: dict[str, tuple[Image, Image]] = {}
    ignored = 0
    for name, corrections in images.items():
        pairs, ignored = yield from _pairs(trained, name, corrections, device=device)
        layers |= pairs
    settings = RunSettings(output, overwrite=overwrite, device=device, stop=stop)
    yield from train(retraining_job(trained, model, ignored, epochs), settings, layers=layers)


def retraining_job(model: Model, place: str | Path, ignored: int, epochs: int = EPOCHS) -> dict[str, object]:
    """The job of the model with the weights to start from, fewer epochs and a lower learning rate; without its images."""
    job = model.job.model_dump(mode="json", by_alias=True)
    training, sampling = job["training"], job["sampling"]
    if model.normalisation is not None:  # measured on all images of the earlier training
        fixed = model.normalisation
        sampling["normalise"] = {"kind": "fixed", "offset": list(fixed.offset), "scale": list(fixed.scale), "clip": fixed.clip}
    rate = training["optimiser"].get("lr")
    optimiser = training["optimiser"] | ({} if rate is None else {"lr": rate * SLOWER})
    return {
        # the images are at the scale of the model already
        "images": {"validate": None, "ignore_label": ignored, "diameter": model.diameter},
        "method": job["method"],
        "network": {**job["network"], "from": str(place)},
        # patches are taken around reviewed objects
        "sampling": sampling | {"patches_per_epoch": PATCHES, "kind": "random", "foreground": 0.5, "least_labelled": None},
        "augment": job["augment"],
        "training": {"epochs": epochs, "optimiser": optimiser, "schedule": "one_cycle"},
        "prediction": job["prediction"],
        "objects": job["objects"] | {"tune": False, "tuned": None, "calibrate": False, "calibration": None},
    }


def _check_model(model: Model, place: str | Path) -> None:
    if not (model.method.labelled and model.method.instances):
        rule = f"is trained by the method {model.job.method.kind}, which does not learn from labels of objects"
        remedy = "Train the method `channels` on the corrected labels and their mask."
        raise ModelError("retrain.method", rule, key="model", value=str(place), remedy=remedy)
    if model.job.method.object_classes is not None:
        rule = "learns classes of objects, which corrections do not have"
        raise ModelError("retrain.classes", rule, key="model", value=str(place), remedy="Correct the class images, and train on them.")


def _pairs(
    model: Model, name: str, corrections: Corrections, *, device: str
) -> Generator[Event, None, tuple[dict[str, tuple[Image, Image]], int]]:
    """Images and their labels as the model sees them: at its scale, of a volume for a 2D model slice by slice."""
    from morula.models.scale import estimate_diameter, fit_scale

    if corrections.image is None:
        rule = "were made without the image"
        raise DataError("retrain.no_image", rule, key="images", value=name, remedy="Make them with Corrections(labels, image=image).")
    labels, ignored = corrections.training_labels()
    parts = _slices(name, corrections.image, labels, ignored) if model.ndim == 2 else {name: (corrections.image, labels)}
    diameter, found = None, {}
    for part, (raw, truth) in parts.items():
        image = model.as_image(raw)
        if diameter is None and model.diameter is not None:  # once: all slices have the same objects
            estimate = yield from estimate_diameter(*model.sample(image), device=device)
            diameter = model.diameter if estimate is None else estimate.diameter
        fitted = yield from fit_scale(model, image, diameter, device=device)
        values = nearest(np.asarray(truth), fitted.image.spatial_shape)
        found[part] = (fitted.image, Image(values, truth.axes, fitted.image.voxel_size))
    return found, ignored


def _slices(name: str, image: Image, labels: Image, ignored: int) -> dict[str, tuple[Image, Image]]:
    """The image itself in 2D; of a volume the slices along z in which something was reviewed."""
    values = np.asarray(labels)
    if values.ndim == 2:
        return {name: (image, labels)}
    size = image.voxel_size
    flat = None if size is None else VoxelSize(size.y, size.x, unit=size.unit)
    known = np.flatnonzero((values != ignored).any(axis=(1, 2)))
    pixels = image.canonical()
    return {f"{name}_z{z:04d}": (Image(pixels[:, z], "CYX", flat), Image(values[z], "YX", flat)) for z in known}  # type: ignore[arg-type]
