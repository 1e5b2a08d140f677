"""Jobs of BiaPy that predict without training: a checkpoint, the job's decoder and test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from morula.core.atomic import atomic
from morula.core.errors import DataError, JobError, ModelError
from morula.core.events import Event, Warned
from morula.dialects.biapy.convert import UNLABELLED, images_to_predict, prediction_of
from morula.dialects.biapy.denoising import denoising_of
from morula.dialects.biapy.image_to_image import regression_of
from morula.dialects.biapy.instances import method_of
from morula.dialects.biapy.objects import objects_of
from morula.dialects.biapy.settings import Settings, read_settings
from morula.dialects.biapy.super_resolution import UPSCALING, super_resolution_of, upscaling_of
from morula.dialects.converted import Value
from morula.jobs.inputs import check_new_run
from morula.jobs.job import Job
from morula.jobs.load import validate
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import Document, dump
from morula.methods import METHODS
from morula.models.load import load
from morula.models.model import Model
from morula.workflows.run import run as run_native
from morula.workflows.run_settings import RunSettings
from morula.workflows.sources import open_source

_CHECKED: Mapping[str, Callable[[Settings], dict[str, Value]]] = {
    "IMAGE_TO_IMAGE": regression_of,
    "DENOISING": denoising_of,
    "SUPER_RESOLUTION": super_resolution_of,
}
"""Workflows whose method is that of the checkpoint, and the functions that check what the job states of it."""


def predict(job: str | Path, run: RunSettings) -> Iterator[Event]:
    """Predict, score and report the test images of a job of BiaPy with its checkpoint.

    The run folder has the layout of a native run: the model is stored in it, so that `morula evaluate`, `measure` and `tune` work on it.

    Args:
        job: job file with TRAIN.ENABLE False, TEST.ENABLE True, MODEL.LOAD_CHECKPOINT True and PATHS.CHECKPOINT_FILE.
        run: folder, device and memory, and whether an earlier run is replaced.

    Raises:
        JobError: with all problems of the job, its checkpoint and its images.
        FileWriteError: when the folder is not empty.

    Examples:
        >>> for event in predict("test_only.yaml", RunSettings("runs/test")):  # doctest: +SKIP
        ...     print(event)
    """
    settings = read_settings(job)
    yield from predict_settings(settings, model_of(settings), run.folder(job), run)


def predict_settings(settings: Settings, model: Model, folder: RunFolder, run: RunSettings) -> Iterator[Event]:
    """The same for settings that were read, and their model."""
    check_new_run(folder, model.job, settings.text("PATHS.CHECKPOINT_FILE"))
    with folder.new(overwrite=run.overwrite):
        # stored as a native model, so that every later command works on the folder
        model.save(folder.model, _example(model))
        with atomic(folder.job_file) as part:
            part.write_text(_text(model.job), encoding="utf-8")
    yield from (Warned("convert.remark", text) for text in (*map(str, settings.remarks), *settings.notes))
    yield from run_native(folder.job_file, replace(run, output=folder.path, resume=True, overwrite=False))


def model_of(settings: Settings) -> Model:
    """The checkpoint of a job with the job's decoder, tiles and test images.

    Raises:
        JobError: with all problems, at the keys of the job.
    """
    workflow = settings.text("PROBLEM.TYPE")
    path = Path(settings.text("PATHS.CHECKPOINT_FILE")).expanduser().absolute()
    if not settings.flag("MODEL.LOAD_CHECKPOINT"):
        settings.wrong(
            "biapy.no_checkpoint", "MODEL.LOAD_CHECKPOINT", "leaves nothing to predict with: the job does not train", "Set it to True."
        )
    elif not settings.text("PATHS.CHECKPOINT_FILE"):
        settings.missing(
            "PATHS.CHECKPOINT_FILE",
            "must be stated with MODEL.LOAD_CHECKPOINT, unless name and number are those of a finished run",
            "Write the path of the checkpoint.",
        )
    elif not path.exists():
        remedy = "Check the path; relative paths start at the current folder."
        settings.wrong("biapy.no_checkpoint", "PATHS.CHECKPOINT_FILE", "does not exist", remedy)
    # images, tiles and decoder come from the job; network, channels and normalisation from the checkpoint
    changes: dict[str, dict[str, Value]] = {
        "images": {"test": images_to_predict(settings, labelled=workflow not in UNLABELLED)},
        "prediction": prediction_of(settings),
    }
    if workflow in _CHECKED:
        _CHECKED[workflow](settings)  # as with channels
    elif workflow == "INSTANCE_SEG":
        # the channels are those of the checkpoint, but what is stated has to be right
        changes |= {"objects": objects_of(settings), "method": {"thresholds": method_of(settings).get("thresholds")}}
    model = None
    if not settings.problems:
        model = _with_changes(settings, path, changes)
    if settings.problems or model is None:
        raise JobError(sorted(settings.problems, key=lambda problem: problem.line or 0))
    return model


def _with_changes(settings: Settings, path: Path, changes: Mapping[str, Mapping[str, Value]]) -> Model | None:
    """The model of a checkpoint with sections of its job replaced (of the method, the stated keys); problems go to the settings."""
    try:
        model = load(path)
        stored = model.job.model_dump(mode="json", by_alias=True)
        document = {**stored, **changes, "method": {**stored["method"], **changes.get("method", {})}}
        job = validate(Document(document, {}, settings.document.file))
        method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=model.ndim, spacing=model.voxel_size.spacing(model.ndim))
        changed = replace(model, job=job, method=method)
        _check_images(settings, changed)
    except ModelError as error:
        settings.wrong(error.code, "PATHS.CHECKPOINT_FILE", str(error).rstrip("."))
    except JobError as error:
        settings.problems.extend(settings.trace(problem) for problem in error.problems)
    else:
        return changed
    return None


def _check_images(settings: Settings, model: Model) -> None:
    """The test images fit the model.

    Raises:
        JobError: when they are missing, or cannot be opened.
    """
    test = model.job.images.test
    assert test is not None
    values, by = model.method.labels_are_images, model.job.method.enlarged_by
    if settings.text("PROBLEM.TYPE") == "SUPER_RESOLUTION" and tuple(upscaling_of(settings) or ()) != by:
        rule = f"differs from that of the checkpoint, {by or 'none'}"
        settings.wrong("biapy.contradiction", UPSCALING, rule, "Write that one, or name another checkpoint.")
        return
    opened, _ = open_source(test, model.job.images, key="images.test", need_labels=False, values=values, enlarge=by)
    for image in opened:
        try:
            model.as_image(image.raw)
        except (ModelError, DataError) as error:
            settings.wrong("biapy.images", "DATA.TEST.PATH", str(error).rstrip("."))
            return


def _example(model: Model) -> torch.Tensor:
    """A normalised batch of one patch, to check the stored model with."""
    patch = model.job.sampling.patch
    shape = (1, model.in_channels, *model.network.padded_shape(patch if isinstance(patch, tuple) else (64,) * model.ndim))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _text(job: Job) -> str:
    """A job as YAML."""
    return dump(job.model_dump(mode="json", by_alias=True))
