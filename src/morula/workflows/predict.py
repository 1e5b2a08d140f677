"""Predict images with a trained model: labels and tables."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import DataError, FileWriteError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.image import Image
from morula.core.location import split_location, stem_of
from morula.io.check import check_image
from morula.io.pairs import list_images, names_of
from morula.io.write import write
from morula.jobs.run_folder import RunFolder
from morula.labels.objects import DECODED, Objects
from morula.measurement.csv_table import write_table
from morula.measurement.statistics import statistics
from morula.methods.classes import class_image
from morula.models.load import load
from morula.models.model import Model
from morula.workflows.log import logged
from morula.workflows.predict_images import notes_of, restore_test_images
from morula.workflows.reading import Reading
from morula.workflows.sources import Opened, open_source


def predict(run: str | Path, *, device: str = "auto", memory: str | None = None) -> Iterator[Event]:
    """Predict the test images of a run's job with its model: labels and tables into `objects/`.

    Args:
        run: a run folder whose training has finished.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for tiles, for example ``"8GB"``; by default as the job says.

    Yields:
        events.

    Raises:
        DataError: when the job has no test images.
        MissingFileError: when the run has no model.

    Examples:
        >>> for event in predict("runs/nuclei"):  # doctest: +SKIP
        ...     print(event)
    """
    folder = RunFolder.existing(run)
    model = load(run)
    if model.job.images.test is None:
        remedy = f"Train with images.test, or use `morula segment IMAGES --model {run} --output OUTPUT`."
        raise DataError("images.no_test", "the job of this run has no test images", key="images.test", file=run, remedy=remedy)
    steps = restore_test_images if model.method.restores else _test_images
    yield from logged(below("predict", steps(model, folder, device=device, memory=memory)), folder)


def _test_images(model: Model, folder: RunFolder, *, device: str, memory: str | None) -> Iterator[Event]:
    began = time.monotonic()
    images = model.job.images
    assert images.test is not None  # the caller has checked it
    yield from notes_of(model)
    opened, warnings = open_source(images.test, images, key="images.test", need_labels=False)
    yield from (Warned("images.pairing", text) for text in warnings)
    yield Started(len(opened), "image")
    rows = []
    shutil.rmtree(folder.objects / "before", ignore_errors=True)
    for done, image in enumerate(opened, start=1):
        labels_file = folder.objects / f"{image.name}.tif"
        channels = _channels_file(model, folder, image.name)
        yield from below(image.name, segment_one(model, image, labels_file, device=device, memory=memory, channels=channels))
        rows.append({"name": image.name, "raw": image.raw.source, "prediction": str(labels_file.resolve()), **image.truth_row()})
        yield Progress(done, len(opened), "image", image.name)
    folder.write_images(rows)
    yield Finished(time.monotonic() - began)


def _channels_file(model: Model, folder: RunFolder, name: str) -> Path | None:
    return folder.predictions / f"{name}.tif" if model.job.prediction.save_channels else None


def segment_one(
    model: Model, source: Opened, labels_file: Path, *, device: str, memory: str | None, channels: Path | None = None
) -> Iterator[Event]:
    """Predict one image and write its labels, its table and whatever else the job asks for.

    Args:
        model: the trained model.
        source: the image.
        labels_file: file of the labels; the other files are next to it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for tiles.
        channels: file for the predicted channels, if they are to be saved.
    """
    image = model.as_image(source.raw)
    yield from (Warned("images.unlike_training", text) for text in model.warnings(image))
    yield from (Warned("images.values", text) for text in check_image(source.raw))
    prediction = yield from model.predict_steps(image, memory=memory, device=device)
    if channels is not None:
        channels.parent.mkdir(parents=True, exist_ok=True)
        axes = f"C{image.axes.spatial_axes}"
        yield FileWritten(write(channels, prediction, axes=axes, voxel_size=image.voxel_size, overwrite=True), Artefact.CHANNELS)
    remarks: list[str] = []
    objects = model.decode(prediction, image, tell=remarks.append)
    yield from (Logged(f"{source.name}: {remark}") for remark in remarks)
    labels, table = model.measured(objects, image)
    write_labels(labels_file, labels, image)
    yield FileWritten(labels_file, Artefact.LABELS)
    if objects.classes is not None:
        write_labels(class_image_path(labels_file), class_image(labels, objects.classes), image)
        yield FileWritten(class_image_path(labels_file), Artefact.CLASSES)
    if "comment" in table:
        write_table(table_path(labels_file, "_all"), table)
        yield FileWritten(table_path(labels_file, "_all"), Artefact.FULL_TABLE)
        table = table[table["comment"] == "Correct"]
    if model.job.objects.measure.statistics:
        write_table(table_path(labels_file, "_statistics"), statistics(labels, image.voxel_size))
        yield FileWritten(table_path(labels_file, "_statistics"), Artefact.STATISTICS)
    write_table(table_path(labels_file), table)
    yield FileWritten(table_path(labels_file), Artefact.TABLE, "" if model.method.instances else "one row per class")
    yield from write_more_images(model, objects, labels_file, image)
    yield Logged(f"{source.name}: {len(table)} {'objects' if model.method.instances else 'classes'}")


def write_more_images(model: Model, objects: Objects, labels_file: Path, image: Image) -> Iterator[Event]:
    """Write the labels before refinement and filters if the job has any, and the inputs of the decoder if the job asks for them."""
    options = model.job.objects
    if options.refine or options.filter:
        before = raw_labels_path(labels_file)
        write_labels(before, objects.intermediates.get(DECODED, objects.labels), image)
        yield FileWritten(before, Artefact.RAW_LABELS)
    for name, array in objects.intermediates.items():
        if options.intermediates and name != DECODED:
            file = labels_file.parent / "intermediates" / f"{stem_of(labels_file)}_{name}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            shown = array.astype(np.uint8) if array.dtype == np.bool_ else array
            axes = image.axes.spatial_axes if array.ndim == image.ndim_spatial else f"C{image.axes.spatial_axes}"
            write(file, shown, axes=axes, voxel_size=image.voxel_size, overwrite=True)
            yield FileWritten(file, Artefact.INTERMEDIATE, name)


def write_labels(file: Path, labels: np.ndarray, image: Image) -> None:
    """Write labels with the axes and the voxel size of their image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, labels, axes=image.axes.spatial_axes, voxel_size=image.voxel_size, labels=True, overwrite=True)


def raw_labels_path(labels_file: Path) -> Path:
    """Path of the labels before post-processing: a file of the same name in the folder `before`."""
    return labels_file.parent / "before" / labels_file.name


def class_image_path(labels_file: Path) -> Path:
    """Path of the class image of a label file.

    Examples:
        >>> class_image_path(Path("objects/cells.tif")).as_posix()
        'objects/classes/cells.tif'
    """
    return labels_file.parent / "classes" / labels_file.name


def table_path(labels_file: Path, suffix: str = "") -> Path:
    """Path of the table of a label file.

    Examples:
        >>> table_path(Path("out/cells.ome.zarr")).name, table_path(Path("cells.t1.tif"), "_all").name
        ('cells.csv', 'cells.t1_all.csv')
    """
    return labels_file.with_name(f"{stem_of(labels_file)}{suffix}.csv")


def already_exist(files: Sequence[Path]) -> FileWriteError:
    """The error for output files that exist.

    Examples:
        >>> already_exist([Path("cells.tif")]).code
        'output.exists'
    """
    shown = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    remedy = "Replace with --overwrite (overwrite=True in Python), or name another output."
    return FileWriteError("output.exists", "already exists" if len(files) == 1 else "already exist", file=shown, remedy=remedy)


def sources_of(images: Any, reading: Reading = Reading()) -> Sequence[Opened]:  # noqa: B008 - frozen
    """Images given as a path, a pattern, a folder, an array or an `Image`, or a list of them; `reading` is for files."""
    if isinstance(images, Image):
        return [Opened(stem_of(split_location(images.source or "image")[0]), images)]
    if isinstance(images, Sequence) and not isinstance(images, str) and not all(isinstance(one, str | Path) for one in images):
        opened = [source for one in images for source in sources_of(one, reading)]
        return [replace(each, name=f"image_{i}") if each.raw.source is None and len(opened) > 1 else each for i, each in enumerate(opened)]
    if isinstance(images, str | Path | Sequence):
        paths = list_images(images)
        return [Opened(name, reading.open(path)) for name, path in zip(names_of(paths), paths, strict=True)]
    array = np.asarray(images)
    return [Opened("image", Image(array, "CZYX"[-array.ndim :]))]  # type: ignore[arg-type]
