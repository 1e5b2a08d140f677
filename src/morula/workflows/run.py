"""A whole job: train, predict, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.jobs.run_folder import RunFolder
from morula.report.build import write_report
from morula.training.processes import first_process
from morula.workflows.evaluate import evaluate
from morula.workflows.log import logged
from morula.workflows.predict import predict
from morula.workflows.stages import run_stages, stage_count
from morula.workflows.train import default_output, train, tune_as_asked


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

    The documents of a file (parted by ``---``) are stages: each is run into a folder of its own, see `morula.workflows.stages`.
    What the job has no images for is left out: without test images there is no prediction, without their labels no score. A run whose
    training has finished is resumed at the prediction.

    Args:
        job: a job file, or a mapping with the same keys.
        output: the run folder; ``runs/<name of the job file>`` when left out.
        overrides: ``key=value`` texts that go before the file.
        resume: go on exactly where the run in this folder was stopped.
        overwrite: replace a former run in this folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: what prediction may take, for example ``"8GB"``.
        stop: asked after every training step.

    Yields:
        events of all stages.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder holds something already.

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
        yield from tune_as_asked(folder, device=device, memory=memory)
    if not ((folder.model / "model.json").is_file() and first_process()):
        return
    test = _test_images(folder)
    if test is not None:
        yield from predict(folder.path, device=device, memory=memory)
        if test["labels"] is not None and not _restores(folder):
            yield from evaluate(folder.path)
    yield from logged(_ended(folder, tested=test is not None, began=began), folder)


def _ended(folder: RunFolder, *, tested: bool, began: float) -> Iterator[Event]:
    if not tested:
        yield Logged("the job names no test images, so nothing is predicted; use `morula segment` on any image")
    yield FileWritten(write_report(folder.path), Artefact.REPORT)
    yield Finished(time.monotonic() - began)


def _restores(folder: RunFolder) -> bool:
    """Whether the results are images, which are scored as they are predicted."""
    from morula.jobs.yaml_lines import read_documents
    from morula.methods import METHODS

    restores: bool = METHODS.load(read_documents(folder.job_file)[0].data["method"]["kind"]).restores
    return restores


def _test_images(folder: RunFolder) -> Any:
    from morula.jobs.yaml_lines import read_documents

    return read_documents(folder.job_file)[0].data["images"]["test"]
