"""Segment new images with a trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morula.core.errors import DataError, FileWriteError
from morula.core.events import Event, Finished, Progress, Started, below
from morula.models.load import load
from morula.models.model import Model
from morula.workflows.predict import already_exist, raw_labels_path, segment_one, sources_of
from morula.workflows.predict_images import notes_of
from morula.workflows.reading import Reading


def segment(
    images: Any,
    *,
    model: str | Path | Model,
    output: str | Path,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> Iterator[Event]:
    """Segment and measure images with a trained model. No training data is needed.

    Args:
        images: a file, folder or pattern, an array or `Image`, or a list of them.
        model: a run folder, the model folder in it, or a loaded model.
        output: a label file for one image (its suffix selects the format), a folder for several; each label file has a table next to it.
            If the job of the model refines or filters objects, the folder `before` next to it holds the labels before that; if the job
            asks for intermediates, the folder `intermediates` holds the inputs of the decoder, one file each (`NAME_seeds.tif`).
        overwrite: replace existing results.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for tiles, for example ``"8GB"``.
        reading: axes, channel, data set and voxel size of the files, where their metadata are missing or wrong.

    Yields:
        events.

    Raises:
        MissingFileError: when an image or the model does not exist.
        ModelError: when an image does not have the dimensions or channels of the model.
        FileWriteError: when a result exists, or two images would be written to the same file.

    Examples:
        >>> import morula
        >>> for event in morula.segment("scan.ome.zarr", model="runs/nuclei", output="cells.ome.zarr"):  # doctest: +SKIP
        ...     print(event)
    """
    steps = _segmented(images, model, Path(output), overwrite=overwrite, device=device, memory=memory, reading=reading)
    yield from below("segment", steps, run=str(output))


def _segmented(
    images: Any, model: str | Path | Model, target: Path, *, overwrite: bool, device: str, memory: str | None, reading: Reading
) -> Iterator[Event]:
    began = time.monotonic()
    opened = sources_of(images, reading)
    if not opened:
        remedy = "Give an image file, or a folder or pattern with images."
        raise DataError("images.none", "contains no image", key="images", value=images, remedy=remedy)
    trained = model if isinstance(model, Model) else load(model)
    single = len(opened) == 1 and target.suffix != "" and not target.is_dir()
    files = [target if single or target.name.endswith(".zarr") else target / f"{image.name}.tif" for image in opened]
    duplicate = next((file for file in files if files.count(file) > 1), None)
    if duplicate is not None:
        remedy = "Rename the images, or write to several folders."
        raise FileWriteError("output.duplicate", "several images would be written to this file", file=duplicate, remedy=remedy)
    for image in opened:
        trained.as_image(image.raw)
    options = trained.job.objects
    earlier = [raw_labels_path(file) for file in files] if options.refine or options.filter else []
    taken = [file for file in [*files, *earlier] if file.exists()]
    if taken and not overwrite:
        raise already_exist(taken)
    yield from notes_of(trained)
    yield Started(len(opened), "image")
    for done, (image, file) in enumerate(zip(opened, files, strict=True), start=1):
        yield from below(image.name, segment_one(trained, image, file, device=device, memory=memory))
        yield Progress(done, len(opened), "image", image.name)
    yield Finished(time.monotonic() - began)
