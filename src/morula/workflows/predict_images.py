"""Restore or predict test images with a network whose output is an image, and score the results."""

from __future__ import annotations

import glob
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from morula.core.allocator import keep_freed_memory
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.remark import code_of
from morula.inference.median import median
from morula.inference.memory import available_memory
from morula.inference.predict import TiledNetwork, predict
from morula.io.check import check_image
from morula.io.write import write
from morula.jobs.provenance import checksum, checksums, circumstances
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import write_table
from morula.methods.restoring import Restoring, image_figures
from morula.models.model import Model
from morula.nn.weights import WEIGHTS
from morula.training.devices import pick_device
from morula.workflows.run_results import check_results
from morula.workflows.sources import Opened, open_source


def notes_of(model: Model) -> Iterator[Event]:
    """Warnings about the stored job of a model: its keys that have another name in this version."""
    yield from (Warned("job.earlier_key", text) for text in model.job.notes)


def memory_of(model: Model, memory: str | None, device: str) -> str:
    """Memory for the tiles of all images of a prediction: as given, as the job says, or of what is free at its start."""
    return str(available_memory(memory or model.job.prediction.memory, device))


def record_prediction(folder: RunFolder, opened: Sequence[Opened], *, device: str, memory: str) -> None:
    """Write what the results of a prediction depend on: the memory, too, because tiles of other sizes round differently."""
    facts = {"inputs": checksums(file for image in opened for file in image.files), "weights": checksum(folder.model / WEIGHTS)}
    folder.write_provenance({**facts, "memory": int(memory), **circumstances(device)}, step="predict")


def open_test_images(model: Model) -> Generator[Event, None, Sequence[Opened]]:
    """Open the test images of the job of a model; yield warnings about the job and the images."""
    images = model.job.images
    assert images.test is not None  # the caller has checked it
    yield from notes_of(model)
    opened, warnings = open_source(
        images.test,
        images,
        key="images.test",
        need_labels=False,
        values=model.method.labels_are_images,
        enlarge=model.job.method.enlarged_by,
    )
    yield from (Warned(code_of(text, "images.pairing"), text) for text in warnings)
    return opened


def restore_test_images(model: Model, folder: RunFolder, *, device: str, memory: str | None) -> Iterator[Event]:
    """Restore the test images of a run: images into the folder of the method, scores per image into `scores.csv`."""
    began = time.monotonic()
    opened = yield from open_test_images(model)
    yield Started(len(opened), "image")
    device = model.device(device)
    memory = memory_of(model, memory, device)
    scores: dict[str, dict[str, float]] = {}
    place = folder.path / model.method.folder if isinstance(model.method, Restoring) else folder.path
    check_results(folder, [file for source in opened for file in place.glob(f"{glob.escape(source.name)}_*.tif")])
    for number, source in enumerate(opened):
        steps = _restore_one(model, source, number, folder, device=device, memory=memory)
        scores[source.name] = yield from below(source.name, steps)
        yield Progress(number + 1, len(opened), "image", source.name)
    rows = model.method.score_rows(scores)
    write_table(folder.scores_file, {name: [row[name] for row in rows] for name in rows[0]})
    yield FileWritten(folder.scores_file, Artefact.SCORES)
    folder.write_images([replace(image, truth=None).row(None) for image in opened])
    record_prediction(folder, opened, device=device, memory=memory)
    figures = {name: value for name, value in rows[-1].items() if name != "image"}
    yield Logged("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    yield Finished(time.monotonic() - began, figures)


def _restore_one(
    model: Model, source: Opened, number: int, folder: RunFolder, *, device: str, memory: str | None
) -> Generator[Event, None, dict[str, float]]:
    method = model.method
    assert isinstance(method, Restoring)
    image = model.as_image(source.raw)
    yield from (Warned("images.unlike_training", text) for text in model.warnings(image))
    yield from (Warned("images.values", text) for text in check_image(source.raw))
    scaling, own = model.scaling(image), image.canonical()
    truth: np.ndarray | None = own
    if method.labels_are_images:
        truth = None if source.labels is None else source.labels.canonical()
    if method.labelled:  # predicted in the units of the targets
        predicted = yield from model.predict_steps(image, memory=memory, device=device, scaling=scaling)
        shown = method.pictures(own, own, np.asarray(predicted))
    else:
        # the random part of the task depends on the seed and the image alone, so that a repeated prediction gives the same figures
        task = method.task(scaling.apply(own), np.random.default_rng((model.job.training.seed, number)))
        result = yield from _restored(model, method, task, device=device, memory=memory)
        pictures = method.pictures(own.astype(np.float32), method.in_units(task, scaling.undo), scaling.undo(result))
        # figures are computed from the values that are written, rounded to the type of the image
        shown = {name: in_type(picture, own.dtype) for name, picture in pictures.items()}
    target = folder.path / method.folder
    target.mkdir(parents=True, exist_ok=True)
    for name, picture in shown.items():
        file = target / f"{source.name}_{name}.tif"
        flat, spatial = len(picture) == 1, image.axes.spatial_axes
        write(file, picture[0] if flat else picture, axes=spatial if flat else f"C{spatial}", voxel_size=image.voxel_size, overwrite=True)
        yield FileWritten(file, Artefact.IMAGE, name)
    figures: dict[str, float] = {}
    for compared, ending in method.compared.items():
        figures |= {} if truth is None else image_figures(truth, {"image": own, **shown}[compared], suffix=ending)
    return figures


def _restored(model: Model, method: Restoring, task: np.ndarray, *, device: str, memory: str | None) -> Generator[Event, None, np.ndarray]:
    """The restored image, tile by tile, in normalised values."""
    device = pick_device(device)
    network = model.fast_network.to(device)
    plan = model.plan(task.shape[1:], available_memory(memory or model.job.prediction.memory, device), device)
    with keep_freed_memory():  # tiles of one size: freed blocks are used again instead of returned to the system
        orientations, precision = model.orientations(), model.job.prediction.precision
        tiled = TiledNetwork(
            lambda batch: method.restore(network, batch), len(method.channels), orientations, device=device, precision=precision
        )
        restored: np.ndarray = yield from predict(task, tiled, plan)
    for filtering in model.job.prediction.median:
        restored = np.stack([median(channel, filtering.axes, filtering.size) for channel in restored])
    return restored


def in_type(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in another type: rounded and clipped to its range for integer types.

    Examples:
        >>> in_type(np.array([-1.0, 2.6, 300.0]), np.dtype(np.uint8))
        array([  0,   3, 255], dtype=uint8)
    """
    if dtype.kind not in "iu":
        return array.astype(dtype if dtype.kind == "f" else np.uint8)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array.astype(np.float64)), limits.min, limits.max).astype(dtype)
