"""Run a job file of pytorch-3dunet, whichever it is for: training or prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from morula.core.errors import OptionError
from morula.core.events import Event
from morula.dialects.pytorch3dunet.job import purpose_of
from morula.dialects.pytorch3dunet.places import LAST, checkpoint_folder
from morula.dialects.pytorch3dunet.predict import predict3dunet
from morula.dialects.pytorch3dunet.train import train3dunet
from morula.workflows.run_settings import RunSettings


def run3dunet(job: str | Path, settings: RunSettings) -> Iterator[Event]:
    """Train or predict.

    Args:
        job: the YAML file. Its folders are those of the file.
        settings: device, memory and stop; `resume` continues from ``last_checkpoint.pytorch`` in ``trainer.checkpoint_dir``.

    Raises:
        OptionError: for settings that such a job has no place for.
        JobError: with all problems of the file.
    """
    given = {"output": settings.output, "overrides": settings.overrides}
    named = [name for name, value in given.items() if value]
    if named:
        rule, remedy = "cannot be used with a job file of pytorch-3dunet", f"Write it into {job} (trainer, loaders)."
        raise OptionError("pytorch3dunet.option", rule, key=", ".join(named), remedy=remedy)
    # `auto` is the default of Morula; the file of pytorch-3dunet has a device of its own
    overrides: dict[str, object] = {} if settings.device == "auto" else {"device": settings.device}
    if purpose_of(job) == "predict":
        yield from predict3dunet(job, overrides=overrides, overwrite=settings.overwrite, memory=settings.memory)
        return
    folder = checkpoint_folder(job)
    if settings.resume and folder is not None:
        overrides["trainer.resume"] = str(folder / LAST)
    yield from train3dunet(job, overrides=overrides, stop=settings.stop)
