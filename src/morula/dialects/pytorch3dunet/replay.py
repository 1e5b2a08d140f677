"""Repeat a training of a job file of pytorch-3dunet from its record, and compare weights and learning curves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from morula.core.errors import DataError, OptionError
from morula.core.events import Event, Finished, below
from morula.core.outputs import check_apart
from morula.dialects.pytorch3dunet.job import read_job
from morula.dialects.pytorch3dunet.train import train3dunet
from morula.jobs.run_folder import RunFolder
from morula.nn.weights import WEIGHTS
from morula.workflows.differences import compare_runs
from morula.workflows.log import logged
from morula.workflows.replay import Record
from morula.workflows.run_settings import RunSettings

_LAST = f"checkpoints/last/{WEIGHTS}"


def replay3dunet(run: str | Path, settings: RunSettings, *, fast: bool = False) -> Iterator[Event]:
    """Train the job of a run of `train3dunet` again in a new folder, and report what differs.

    Args:
        run: the folder ``run`` in ``trainer.checkpoint_dir``. It is only read.
        settings: the new ``trainer.checkpoint_dir``, that of the run with ``_replay`` by default; whether a training in it is moved aside;
            and the device.
        fast: refused, because the run has no prediction to repeat.

    Yields:
        events; `Finished` is the last, with the numbers of ``files`` and ``different files``, and the ``largest weight difference``.

    Raises:
        DataError: when the training was resumed or is not finished, or inputs are missing or changed.
        FileWriteError: when the new folder has a training.
        OptionError: with `fast`.
    """
    began, source = time.monotonic(), RunFolder.existing(run)
    if fast:
        rule = "repeats a prediction, and a run of train3dunet has none"
        raise OptionError("replay.no_prediction", rule, key="--fast", remedy="Leave it out.")
    learning = read_job(source.job_file).learning
    assert learning is not None  # the job was trained
    if learning.trainer.resume is not None:
        rule = "was resumed from a checkpoint that it has replaced since, so it cannot be repeated"
        raise DataError("replay.resumed", rule, file=source.path, remedy="Train it again from its start with `morula train3dunet`.")
    if not (source.path / _LAST).is_file():
        rule, remedy = "has no checkpoint: the training is not finished", "Finish it with `morula train3dunet` and trainer.resume."
        raise DataError("replay.not_finished", rule, file=source.path, remedy=remedy)
    own = source.path.parent
    folder = own.with_name(f"{own.name}_replay") if settings.output is None else Path(settings.output)
    target = RunFolder(folder / "run")
    check_apart([folder], [own])
    target.check_free(overwrite=settings.overwrite)
    record = Record.of(source)
    record.check(fast=False)
    overrides = {"trainer.checkpoint_dir": str(folder), **({} if settings.device == "auto" else {"device": settings.device})}
    with record.same_threads():
        yield from (event for event in train3dunet(source.job_file, overrides=overrides) if not isinstance(event, Finished))
    yield from logged(below("replay", record.changes()), target)
    yield from logged(below("replay", compare_runs(source, target, began=began, weights=_LAST)), target)
