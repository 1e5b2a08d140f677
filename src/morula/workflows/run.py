"""A whole job: train, predict, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.methods import METHODS
from morula.report.build import write_report
from morula.training.processes import first_process
from morula.workflows.evaluate import evaluate
from morula.workflows.log import logged
from morula.workflows.predict import predict
from morula.workflows.stages import run_stages, stage_count
from morula.workflows.train import default_output, train, tune_if_configured


def run(
    job: str | Path | Mapping[str, Any],
    *,
    output: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train the network of a job, predict its test images, score them and write the report.

    A file may hold several documents, separated by ``---``. Each is a stage and runs into a folder of its own, see
    `morula.workflows.stages`. Without test images nothing is predicted, and without their labels nothing is scored. A run whose training
    has finished is resumed at the prediction.

    Args:
        job: a job file, or a mapping with the same keys.
        output: the run folder; ``runs/<name of the job file>`` by default.
        overrides: ``key=value`` texts that override the file.
        resume: continue the run in this folder exactly where it was stopped.
        overwrite: replace an earlier run in this folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for prediction, for example ``"8GB"``.
        stop: called after every training step; the training is saved and ends when it returns true.

    Yields:
        events of all stages.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder is not empty.

    Examples:
        >>> for event in run("nuclei.yaml", overrides=["training.epochs=5"]):  # doctest: +SKIP
        ...     print(event)
    """
    began = time.monotonic()
    options: dict[str, Any] = {"overwrite": overwrite, "device": device, "memory": memory, "stop": stop}
    if stage_count(job) > 1 and not isinstance(job, Mapping):
        place = Path(output) if output is not None else default_output(job)
        yield from run_stages(job, run, output=place, overrides=overrides, resume=resume, options=options)
        return
    folder = RunFolder(Path(output) if output is not None else default_output(job))
    if not (resume and (folder.model / "model.json").is_file()):
        yield from train(job, output=folder.path, overrides=overrides, resume=resume, overwrite=overwrite, device=device, stop=stop)
    elif first_process():
        yield from tune_if_configured(folder, device=device, memory=memory)
    if not ((folder.model / "model.json").is_file() and first_process()):
        return
    job_of_run = load_job(folder.job_file)
    test = job_of_run.images.test
    if test is not None:
        yield from predict(folder.path, device=device, memory=memory)
        if (
            test.labels is not None and not METHODS.load(job_of_run.method.kind).restores
        ):  # restored images are scored as they are predicted
            yield from evaluate(folder.path)
    yield from logged(_ended(folder, tested=test is not None, began=began), folder)


def _ended(folder: RunFolder, *, tested: bool, began: float) -> Iterator[Event]:
    if not tested:
        yield Logged("the job has no test images, so nothing is predicted; use `morula segment` on any image")
    yield FileWritten(write_report(folder.path), Artefact.REPORT, task=("report",))
    yield Finished(time.monotonic() - began)
