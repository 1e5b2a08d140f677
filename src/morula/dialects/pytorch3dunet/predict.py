"""Prediction with a job file of pytorch-3dunet, written in its format."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cc3d
import numpy as np

from morula.core.allocator import keep_freed_memory
from morula.core.atomic import atomic
from morula.core.axes import Axes
from morula.core.claims import claimed
from morula.core.errors import FileWriteError, JobError, Problem
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Started, Warned, below
from morula.core.image import Image
from morula.core.location import split_location, stem_of
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, check_outputs
from morula.core.remedy import Remedy
from morula.dialects.pytorch3dunet.engine import Engine
from morula.dialects.pytorch3dunet.job import Job, read_job
from morula.dialects.pytorch3dunet.metrics import build_metric
from morula.dialects.pytorch3dunet.prediction_output import Sink, chunks, class_scores, layout
from morula.dialects.pytorch3dunet.sections import PredictorOptions
from morula.dialects.pytorch3dunet.transform_lists import parse_lists
from morula.dialects.pytorch3dunet.transforms import RandomIntensity, Scale, Scaling, augmentations, records_of
from morula.dialects.pytorch3dunet.volumes import Place, Volume, channel_problems, open_array, try_volumes
from morula.io.formats.base import Target
from morula.io.formats.hdf5 import WritableFile, create
from morula.io.output import open_output
from morula.jobs.yaml_lines import located

SUFFIX = "_predictions"
_METRICS = {"dice": "DiceCoefficient", "mean_iou": "MeanIoU"}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job that is ready to predict: checked, with opened files and named outputs."""

    job: Job
    volumes: tuple[Volume, ...]
    outputs: tuple[Path, ...]
    warnings: tuple[str, ...]


def predict3dunet(
    config: str | Path, *, overrides: Mapping[str, object] | None = None, overwrite: bool = False, memory: str | None = None
) -> Iterator[Event]:
    """Predict the images of ``loaders.test`` of a job file of pytorch-3dunet.

    Each image gives the file ``NAME_predictions.h5`` in ``loaders.output_dir`` (beside the image when left out) with the data set
    ``predictor.output_dataset``: channels (C, Z, Y, X) float32, or with ``save_segmentation`` classes (Z, Y, X) uint16.

    Args:
        config: the YAML file.
        overrides: values by dotted key, such as ``loaders.output_dir``, which replace those of the file.
        overwrite: replace predictions that exist, as far as they are as Morula wrote them.
        memory: limit for planned tiles, for example ``"8GB"``.

    Yields:
        events.

    Raises:
        JobError: with all problems, each with its line.
        ModelError: when the checkpoint is damaged or belongs to another network.

    Examples:
        >>> for event in predict3dunet("test_config.yml"):  # doctest: +SKIP
        ...     print(event)
    """
    began = time.monotonic()
    prepared = prepare_prediction(config, overrides=overrides, overwrite=overwrite)
    yield from (Warned("pytorch3dunet.remark", text) for text in prepared.warnings)
    engine = Engine.of(prepared.job, memory=memory)
    yield Started(len(prepared.volumes), "image", f"{len(prepared.volumes)} image(s) on {engine.device}")
    scores = []
    with claimed(prepared.outputs), keep_freed_memory(), ExitStack() as records:
        check_outputs(map(_destination, prepared.outputs), overwrite=overwrite)  # again: another process may have been faster
        for folder in {output.parent for output in prepared.outputs}:
            records.enter_context(recording(folder, RESULTS))
        for volume, output in zip(prepared.volumes, prepared.outputs, strict=True):
            score = yield from below(volume.name, _predict_one(engine, prepared.job, volume, output, overwrite=overwrite))
            if score is not None:
                scores.append(score)
    yield Finished(time.monotonic() - began, _summary(str(prepared.job.predictor.performance_metric), scores))


def _summary(name: str, scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean over files and classes, and the mean of each class where there are several; classes that are absent (NaN) are left out."""
    table = np.array(scores, float)
    present = np.isfinite(table)
    if not present.any():
        return {}
    means = {str(i): float(column[there].mean()) for i, (column, there) in enumerate(zip(table.T, present.T), 1) if there.any()}
    return {name: float(table[present].mean()), **({f"{name}_{i}": mean for i, mean in means.items()} if table.shape[1] > 1 else {})}


def prepare_prediction(config: str | Path, *, overrides: Mapping[str, object] | None = None, overwrite: bool = False) -> Prepared:
    """Check a job and its files without computing anything.

    Raises:
        JobError: with all problems at once.
    """
    job = read_job(config, "predict", overrides=overrides)
    problems: list[Problem] = []
    if not Path(str(job.plain.model_path)).expanduser().is_file():
        rule = f"the checkpoint {job.plain.model_path!r} does not exist"
        problems.append(Problem("model_path", rule, code="checkpoint.missing", remedy="Check the path."))
    with located(config):
        opened, warnings = _opened(job, problems)
        outputs = [output_file(volume.path, job.loaders.output_dir) for volume in opened]
        problems += _conflicts(job, opened, outputs, overwrite)
        if problems:
            raise JobError(problems)
    remarks = [str(remark) for remark in job.remarks]
    return Prepared(job, tuple(opened), tuple(outputs), (*remarks, *warnings))


def output_file(path: Path, folder: str | None) -> Path:
    """File of the prediction of an image.

    Examples:
        >>> output_file(Path("data/a.h5"), None).as_posix(), output_file(Path("data/scan.ome.zarr"), "out").as_posix()
        ('data/a_predictions.h5', 'out/scan_predictions.h5')
    """
    file, _ = split_location(path)
    return (file.parent if folder is None else Path(folder).expanduser()) / f"{stem_of(file)}{SUFFIX}.h5"


def _opened(job: Job, problems: list[Problem]) -> tuple[list[Volume], list[str]]:
    """The images that can be opened, and warnings; problems of the others are added to `problems`."""
    phase = job.loaders.test
    assert phase is not None
    key, opened, warnings = "loaders.test.file_paths", [], []
    lists = parse_lists(phase.transformer)
    random = [transform.name for transform in lists.raw if isinstance(transform, RandomIntensity)]
    warnings += [f"loaders.test.transformer: {name} changes images at random and is not applied. Leave it out." for name in random]

    def keep(places: list[Place]) -> list[Place]:
        kept = [place for place in places if place in phase.file_paths or not _own_output(place, places)]
        if len(kept) < len(places):
            warnings.append(f"{key}: {len(places) - len(kept)} file(s) are predictions of other files in the list and are left out.")
        return kept

    for found in try_volumes(job.loaders, "test", keep):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            problems += channel_problems(found, job.model.in_channels, key)
            opened.append(found)
    return opened, warnings


def _own_output(place: Place, places: Sequence[Place]) -> bool:
    """Whether a file is the prediction of another file in the list, from an earlier run."""
    if not isinstance(place, str) or not stem_of(place).endswith(SUFFIX):
        return False
    source = stem_of(place).removesuffix(SUFFIX)
    return any(
        isinstance(location, str) and Path(location).parent == Path(place).parent and stem_of(location) == source for location in places
    )


def _destination(output: Path) -> Destination:
    return Destination(output, str(output), "loaders.output_dir", proven=True)


def _conflicts(job: Job, volumes: Sequence[Volume], outputs: Sequence[Path], overwrite: bool) -> Iterator[Problem]:
    """Outputs that exist, that are inputs, or that are the same for two images."""
    key = "loaders.output_dir"
    sources = [*(str(volume.path) for volume in volumes), str(job.plain.model_path), str(job.path)]
    for volume, output in zip(volumes, outputs, strict=True):
        try:
            check_outputs([_destination(output)], sources, overwrite=overwrite)
        except FileWriteError as error:
            rule = f"the prediction of {volume.path} would be written to {output}, which {error.rule}"
            more = ["replace it with --overwrite"] if error.code == "output.exists" else []
            yield Problem(key, rule, code=error.code, remedy=Remedy("choose another folder", *more))
    for output in sorted({file for file in outputs if outputs.count(file) > 1}):
        names = ", ".join(str(volume.path) for volume, destination in zip(volumes, outputs, strict=True) if destination == output)
        rule = f"{names} have the same output {output}"
        yield Problem(key, rule, code="output.shared", remedy="Predict them with separate jobs, each into its own folder.")


def _predict_one(engine: Engine, job: Job, volume: Volume, output: Path, *, overwrite: bool) -> Generator[Event, None, list[float] | None]:
    """Predict one image into its file; returns the score of each class where a metric is set."""
    options, phase = job.predictor, job.loaders.test
    assert phase is not None
    raw = volume.raw if job.loaders.dataset == "LazyHDF5Dataset" else np.asarray(volume.raw[(slice(None),) * 4])
    # random transforms were reported as warnings and are left out
    transforms = parse_lists(phase.transformer).raw
    whole = Image(raw, Axes("CZYX"), source=str(volume.path))
    records = records_of(transforms, whole) if job.loaders.global_normalization else ()
    scale = partial(_scaled, steps=[step.function for step in augmentations(transforms, records) if isinstance(step, Scaling)])
    plan = engine.plan(volume.shape)
    if options.name == "DSB2018Predictor":
        values = np.empty((engine.channels, *volume.shape), np.float32)
        yield from engine.predict(raw, plan, scale, values, name=volume.name)
        yield FileWritten(write_image(output, values, options, overwrite=overwrite), Artefact.CHANNELS, "probabilities and objects")
        yield Logged(f"{volume.name} was predicted into {output}")
        return None
    shape, dtype, axes = layout(options, engine.channels, volume.shape)
    stride = phase.slice_builder.stride_shape if phase.slice_builder is not None and options.tiles == "patch" else None
    place = f"{output}:/{options.output_dataset}"
    with open_output(place, shape, dtype, axes, overwrite=overwrite, chunks=chunks(axes, volume.shape, stride)) as file:
        target = file if options.name == "LazyPredictor" else np.empty(shape, dtype)
        yield from engine.predict(raw, plan, scale, Sink(target, options, engine.channels, volume.shape), name=volume.name)
        if isinstance(target, np.ndarray):
            file[...] = target
    yield Logged(f"{volume.name} was predicted into {place}")
    yield FileWritten(output, Artefact.LABELS if options.save_segmentation else Artefact.CHANNELS)
    if options.performance_metric is None:
        return None
    scores = _scores(engine, job, volume, output)
    yield Logged(f"{volume.name}: {options.performance_metric} {', '.join(f'{score:.4f}' for score in scores)}")
    return scores


def _scaled(tile: np.ndarray, *, steps: Sequence[Scale]) -> np.ndarray:
    """A tile CZYX, normalised step by step."""
    tile = tile.astype(np.float32)
    for step in steps:
        tile = step(tile)
    return tile


def write_image(output: Path, values: np.ndarray, options: PredictorOptions, *, overwrite: bool) -> Path:
    """Probabilities KZYX of one image without axes of length 1, and its connected objects as ``segmentation``, into one file.

    Raises:
        FileWriteError: when it exists and `overwrite` is false, or when it cannot be written.
    """
    mask = values[0, 0] > options.pmaps_threshold
    objects = cc3d.connected_components(mask.view(np.uint8), connectivity=8)  # 4.1.1 is wrong for bool masks with an odd edge
    # the smallest type that holds all ids
    objects = objects.astype(np.uint16 if objects.max(initial=0) < 2**16 else np.uint32)
    with atomic(output, overwrite=overwrite) as part, WritableFile(part) as opened:
        for name, array in ((options.output_dataset, np.squeeze(values)), ("segmentation", objects)):
            axes = "CYX"[-array.ndim :]
            create(opened.file, array.shape, array.dtype, Target(Axes(axes), None, False, name))[...] = array
    return output


def _scores(engine: Engine, job: Job, volume: Volume, output: Path) -> list[float]:
    options = job.predictor
    file, _ = split_location(volume.path)
    truth = open_array(file, options.gt_internal_path)
    metric = build_metric({"name": _METRICS[str(options.performance_metric)]})

    def score(predicted: np.ndarray, true: np.ndarray) -> float:
        return float(metric(predicted[None, None].astype(np.float32), true[None, None].astype(np.float32)))

    return class_scores(options, open_array(output, options.output_dataset), truth, engine.channels, score)
