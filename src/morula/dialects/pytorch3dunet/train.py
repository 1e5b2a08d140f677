"""Training with a job file of pytorch-3dunet: its checkpoints, and a run folder of Morula."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from morula.core.atomic import atomic
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Warned, below
from morula.core.lock import locked
from morula.core.manifest import recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_apart
from morula.dialects.pytorch3dunet.check import doubts_about, target_warnings
from morula.dialects.pytorch3dunet.job import Job, read_job
from morula.dialects.pytorch3dunet.sections import FormatterOptions
from morula.dialects.pytorch3dunet.tensorboard import Board
from morula.dialects.pytorch3dunet.training import Prepared, keep_best, prepare, preview, set_aside, state_to_resume, write_outputs
from morula.jobs.provenance import checksums, circumstances
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import dump
from morula.report.build import write_report
from morula.training.devices import pick_device
from morula.training.loop import ValidationHooks, fit
from morula.training.processes import first_process
from morula.training.tracking import track
from morula.workflows.log import logged


@with_named_os_errors
def train3dunet(
    config: str | Path, *, overrides: Mapping[str, object] | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Train the network of a job file of pytorch-3dunet 1.4 to 1.9.

    Writes the files of the original (``last_checkpoint.pytorch`` and ``best_checkpoint.pytorch`` in ``trainer.checkpoint_dir``, TensorBoard
    files in ``logs/`` there), and the run folder ``run`` beside them with curves, log, provenance and report.

    Args:
        config: the YAML file; paths in it are relative to the current folder.
        overrides: values by dotted key, which replace those of the file.
        stop: called after every step; when it returns true, the state is saved and the stream ends.

    Yields:
        events of `morula.core.events`; `Finished` comes last unless the training was stopped.

    Raises:
        JobError: with all problems of the file.
        DataError: when files do not match each other or the network.
        ModelError: when a checkpoint does not match the network.
        TrainingError: when the loss is not finite, or nothing is left to do.

    Examples:
        >>> for event in train3dunet("train_config.yml"):  # doctest: +SKIP
        ...     print(event)
    """
    job = read_job(config, "train", overrides=overrides)
    prepared = prepare(job)
    check_training_outputs(prepared)
    with ExitStack() as held:
        if first_process():
            prepared.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(prepared.folder))
            held.enter_context(recording(prepared.run_folder))
        yield from logged(below("train", _train(prepared, stop)), RunFolder(prepared.run_folder))


def check_training_outputs(prepared: Prepared) -> None:
    """What the training writes is, contains and is inside no input.

    Raises:
        FileWriteError: with the code of `morula.core.outputs.check_apart`.
    """
    names = ("last_checkpoint.pytorch", "best_checkpoint.pytorch", "run", "logs")
    volumes = [volume for patches in (prepared.train_patches, prepared.val_patches) for volume in patches.volumes]
    check_apart(
        [Destination(prepared.folder / name, str(prepared.folder / name), "trainer.checkpoint_dir") for name in names],
        [str(prepared.job.path), *(str(volume.path) for volume in volumes)],
    )


def _train(prepared: Prepared, stop: Callable[[], bool]) -> Iterator[Event]:
    folder = RunFolder(prepared.run_folder)
    state = state_to_resume(prepared)
    if first_process():
        yield from _record(prepared, folder)
        if state is not None:
            keep_best(prepared)
    board = Board(prepared.board_folder, prepared.trainer.tensorboard_formatter or FormatterOptions())
    events = fit(
        prepared.network,
        prepared.watcher.loss,
        prepared.loaders,
        prepared.options,
        folder=folder.path,
        resume=state or False,
        stop=stop,
        hooks=ValidationHooks(
            preview=partial(preview, model=prepared.network.model), scores=prepared.watcher.scores, monitor=prepared.monitor
        ),
    )
    finished = None
    for event in write_outputs(track(events, folder.path), prepared, board):
        if isinstance(event, Finished):
            finished = event
        else:
            yield event
    # the report reads the logs, so it is written last
    if finished is not None and first_process():
        yield FileWritten(write_report(folder.path), Artefact.REPORT)
        yield finished


def _record(prepared: Prepared, folder: RunFolder) -> Iterator[Event]:
    """Move a former training aside, write the job and its provenance, and yield the warnings."""
    # a resumed training continues in its own folder
    former = None if prepared.state is not None else set_aside(prepared.folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    logs = prepared.board_folder
    logs.mkdir(parents=True, exist_ok=True)
    with atomic(logs / prepared.job.path.name) as part:
        shutil.copyfile(prepared.job.path, part)
    if former is not None:
        yield Warned(
            "run_folder.moved_aside",
            f"{prepared.folder} had a former training, which was moved to {former}. To continue it, name its checkpoint in trainer.resume.",
        )
    yield FileWritten(write_job(prepared.job, folder), Artefact.JOB)
    yield Logged(prepared.summary_line())
    remarks = (*prepared.job.remarks, *target_warnings(prepared))
    yield from (Warned("pytorch3dunet.remark", str(remark)) for remark in remarks)
    yield from (Warned(doubt.code, doubt) for doubt in doubts_about(prepared))
    patches = (prepared.train_patches, prepared.val_patches)
    # which files a network was trained on must be known years later
    start = prepared.trainer.pre_trained
    files = sorted({volume.path for part in patches for volume in part.volumes} | ({Path(start).expanduser()} if start else set()))
    inputs = checksums(str(file) for file in files if file.exists())
    folder.write_provenance({"seed": prepared.options.seed, "inputs": inputs, **circumstances(pick_device(prepared.options.device))})


def write_job(job: Job, folder: RunFolder) -> Path:
    """Write the job with all defaults of loaders and trainer."""
    document = {
        **job.config,
        "loaders": job.loaders.model_dump(mode="json"),
        **({} if job.learning is None else {"trainer": job.learning.trainer.model_dump(mode="json")}),
    }
    with atomic(folder.job_file) as part:
        part.write_text(dump(document), encoding="utf-8")
    return folder.job_file
