"""From images to labels and tables, with a trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.events import Event, FileWritten, Finished, Logged, Progress, Started, Warned
from morula.core.image import Image
from morula.io.write import write
from morula.jobs.model import Model, load
from morula.jobs.run_folder import RunFolder
from morula.measurement.measure import measure
from morula.workflows.log import logged
from morula.workflows.sources import Opened, open_source


def predict(run: str | Path, *, device: str = "auto", memory: str | None = None) -> Iterator[Event]:
    """Predict the test images of a run's job with its model: labels and tables into `objects/`.

    Args:
        run: a run folder whose training has finished.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: what tiles may take, for example ``"8GB"``; as the job says when left out.

    Yields:
        events.

    Raises:
        DataError: when the job names no test images.
        MissingFileError: when the run has no model.

    Examples:
        >>> for event in predict("runs/nuclei"):  # doctest: +SKIP
        ...     print(event)
    """
    folder = RunFolder.existing(run)
    model = load(run)
    if model.job.images.test is None:
        raise DataError(f"the job of {str(run)!r} names no test images. State images.test, or use `morula segment IMAGES --model {run}`.")
    yield from logged(_test_images(model, folder, device=device, memory=memory), folder.log_file)


def _test_images(model: Model, folder: RunFolder, *, device: str, memory: str | None) -> Iterator[Event]:
    began = time.monotonic()
    opened, warnings = open_source(model.job.images.test, model.job.images, key="images.test", need_labels=False)
    yield from map(Warned, warnings)
    yield Started("predict", len(opened))
    rows = []
    for done, each in enumerate(opened, start=1):
        labels_file = folder.objects / f"{each.name}.tif"
        yield from segment_one(model, each, labels_file, device=device, memory=memory, channels=_channels_file(model, folder, each.name))
        truth = None if each.labels is None else each.labels.source
        rows.append({"name": each.name, "raw": each.raw.source, "truth": truth, "prediction": str(labels_file.resolve())})
        yield Progress("predict", done, len(opened), each.name)
    folder.write_images(rows)
    yield Finished("predict", time.monotonic() - began)


def _channels_file(model: Model, folder: RunFolder, name: str) -> Path | None:
    return folder.predictions / f"{name}.tif" if model.job.prediction.save_channels else None


def segment_one(
    model: Model, each: Opened, labels_file: Path, *, device: str, memory: str | None, channels: Path | None = None
) -> Iterator[Event]:
    """Labels of one image into a file, its table beside it; the predicted channels too where a file is named."""
    image = model.as_image(each.raw)
    yield from map(Warned, model.warnings(image) + image_warnings(each))
    prediction = yield from model.predict_steps(image, memory=memory, device=device)
    if channels is not None:
        channels.parent.mkdir(parents=True, exist_ok=True)
        axes = f"C{image.axes.spatial_axes}"
        yield FileWritten(write(channels, prediction, axes=axes, voxel_size=image.voxel_size, overwrite=True), "predicted channels")
    objects = model.decode(prediction)
    labels_file.parent.mkdir(parents=True, exist_ok=True)
    write(labels_file, objects.labels, axes=image.axes.spatial_axes, voxel_size=image.voxel_size, labels=True, overwrite=True)
    yield FileWritten(labels_file, "labels")
    table_file = table_beside(labels_file)
    intensity = image.canonical() if model.job.objects.measure.intensity else None
    extra = model.job.objects.measure.extra
    table = measure(objects.labels, voxel_size=image.voxel_size, intensity=intensity, extra=extra, confidence=objects.confidence)
    table.to_csv(table_file)
    yield FileWritten(table_file, "one row an object" if model.method.instances else "one row a class")
    yield Logged(f"{each.name}: {len(table)} {'objects' if model.method.instances else 'classes'}")


def table_beside(labels_file: Path) -> Path:
    """The CSV file of a label file.

    Examples:
        >>> table_beside(Path("out/cells.ome.zarr")).name
        'cells.csv'
    """
    return labels_file.with_name(labels_file.name.split(".")[0] + ".csv")


def image_warnings(each: Opened) -> list[str]:
    """What is wrong with an image's values, found before they are used.

    Raises:
        DataError: for an empty image, or values that are not finite.
    """
    from morula.io.check import check_image

    return check_image(each.raw)


def labels_of(image: Image) -> np.ndarray:
    """Label image (Z)YX in its own integer type."""
    return image.canonical()[0]


def sources_of(images: Any) -> Sequence[Opened]:
    """Images given as a path, a pattern, a folder, an array or an `Image`, or a list of them."""
    from morula.io.pairs import list_images
    from morula.io.read import read

    if isinstance(images, str | Path):
        return [Opened(path.name.split(".")[0], read(path)) for path in list_images(images)]
    if isinstance(images, Image):
        return [Opened(Path(images.source or "image").name.split(".")[0], images)]
    if isinstance(images, Sequence):
        return [each for one in images for each in sources_of(one)]
    array = np.asarray(images)
    return [Opened("image", Image(array, "CZYX"[-array.ndim :]))]  # type: ignore[arg-type]
