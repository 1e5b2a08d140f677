"""A whole job: train, predict, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.core.os_errors import with_named_os_errors
from morula.jobs.inputs import check_run_again
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.methods import METHODS
from morula.report.build import write_report
from morula.training.processes import first_process
from morula.workflows.evaluate import evaluate_into
from morula.workflows.log import logged
from morula.workflows.moved_images import with_moved_images
from morula.workflows.predict import predict_into
from morula.workflows.run_settings import RunSettings
from morula.workflows.stages import run_stages, stage_count
from morula.workflows.train import finish_objects, train_into


@with_named_os_errors
def run(job: str | Path | Mapping[str, Any], settings: RunSettings) -> Iterator[Event]:
    """Train the network of a job, predict its test images, score them and write the report.

    A file may hold several documents, separated by ``---``. Each is a stage and runs into a folder of its own, see
    `morula.workflows.stages`. Without test images nothing is predicted, and without their labels nothing is scored. A run whose training
    has finished is resumed at the prediction, or trained further where the overrides give more epochs.

    Args:
        job: a job file, or a mapping with the same keys.
        settings: folder, overrides, device, memory and what becomes of an earlier run.

    Yields:
        events of all stages.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder is not empty.

    Examples:
        >>> for event in run("nuclei.yaml", RunSettings(overrides=["training.epochs=5"])):  # doctest: +SKIP
        ...     print(event)
    """
    began = time.monotonic()
    folder = settings.folder(job)
    if stage_count(job) > 1 and not isinstance(job, Mapping):
        yield from run_stages(job, run, folder.path, settings)
        return
    device, memory = settings.device, settings.memory
    with ExitStack() as held:  # one lock for all stages
        # a finished training is gone through again where settings are given: it is extended, or they are refused
        if not (settings.resume and (folder.model / "model.json").is_file()) or settings.overrides:
            yield from train_into(folder, held, job, settings)
        elif first_process():
            held.enter_context(RunFolder.existing(folder.path).in_use())
            yield from _moved(folder, job)
        if first_process():
            yield from finish_objects(folder, device=device, memory=memory)
        if (folder.model / "model.json").is_file() and first_process():
            yield from _after_training(folder, device=device, memory=memory, began=began)


def _moved(folder: RunFolder, job: str | Path | Mapping[str, Any]) -> Iterator[Event]:
    """Write the new places of the images into the job of a finished training, where they were moved."""
    stored = load_job(folder.job_file)
    moved = with_moved_images(stored, folder, job)
    check_run_again(folder, moved)
    if moved is not stored:
        yield FileWritten(folder.write_job(moved), Artefact.JOB, "job with the new places of the images")


def _after_training(folder: RunFolder, *, device: str, memory: str | None, began: float) -> Iterator[Event]:
    """Predict, evaluate and report."""
    job = load_job(folder.job_file)
    if job.images.test is not None:
        yield from predict_into(folder, device=device, memory=memory)
        # restored images are scored as they are predicted
        if job.images.test.labels is not None and not METHODS.load(job.method.kind).restores:
            yield from evaluate_into(folder)
    yield from logged(_ended(folder, tested=job.images.test is not None, began=began), folder)


def _ended(folder: RunFolder, *, tested: bool, began: float) -> Iterator[Event]:
    if not tested:
        yield Logged("the job has no test images, so nothing is predicted; use `morula segment` on any image")
    yield FileWritten(write_report(folder.path), Artefact.REPORT, task=("report",))
    yield Finished(time.monotonic() - began)
