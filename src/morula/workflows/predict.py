"""Predict images with a trained model: labels and tables."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, MorulaError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.image import Image
from morula.core.image_like import image_of, is_list_of_images
from morula.core.location import split_location, stem_of
from morula.core.manifest import discard, discard_own, recorded
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_space
from morula.inference.memory import available_memory, check_decoding, tile_memory
from morula.io.check import check_image
from morula.io.pairs import list_images, names_of
from morula.io.write import destination, write
from morula.jobs.inputs import check_run_again
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.labels.objects import DECODED
from morula.measurement.csv_table import DIGITS, write_table
from morula.measurement.statistics import statistics
from morula.methods.classes import class_image
from morula.models.load import load
from morula.models.model import Model
from morula.models.scale import fit_scale
from morula.models.spread import tta_spread
from morula.workflows.block_store import BlockStore
from morula.workflows.experiment import experiment_destinations, write_experiment
from morula.workflows.exports import export_paths, write_exports
from morula.workflows.hardware import Hardware
from morula.workflows.log import logged
from morula.workflows.predict_images import memory_of, open_test_images, record_prediction, restore_test_images
from morula.workflows.reading import Reading
from morula.workflows.result_files import class_image_path, file_of_results, intermediates_path, raw_labels_path, table_path
from morula.workflows.run_results import check_results, discard_results, remove_stale, report_again
from morula.workflows.segment_blocks import needs_blocks, segment_in_blocks
from morula.workflows.sources import Opened
from morula.workflows.space import prediction_bytes
from morula.workflows.stream import events_of
from morula.workflows.unfinished_batch import UnfinishedBatch, model_key, origin_of
from morula.workflows.workers import Processes, check_workers

if TYPE_CHECKING:
    import pandas as pd


@events_of("morula.predict")
@with_named_os_errors
def predict(run: str | Path, *, device: str = "auto", memory: str | None = None, workers: int = 1) -> Iterator[Event]:
    """Predict the test images of a run's job with its model: labels and tables into `objects/`.

    Args:
        run: a run folder whose training has finished.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for the process, for example ``"8GB"``; by default as the job says.
        workers: processes that decode and measure images that are larger than the memory.

    Yields:
        events.

    Raises:
        DataError: when the job has no test images.
        MissingFileError: when the run has no model.

    Examples:
        >>> for event in predict("runs/nuclei"):  # doctest: +SKIP
        ...     print(event)
    """
    check_workers(workers)
    folder = RunFolder.existing(run)
    with folder.in_use():
        # recorded scores count too: an interrupted prediction has removed them
        scored = folder.scores_file.is_file() or folder.scores_file.name in (recorded(folder.path) or {})
        yield from predict_into(folder, device=device, memory=memory, workers=workers)
        if scored and has_truth(folder):  # scores and report describe the objects of before, so they are written again
            from morula.workflows.evaluate import evaluate_into  # `segment` starts faster without it

            yield from evaluate_into(folder)
        yield from report_again(folder)


def has_truth(folder: RunFolder) -> bool:
    """Whether labels of the predicted images are known, so that they can be scored."""
    return folder.images_file.is_file() and any(row.get("truth") is not None for row in folder.read_images())


def predict_into(folder: RunFolder, *, device: str, memory: str | None, workers: int = 1) -> Iterator[Event]:
    """Predict as `predict` does, in a run folder whose lock is held; scores of earlier objects are removed first."""
    run = folder.path
    model = load(run)
    # the job of the folder, not the copy in the model: the images may have been moved, and their places corrected there
    images = load_job(folder.job_file).images
    model = replace(model, job=model.job.model_copy(update={"images": images}))
    if images.test is None:
        remedy = f"Train with images.test, or use `morula segment IMAGES --model {run} --output OUTPUT`."
        raise DataError("images.no_test", "the job of this run has no test images", key="images.test", file=run, remedy=remedy)
    check_run_again(folder, model.job)
    if model.method.restores:
        steps = restore_test_images(model, folder, device=device, memory=memory)
    else:
        steps = _test_images(model, folder, Hardware(device, memory, Processes(workers)))
    yield from logged(below("predict", steps), folder)
    discard(folder.path, "report/stale.json")


def _test_images(model: Model, folder: RunFolder, hardware: Hardware) -> Iterator[Event]:
    began, memory = time.monotonic(), hardware.memory
    opened = yield from open_test_images(model)
    targets = {image.name: folder.objects / f"{image.name}.tif" for image in opened}
    channels = {image.name: _channels_file(model, folder, image.name) for image in opened}
    outputs = [output.path for file in targets.values() for output in outputs_of(model, file, overwrite=True)]
    tables = [*(place.path for place in experiment_destinations(folder.path)), *folder.score_files]
    check_results(folder, [*outputs, *filter(None, channels.values()), *tables])
    check_space(folder.path, prediction_bytes(model, opened))
    yield from check_memory(model, opened, memory)
    batch = UnfinishedBatch.of(folder.path, model, list(targets.values()), {"device": hardware.device, "memory": memory})
    device = model.device(hardware.device)
    memory = batch.agreed("memory", memory_of(model, memory, device))
    hardware = replace(hardware, device=device, memory=memory)
    yield Started(len(opened), "image")
    # from here on the objects change: what describes those of before must not stay beside them
    discard_results(folder, [file for name, file in targets.items() if name not in batch.begun])
    batch.start()
    rows = []
    stated = model.job.images.diameter
    diameter = stated if isinstance(stated, float) and model.diameter is not None else None
    for done, image in enumerate(opened, start=1):
        labels_file = targets[image.name]
        steps = segment_one(model, image, labels_file, hardware, channels=channels[image.name], diameter=diameter)
        yield from below(image.name, batch.steps(image, steps))
        rows.append(image.row(labels_file))
        yield Progress(done, len(opened), "image", image.name)
    folder.write_images(rows)
    if model.method.instances:
        yield from write_experiment(folder.path, {name: table_path(file) for name, file in targets.items()})
    record_prediction(folder, opened, device=device, memory=memory)
    yield from remove_stale(folder, batch.written)
    batch.end()
    yield Finished(time.monotonic() - began)


def check_memory(model: Model, opened: Sequence[Opened], memory: str | None) -> Iterator[Event]:
    """Where images cannot be segmented in blocks: check that each fits into the free memory, and warn where it exceeds the stated limit.

    Raises:
        DataError: ``memory.image_too_large``.
    """
    reason = model.block_problem()
    for image in opened if reason else ():
        limit = memory or model.job.prediction.memory
        if text := check_decoding(image.raw.spatial_shape, len(model.method.channels), limit, name=image.name, reason=reason):
            yield Warned("prediction.memory_exceeded", text)


def _channels_file(model: Model, folder: RunFolder, name: str) -> Path | None:
    return folder.predictions / f"{name}.tif" if model.job.prediction.save_channels else None


@dataclass(frozen=True, eq=False)
class Segmented:
    """What is written for an image, in memory or computed when it is read.

    Attributes:
        labels: (Z)YX.
        table: one row per object.
        classes: (Z)YX, the class of each voxel's object, or `None`.
        before: (Z)YX, the labels before refinement and filters, where the job has any.
        intermediates: inputs of the decoder by name.
        finished: called when everything is written.
    """

    labels: ArraySource
    table: pd.DataFrame
    classes: ArraySource | None
    before: ArraySource | None
    intermediates: Mapping[str, np.ndarray] = field(default_factory=dict)
    finished: Callable[[], None] = lambda: None


def segment_one(
    model: Model,
    source: Opened,
    labels_file: Path,
    hardware: Hardware,
    *,
    channels: Path | None = None,
    diameter: float | None = None,
    raw_labels: bool = True,
) -> Iterator[Event]:
    """Predict one image and write its labels, its table and whatever else the job asks for.

    Args:
        model: the trained model.
        source: the image.
        labels_file: file of the labels; the other files are next to it.
        hardware: what it is computed with.
        channels: file for the predicted channels, if they are to be saved.
        diameter: diameter of the objects in voxels, for a model that rescales images; estimated where it is left out.
        raw_labels: also write the labels before refinement and filters, where there are any.
    """
    image = model.as_image(source.raw)
    yield from (Warned("images.unlike_training", text) for text in model.warnings(image))
    yield from (Warned("images.values", text) for text in check_image(source.raw))
    if _needs_blocks(model, image, hardware.memory):
        found = yield from _in_blocks(model, image, source.reading, labels_file, hardware, channels=channels)
        if raw_labels and model.job.objects.refine:
            text = f"{labels_file}: labels before refinement are not written for an image that is decoded in blocks"
            yield Warned("blocks.no_raw_labels", text)
    else:
        found = yield from _at_once(model, image, hardware, channels=channels, diameter=diameter)
    table = found.table
    # never new labels beside tables or outlines of earlier ones, whenever the process ends
    (exports,) = export_paths(labels_file, model.job.objects.export)
    tables = [table_path(labels_file, suffix) for suffix in ("", "_all", "_statistics")]
    for file in [*tables, raw_labels_path(labels_file), *exports.values()]:
        discard_own(file)
    write_labels(labels_file, found.labels, image)
    yield FileWritten(labels_file, Artefact.LABELS)
    if found.classes is not None:
        write_labels(class_image_path(labels_file), found.classes, image)
        yield FileWritten(class_image_path(labels_file), Artefact.CLASSES)
    if "comment" in table:
        write_table(table_path(labels_file, "_all"), table, digits=DIGITS)
        yield FileWritten(table_path(labels_file, "_all"), Artefact.FULL_TABLE)
        table = table[table["comment"] == "Correct"]
    if model.job.objects.measure.statistics:
        write_table(table_path(labels_file, "_statistics"), statistics(np.asarray(found.labels), image.voxel_size))
        yield FileWritten(table_path(labels_file, "_statistics"), Artefact.STATISTICS)
    write_table(table_path(labels_file), table, digits=DIGITS)
    yield FileWritten(table_path(labels_file), Artefact.TABLE, "" if model.method.instances else "one row per class")
    if exports:
        yield from write_exports(np.asarray(found.labels), table, image, exports)
    yield from write_more_images(found if raw_labels else replace(found, before=None), labels_file, image)
    found.finished()
    yield Logged(f"{source.name}: {len(table)} {'objects' if model.method.instances else 'classes'}")


def _needs_blocks(model: Model, image: Image, memory: str | None) -> bool:
    limit = available_memory(memory or model.job.prediction.memory)
    return needs_blocks(model, image.spatial_shape, limit) and not model.block_problem()


def _at_once(
    model: Model, image: Image, hardware: Hardware, *, channels: Path | None, diameter: float | None
) -> Generator[Event, None, Segmented]:
    """Segment an image in memory."""
    options, device = model.job.objects, hardware.device
    limit = available_memory(hardware.memory or model.job.prediction.memory)
    tiles = tile_memory(limit)
    fitted = yield from fit_scale(model, image, diameter, memory=tiles, device=device)
    prediction = fitted.channels((yield from model.predict_steps(fitted.image, memory=tiles, device=device)))
    if channels is not None:
        yield _write_channels(channels, prediction, fitted.decoded)
    remarks: list[str] = []
    objects = fitted.objects(model.decode(prediction, fitted.decoded, tell=remarks.append))
    yield from (Logged(remark) for remark in remarks)
    labels, table = model.measured(objects, image)
    if model.job.prediction.tta_spread:
        spread = yield from tta_spread(model, fitted, objects.labels, memory=tiles, device=device)
        table.insert(list(table).index("confidence") + 1, "tta_spread", spread)
    return Segmented(
        labels,
        table,
        classes=None if objects.classes is None else class_image(labels, objects.classes),
        before=objects.intermediates.get(DECODED, objects.labels) if options.refine or options.filter else None,
        intermediates={name: array for name, array in objects.intermediates.items() if options.intermediates and name != DECODED},
    )


def _in_blocks(
    model: Model, image: Image, reading: str, labels_file: Path, hardware: Hardware, *, channels: Path | None
) -> Generator[Event, None, Segmented]:
    """Segment an image block by block; unfinished results are in a hidden folder beside the labels."""
    limit = available_memory(hardware.memory or model.job.prediction.memory)
    place = file_of_results(labels_file)
    place.parent.mkdir(parents=True, exist_ok=True)
    store = BlockStore(place, signature_of(model, image, reading))
    found = yield from segment_in_blocks(model, image, store, hardware.executor, device=hardware.device, memory=limit)
    if channels is not None:
        yield _write_channels(channels, found.channels, image)
    before = found.unfiltered if model.job.objects.filter and not model.job.objects.refine else None
    return Segmented(found.labels, found.table, classes=found.classes, before=before, finished=store.remove)


def signature_of(model: Model, image: Image, reading: str) -> dict[str, object]:
    """What decides the labels of an image that is segmented in blocks."""
    return {"model": model_key(model, {}), "image": origin_of(image), "reading": reading}


def _write_channels(file: Path, prediction: ArraySource, image: Image) -> Event:
    file.parent.mkdir(parents=True, exist_ok=True)
    channels = Image(prediction, Axes(f"C{image.axes.spatial_axes}"), image.voxel_size, origin=image.origin)
    return FileWritten(write(file, channels, overwrite=True), Artefact.CHANNELS)


def write_more_images(found: Segmented, labels_file: Path, image: Image) -> Iterator[Event]:
    """Write the labels before refinement and filters, and the inputs of the decoder, where there are any."""
    if found.before is not None:
        before = raw_labels_path(labels_file)
        write_labels(before, found.before, image)
        yield FileWritten(before, Artefact.RAW_LABELS)
    for name, array in found.intermediates.items():
        place = file_of_results(labels_file)
        file = intermediates_path(labels_file) / f"{stem_of(place)}_{name}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        shown = array.astype(np.uint8) if array.dtype == np.bool_ else array
        axes = image.axes.spatial_axes if array.ndim == image.ndim_spatial else f"C{image.axes.spatial_axes}"
        write(file, shown, axes=axes, voxel_size=image.voxel_size, overwrite=True)
        yield FileWritten(file, Artefact.INTERMEDIATE, name)


def outputs_of(model: Model, labels_file: Path, *, overwrite: bool, points: int = 1, raw_labels: bool = True) -> list[Destination]:
    """Everything that is written for an image, or for a series of time `points`: the labels, and tables and images beside them."""
    options, suffixes = model.job.objects, [""]
    suffixes += ["_all"] if options.filter else []
    suffixes += ["_statistics"] if options.measure.statistics else []
    images = [raw_labels_path(labels_file)] if raw_labels and (options.refine or options.filter) else []
    images += [class_image_path(labels_file)] if model.method.object_classes is not None else []
    tables = [Destination(table_path(labels_file, suffix), proven=True) for suffix in suffixes]
    more = _intermediates_of(labels_file) if options.intermediates else []
    more += [file for group in export_paths(labels_file, options.export, points) for file in group.values()]
    labels, *others = (labels_destination(file, overwrite=overwrite) for file in (labels_file, *images))
    return [labels, *tables, *others, *(Destination(file, proven=True) for file in more)]


def labels_destination(file: Path, *, overwrite: bool) -> Destination:
    """A label file of an image, which replaces only what Morula wrote."""
    return replace(destination(file, labels=True, overwrite=overwrite), proven=True)


def _intermediates_of(labels_file: Path) -> list[Path]:
    """Existing inputs of the decoder of an image. Their names depend on the decoder, so files of images with longer names are left out."""
    labels_file = file_of_results(labels_file)
    stem = stem_of(labels_file)
    others = [stem_of(file) for file in labels_file.parent.glob(f"{glob.escape(stem)}_*") if file.suffix not in (".csv", "")]
    files = sorted(intermediates_path(labels_file).glob(f"{glob.escape(stem)}_*.tif"))
    return [file for file in files if not any(file.name.startswith(f"{other}_") for other in others)]


def write_labels(file: Path, labels: ArraySource, image: Image) -> None:
    """Write labels with the axes and the voxel size of their image."""
    split_location(file)[0].parent.mkdir(parents=True, exist_ok=True)
    placed = Image(labels, Axes(image.axes.spatial_axes), image.voxel_size, origin=image.origin)
    write(file, placed, labels=True, overwrite=True, like=image.source)


def sources_of(
    images: Any,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    tell: Callable[[str, MorulaError], None] | None = None,
) -> Sequence[Opened]:
    """Images given as a path, a pattern, a folder, an array or an `Image`, or a list of them; `reading` is for files.

    With `tell`, a file that cannot be opened is left out, and `tell` is called with its name and the error.
    """
    if isinstance(images, Image):
        return [Opened(stem_of(split_location(images.source or "image")[0]), images)]
    if is_list_of_images(images) and not all(isinstance(one, str | Path) for one in images):
        opened = [source for one in images for source in sources_of(one, reading, tell)]
        return [
            replace(image, name=f"image_{i}") if image.raw.source is None and len(opened) > 1 else image for i, image in enumerate(opened)
        ]
    if isinstance(images, str | Path | Sequence):
        paths = list_images(images)
        found = []
        for name, path in zip(names_of(paths), paths, strict=True):
            try:
                found.append(Opened(name, reading.open(path), reading=repr(reading)))
            except MorulaError as error:
                if tell is None:
                    raise
                tell(name, error)
        return found
    return [Opened("image", image_of(images, axes=reading.axes, voxel_size=reading.voxel_size, key="images"))]
