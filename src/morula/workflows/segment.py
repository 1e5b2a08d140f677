"""Segment new images with a trained model."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.atomic import atomic
from morula.core.claims import claimed
from morula.core.errors import DataError, FileWriteError, MorulaError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.location import split_location, suffix_of
from morula.core.manifest import RESULTS, discard_own, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, already_exist, check_apart, check_outputs, check_space
from morula.core.remark import Remark
from morula.inference.memory import parse_bytes
from morula.io.metadata import collected
from morula.io.write import check_labels_fit, files_behind
from morula.jobs.bundled import place_of
from morula.jobs.provenance import checksum, checksums, circumstances
from morula.methods.object_options import Export
from morula.models.by_slice import SliceAxes, SliceModel, by_slices
from morula.models.load import load
from morula.models.model import Model
from morula.models.scale import check_diameter
from morula.nn.weights import WEIGHTS
from morula.workflows.batch import Batch, Failures, finished
from morula.workflows.block_store import BlockStore, store_path
from morula.workflows.choose_model import choose
from morula.workflows.cluster import opened as opened_cluster
from morula.workflows.experiment import experiment_destinations, write_experiment
from morula.workflows.exports import check_exports, parse_kinds
from morula.workflows.hardware import Hardware
from morula.workflows.predict import check_memory, labels_destination, outputs_of, segment_one, signature_of, sources_of
from morula.workflows.predict_images import memory_of, notes_of
from morula.workflows.reading import Reading
from morula.workflows.result_files import file_of_results, provenance_path, table_path
from morula.workflows.segment_blocks import needs_blocks
from morula.workflows.shares import check_tasks, segment_share
from morula.workflows.sources import Opened, about_metadata
from morula.workflows.space import prediction_bytes
from morula.workflows.stream import events_of
from morula.workflows.time_series import first_point, segment_series, time_points
from morula.workflows.unfinished_batch import UnfinishedBatch, unfinished_in
from morula.workflows.workers import Executor, Processes, check_workers

OUTPUT = "segmentation"
"""Folder of the results where none is named."""


@events_of("morula.segment")
@with_named_os_errors
def segment(  # noqa: PLR0913 - what to segment, with what, and how
    images: Any,
    *,
    model: str | Path | Model | None = None,
    output: str | Path = OUTPUT,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
    workers: int = 1,
    cluster: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    diameter: float | None = None,
    also: Sequence[str] = (),
    batch: Batch = Batch(),  # noqa: B008 - frozen
) -> Iterator[Event]:
    """Segment and measure images with a trained model. No training data is needed.

    Args:
        images: a file, folder or pattern, an array or `Image`, or a list of them.
        model: the name of a bundled model, a run folder, the model folder in it, or a loaded model, which may be one of `morula.by_slices`.
            Left out, the bundled model is chosen that fits the dimensions, channels and background of the images.
        output: a label file for one image (its suffix selects the format), a folder for several; each label file has a table next to it.
            If the job of the model refines or filters objects, the folder `before` next to it holds the labels before that; if the job
            asks for intermediates, the folder `intermediates` holds the inputs of the decoder, one file each (`NAME_seeds.tif`).
        overwrite: replace existing results. Only files that are as Morula wrote them are replaced; ``.morula.jsonl`` beside the labels
            records their checksums. A command that was interrupted continues without it. In a folder, ``experiment.csv`` holds the
            objects of all images, and ``summary.csv`` one row per image; later commands with the same folder extend them.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for the process, for example ``"8GB"``; images that are larger are segmented in blocks.
        workers: processes that decode and measure these blocks.
        cluster: a Dask cluster whose workers predict, decode and measure these blocks: ``local:4``, the address of a scheduler or a YAML
            file; see `morula.workflows.cluster.opened`. The limit of the memory is then that of each worker.
        reading: axes, channel, data set and voxel size of the files, where their metadata are missing or wrong; the region and level.
        diameter: diameter of the objects in voxels, for a model that rescales images to the size of its objects; estimated where it is
            left out.
        also: results for other programs besides those that the job of the model names: ``rois``, ``geojson``, ``coco``, ``preview`` or
            ``parquet``, beside the labels (`NAME_rois.zip`, ...).
        batch: what happens to images that are finished, or that fail.

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
    check_workers(workers)
    hardware = Hardware(device, memory, Processes(workers))
    if cluster is not None and (workers > 1 or batch.shard is not None):
        rule = "is given together with workers or shard, which also divide the work"
        raise OptionError("cluster.other_division", rule, key="cluster", value=cluster, remedy="Give one of them.")
    settings = Settings(overwrite, hardware, reading, diameter, parse_kinds(list(also), key="also"), batch, cluster)
    yield from below("segment", _segmented(images, model, Path(output).expanduser(), settings), run=str(output))


@dataclass(frozen=True)
class Settings:
    """How `segment` works; fields as its arguments."""

    overwrite: bool
    hardware: Hardware
    reading: Reading
    diameter: float | None
    also: tuple[Export, ...] = ()
    batch: Batch = field(default_factory=Batch)
    cluster: str | None = None


def sliced(model: str | Path | Model | None, axes: SliceAxes, *, stitch_threshold: float) -> Model:
    """A 2D model by its name or place, for `segment` of volumes slice by slice; see `morula.by_slices`.

    Raises:
        OptionError: without a model: those that are chosen for volumes are 3D; or for other axes, or a threshold outside its range.
        ModelError: for a model that cannot be used so.
    """
    if model is None:
        remedy = "Name one with --model, for example --model nuclei."
        raise OptionError("slices.no_model", "needs a 2D model", key="slices", value=axes, remedy=remedy)
    return by_slices(model if isinstance(model, Model) else load(model), axes, stitch_threshold=stitch_threshold)


def _choices(model: Model, settings: Settings) -> dict[str, object]:
    """What the objects depend on besides the weights, for the record."""
    by_slice = {"slices": {"axes": model.axes, "stitch_threshold": model.stitch_threshold}} if isinstance(model, SliceModel) else {}
    return {"diameter": settings.diameter, **by_slice}


def _segmented(images: Any, model: str | Path | Model | None, target: Path, settings: Settings) -> Iterator[Event]:
    began, failures = time.monotonic(), Failures()
    with collected() as ignored:
        opened = sources_of(images, settings.reading, failures.add if settings.batch.keep_going else None)
    yield from (Warned(error.code, f"{name} failed: {error}") for name, error in failures.errors.items())
    if not opened:
        failures.check(len(failures.errors))
        remedy = "Give an image file, or a folder or pattern with images."
        raise DataError("images.none", "contains no image", key="images", value=images, remedy=remedy)
    if model is None:
        bundled, chosen, reason = choose([first_point(image) for image in opened])
        # of a series, all time points are used as they are
        opened = [image if time_points(image.raw) > 1 else one for image, one in zip(opened, chosen, strict=True)]
        model = bundled.folder
        yield Logged(reason)
    names = dict(zip((image.name for image in opened), _label_files(target, opened), strict=True))
    large = _shared(model, opened, settings)
    kept = {name for name, file in names.items() if settings.batch.keeps(file)}
    todo = _Todo(opened, names, kept, failures, about_metadata(ignored), [*given_places(images)])
    if settings.batch.merge:
        yield from _merged(target, todo, large, model, settings)
    else:
        yield from _own_share(target, todo, large, model, settings)
    failures.check(len(names))
    yield Finished(time.monotonic() - began)


def _shared(model: str | Path | Model, opened: Sequence[Opened], settings: Settings) -> set[str]:
    """Names of the images whose blocks are shared by all tasks: those that are larger than the stated memory."""
    memory = settings.hardware.memory
    if memory is None or not (settings.batch.shard or settings.batch.merge):
        return set()
    trained, limit = model if isinstance(model, Model) else load(model), parse_bytes(memory)
    if trained.block_problem():
        return set()
    return {image.name for image in opened if time_points(image.raw) == 1 and needs_blocks(trained, image.raw.spatial_shape, limit)}


def _own_share(target: Path, todo: _Todo, large: set[str], model: str | Path | Model, settings: Settings) -> Iterator[Event]:
    """Segment the images of this task, all without `--shard`; and a share of each image that all tasks work on."""
    own = todo.of(settings.batch.chosen([name for name in todo.files if name not in large]))
    if own.new:
        yield from _segmented_into(target, own, model, settings)
    elif own.files or not large:
        yield Logged(f"all {len(own.files)} images are finished")
    if large:
        yield from _shares(target, todo.of(large), model, settings)


def _shares(target: Path, todo: _Todo, model: str | Path | Model, settings: Settings) -> Iterator[Event]:
    """A share of the blocks of each image."""
    trained = _with_exports(model if isinstance(model, Model) else load(model), settings.also)
    place, memory = model.source if isinstance(model, Model) else model, parse_bytes(settings.hardware.memory or "")
    outputs = [labels_destination(file, overwrite=settings.overwrite) for file in todo.new.values()]
    check_outputs(outputs, todo.read(place), overwrite=settings.overwrite)
    check_space(target, prediction_bytes(trained, todo.opened))
    hardware = replace(settings.hardware, device=trained.device(settings.hardware.device))
    yield Started(len(todo.files), "image")
    for done, source in enumerate(todo.opened, start=1):
        file = todo.files[source.name]
        if source.name in todo.kept:
            yield Logged(f"{source.name}: is finished, and is kept")
            continue
        with claimed([split_location(file)[0], table_path(file)], share=settings.batch.shard or ""):
            image, labels_file = trained.as_image(source.raw), file_of_results(file)
            store = BlockStore(labels_file, signature_of(trained, image, source.reading), shared=True)
            steps = segment_share(trained, image, store, hardware, settings.batch.share, memory=memory)
            yield from todo.failures.passing(source.name, below(source.name, steps), keep_going=settings.batch.keep_going)
        yield Progress(done, len(todo.opened), "image", source.name)


@dataclass(frozen=True)
class _Todo:
    """The images of a command.

    Attributes:
        opened: all of them.
        files: the label file of each, by name.
        kept: names of those that are finished and keep their results.
        failures: those that failed.
        remarks: about their metadata.
        places: what the user gave.
    """

    opened: Sequence[Opened]
    files: Mapping[str, Path]
    kept: set[str]
    failures: Failures
    remarks: Sequence[Remark]
    places: Sequence[str | Path]

    @property
    def new(self) -> dict[str, Path]:
        """Label files of the images that are segmented."""
        return {name: file for name, file in self.files.items() if name not in self.kept}

    def of(self, names: set[str]) -> _Todo:
        """Only these images."""
        opened, files = (
            [image for image in self.opened if image.name in names],
            {name: self.files[name] for name in self.files if name in names},
        )
        return replace(self, opened=opened, files=files, kept=self.kept & names)

    def read(self, model: str | Path | None) -> list[str | Path]:
        """What is read, which is not replaced."""
        behind = [file for image in self.opened for file in files_behind(image.raw)]
        return [*self.places, *behind, *([] if model is None else [model_place(model)])]


def _segmented_into(target: Path, todo: _Todo, model: str | Path | Model, settings: Settings) -> Iterator[Event]:
    overwrite, opened, files = settings.overwrite, todo.opened, list(todo.files.values())
    place = model.source if isinstance(model, Model) else model
    read, folder = todo.read(place), split_location(files[0])[0].parent
    # the cheap checks come before the model is loaded; only with the model it is known whether this is the command that was interrupted
    loose = overwrite or bool(unfinished_in(folder))
    check_outputs([labels_destination(file, overwrite=loose) for file in todo.new.values()], read, overwrite=loose)
    for file, image in {suffix_of(file): (file, image) for file, image in zip(files, opened, strict=True)}.values():
        count, axes, shape = time_points(image.raw), image.raw.axes.spatial_axes, image.raw.spatial_shape
        check_labels_fit(file, (count, *shape) if count > 1 else shape, axes=f"T{axes}" if count > 1 else axes)
    trained = _with_exports(model if isinstance(model, Model) else load(model), settings.also)
    _check_images(trained, opened, settings)
    decided = _decided(trained, settings)
    # a folder of results has tables of all images; of tasks, they are merged at the end
    together = trained.method.instances and files[0] != target and settings.batch.shard is None
    tables = {name: table_path(file) for name, file in todo.files.items()} if together else {}

    def checked() -> UnfinishedBatch:
        batch = UnfinishedBatch.of(folder, trained, files, decided)
        if settings.batch.resume:
            batch.check_same()
        _check_results(trained, batch, todo, experiment_destinations(folder) if tables else [], read, overwrite=overwrite)
        return batch

    checked()
    check_space(target, prediction_bytes(trained, opened))
    device = trained.device(settings.hardware.device)
    yield from check_memory(trained, opened, settings.hardware.memory)
    facts: dict[str, object] = {"model": None if place is None else str(place), "weights": weights_checksum(model)}
    facts |= {"reading": asdict(settings.reading), **_choices(trained, settings), **circumstances(device)}
    yield from notes_of(trained)
    yield from (Warned(remark.code, remark) for remark in todo.remarks)
    yield Started(len(opened), "image")
    with (
        claimed([place for file in files for place in (split_location(file)[0], table_path(file))]),
        recording(folder, RESULTS),
        _executor(settings) as (executor, remark),
    ):
        yield from remark
        batch = checked()  # again: another process may have been faster
        memory = batch.agreed("memory", memory_of(trained, settings.hardware.memory, device))
        facts["memory"] = int(memory)
        batch.start()
        settings = replace(settings, hardware=Hardware(device, memory, executor))
        yield from _each(trained, todo, batch, settings, facts)
        yield from write_experiment(folder, {name: file for name, file in tables.items() if name not in todo.failures.errors}, extend=True)
        if not todo.failures.errors:
            batch.end()


@contextmanager
def _executor(settings: Settings) -> Iterator[tuple[Executor, list[Event]]]:
    """Where blocks are computed, and a message about it."""
    if settings.cluster is None:
        yield settings.hardware.executor, []
        return
    with opened_cluster(settings.cluster) as found:
        yield found, [Logged(f"{found.count} workers; their dashboard: {found.dashboard}")]


def _decided(model: Model, settings: Settings) -> dict[str, object]:
    """What decides the results besides the model and the images."""
    hardware = settings.hardware
    return {"device": hardware.device, "memory": hardware.memory, "reading": repr(settings.reading), **_choices(model, settings)}


def _check_images(model: Model, opened: Sequence[Opened], settings: Settings) -> None:
    """Reject images that the model cannot take, and options that do not fit both, before the first image is predicted."""
    if settings.cluster is not None and not all(image.files for image in opened):
        remedy = "Write the array to a file (morula.write) that all workers can read."
        raise OptionError("cluster.array", "needs images in files", key="cluster", value=settings.cluster, remedy=remedy)
    for image in opened:
        try:
            check_exports(model.job.objects.export, model.as_image(first_point(image).raw).ndim_spatial, key="also")
        except MorulaError:
            if not settings.batch.keep_going:  # else it is told when it is the turn of this image
                raise
    if settings.diameter is not None:
        check_diameter(model, settings.diameter)


def _each(model: Model, todo: _Todo, batch: UnfinishedBatch, settings: Settings, facts: dict[str, object]) -> Iterator[Event]:
    """Segment one image after the other."""
    for done, image in enumerate(todo.opened, start=1):
        file = todo.files[image.name]
        if image.name in todo.kept and image.name not in batch.done:
            yield Logged(f"{image.name}: is finished, and is kept")
        else:
            one = segment_series if time_points(image.raw) > 1 else segment_one
            kept = model.job.objects.intermediates
            steps = one(model, image, file, settings.hardware, diameter=settings.diameter, raw_labels=kept)
            steps = below(image.name, batch.steps(image, _recorded(steps, file, checksums(image.files), facts)))
            yield from todo.failures.passing(image.name, steps, keep_going=settings.batch.keep_going)
        yield Progress(done, len(todo.opened), "image", image.name)


def _merged(target: Path, todo: _Todo, large: set[str], model: str | Path | Model, settings: Settings) -> Iterator[Event]:
    """Finish the images that tasks have shared, and write the tables of all images, which tasks have segmented.

    Raises:
        DataError: ``batch.unfinished`` where results are missing, ``shares.unfinished`` where blocks are.
    """
    waiting = todo.of({name for name in large if not finished(todo.files[name]) and store_path(file_of_results(todo.files[name])).is_dir()})
    _check_shares(waiting, model, settings)
    if missing := [name for name, file in todo.files.items() if name not in waiting.files and not finished(file)]:
        rule = (
            f"are not finished: {', '.join(missing[:10])}{' ...' if len(missing) > 10 else ''} ({len(missing)} of {len(todo.files)} images)"
        )
        raise DataError("batch.unfinished", rule, key="images", remedy="Segment them first, by the same command with --shard.")
    if waiting.files:
        yield from _segmented_into(target, waiting, model, settings)
    if list(todo.files.values()) == [target]:
        return
    folder = split_location(next(iter(todo.files.values())))[0].parent
    yield Started(len(todo.files), "image")
    destinations = experiment_destinations(folder)
    check_outputs(destinations, overwrite=True)
    with claimed([destination.path for destination in destinations]), recording(folder, RESULTS):
        yield from write_experiment(folder, {name: table_path(file) for name, file in todo.files.items()}, extend=True)


def _check_shares(waiting: _Todo, model: str | Path | Model, settings: Settings) -> None:
    """Check that the tasks which share these images have finished."""
    trained = _with_exports(model if isinstance(model, Model) else load(model), settings.also)
    for source in waiting.opened:
        file = waiting.files[source.name]
        signature = signature_of(trained, trained.as_image(source.raw), source.reading)
        check_tasks(BlockStore(file_of_results(file), signature, shared=True), file)


def _with_exports(model: Model, also: Sequence[Export]) -> Model:
    """The model with these exports besides those of its job."""
    objects = model.job.objects
    exports = tuple(dict.fromkeys([*objects.export, *also]))
    if exports == objects.export:
        return model
    return replace(model, job=model.job.model_copy(update={"objects": objects.model_copy(update={"export": exports})}))


def _label_files(target: Path, opened: Sequence[Opened]) -> list[Path]:
    """The label file of each image."""
    place = split_location(target)[0]  # the target may be a data set in a file
    single = len(opened) == 1 and place.suffix != "" and (not place.is_dir() or place.name.endswith(".zarr"))
    files = [target if single or target.name.endswith(".zarr") else target / f"{image.name}{_suffix_for(image)}" for image in opened]
    duplicate = next((file for file in files if files.count(file) > 1), None)
    if duplicate is not None:
        remedy = "Name a folder that does not end in .zarr." if duplicate == target else "Rename the images, or write to several folders."
        raise FileWriteError("output.duplicate", "several images would be written to this file", file=duplicate, remedy=remedy)
    return files


def _check_results(
    trained: Model,
    batch: UnfinishedBatch,
    todo: _Todo,
    tables: Sequence[Destination],
    read: Sequence[str | Path],
    *,
    overwrite: bool,
) -> None:
    """Check everything that is written. What an interrupted command wrote is replaced, or kept where the image was finished.

    The `tables` of all images are extended where they exist.
    """
    outputs = {table.path: table for table in tables}  # by path: the files of several images may match the same pattern
    taken = []
    points = {image.name: time_points(image.raw) for image in todo.opened}
    for name, file in todo.new.items():
        replaced = overwrite or name in batch.begun
        kept = trained.job.objects.intermediates
        results = outputs_of(trained, file, overwrite=replaced, points=points[name], raw_labels=kept)
        found = [*results, Destination(provenance_path(file), proven=True)]
        outputs |= {destination.path: destination for destination in found}
        taken += [destination.shown for destination in found if not (replaced or destination.adds) and os.path.lexists(destination.path)]
    check_apart(outputs.values(), read)
    if taken:
        raise already_exist(taken)
    check_outputs(outputs.values(), overwrite=True)


def _recorded(steps: Iterator[Event], labels_file: Path, inputs: Mapping[str, str], facts: Mapping[str, object]) -> Iterator[Event]:
    """Segment an image, and write what its labels depend on beside them."""
    record = provenance_path(labels_file)
    discard_own(record)  # it describes the labels of before
    yield from steps
    with atomic(record) as part:
        part.write_text(json.dumps({"inputs": inputs, **facts}, indent=1), encoding="utf-8")
    yield FileWritten(record, Artefact.PROVENANCE)


def weights_checksum(model: str | Path | Model) -> str:
    """Checksum of the file of the weights; of a model in memory that of its tensors."""
    if isinstance(model, Model):
        digest = hashlib.sha256()
        for name, tensor in sorted(model.network.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        return digest.hexdigest()
    path = place_of(model)
    files = (path / "model" / WEIGHTS, path / WEIGHTS, path)
    return checksum(next(file for file in files if file.exists()))


def _suffix_for(image: Opened) -> str:
    """NIfTI for NIfTI, which keeps the orientation of the image."""
    return ".nii.gz" if image.raw.source is not None and suffix_of(image.raw.source).startswith(".nii") else ".tif"


def given_places(images: Any) -> list[str | Path]:
    """The files, folders and patterns among images that were given as such or as arrays."""
    if isinstance(images, str | Path):
        return [images]
    return [place for image in images for place in given_places(image)] if isinstance(images, Sequence) else []


def model_place(model: str | Path) -> Path:
    """What belongs to a model: the run folder that it is in, else its own folder or file."""
    path = place_of(model)
    folder = path.parent if path.name == "model" else path
    return folder if (folder / "job.yaml").is_file() else path
