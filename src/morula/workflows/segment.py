"""New images through a trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morula.core.errors import DataError, FileWriteError
from morula.core.events import Event, Finished, Progress, Started, below
from morula.models.load import load
from morula.models.model import Model
from morula.workflows.predict import before_beside, segment_one, sources_of


def segment(
    images: Any,
    *,
    model: str | Path | Model,
    output: str | Path,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
) -> Iterator[Event]:
    """Segment and measure images with a trained model. No training data is needed.

    Args:
        images: a file, folder or pattern, an array or `Image`, or a list of them.
        model: a run folder, the model folder in it, or a loaded model.
        output: a label file (its ending chooses the format) for one image, a folder for several; a table lies beside each label file.
            Where the model's job refines or filters objects, the folder `before` beside it holds the labels as they were decoded; where
            it asks for intermediates, the folder `intermediates` holds what the decoder looked at, a file each (`NAME_seeds.tif`).
        overwrite: replace existing results.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: what tiles may take, for example ``"8GB"``.

    Yields:
        events.

    Raises:
        MissingFileError: when there is no such image or model.
        ModelError: when an image has other dimensions or channels than the model.
        FileWriteError: when a result exists already, or two images would be written to one file.

    Examples:
        >>> import morula
        >>> for event in morula.segment("scan.ome.zarr", model="runs/nuclei", output="cells.ome.zarr"):  # doctest: +SKIP
        ...     print(event)
    """
    steps = _segmented(images, model, Path(output), overwrite=overwrite, device=device, memory=memory)
    yield from below("segment", steps, run=str(output))


def _segmented(
    images: Any, model: str | Path | Model, target: Path, *, overwrite: bool, device: str, memory: str | None
) -> Iterator[Event]:
    began = time.monotonic()
    opened = sources_of(images)
    if not opened:
        raise DataError(f"{images!r} names no image. Give an image file, or a folder or pattern that holds some.")
    trained = model if isinstance(model, Model) else load(model)
    single = len(opened) == 1 and target.suffix != "" and not target.is_dir()
    files = [target if single or target.name.endswith(".zarr") else target / f"{each.name}.tif" for each in opened]
    twice = next((file.name for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise FileWriteError(f"several images would be written to {twice!r}, one over the other. Rename them, or write to several folders.")
    for each in opened:
        trained.as_image(each.raw)
    wanted = trained.job.objects
    earlier = [before_beside(file) for file in files] if wanted.refine or wanted.filter else []
    taken = [str(file) for file in [*files, *earlier] if file.exists()]
    if taken and not overwrite:
        raise FileWriteError(
            f"{', '.join(taken[:3])} exist{'s' if len(taken) == 1 else ''} already. Replace with --overwrite, or name another output."
        )
    yield Started(len(opened), "image")
    for done, (each, file) in enumerate(zip(opened, files, strict=True), start=1):
        yield from below(each.name, segment_one(trained, each, file, device=device, memory=memory))
        yield Progress(done, len(opened), "image", each.name)
    yield Finished(time.monotonic() - began)
