"""What is wrong with a job of pytorch-3dunet, and what in it has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, MissingFileError, MorulaError, Problem
from morula.dialects.pytorch3dunet.job import Job, Purpose, purpose_of, read_job


@dataclass(frozen=True, eq=False)
class Checked3dunet:
    """A job that can be run.

    Attributes:
        purpose: what it is for.
        remarks: keys that have no effect, each with its line and what is done about it.
        planned: what will be used for keys of ``loaders`` and ``trainer`` that are left out, by dotted key.
        summary: what it will do, in a line.
    """

    purpose: Purpose
    remarks: tuple[Problem, ...]
    planned: dict[str, Any]
    summary: str


def check3dunet(config: str | Path) -> Checked3dunet:
    """Check a job file of pytorch-3dunet with its files.

    Raises:
        JobError: with all problems at once.
    """
    purpose = purpose_of(config)
    job = read_job(config, purpose)
    try:
        summary = _training(job) if purpose == "train" else _prediction(job)
    except JobError:
        raise
    except MorulaError as error:
        raise JobError([Problem("trainer" if "checkpoint" in str(error) else "loaders", str(error), None, Path(config).name)]) from error
    return Checked3dunet(purpose, job.remarks, _planned(job), summary)


def _training(job: Job) -> str:
    from morula.dialects.pytorch3dunet.training import prepare

    prepared = prepare(job)
    prepared.loaders.train_patches.sample(0, 0)
    return prepared.summary_line()


def _prediction(job: Job) -> str:
    from morula.dialects.pytorch3dunet.volumes import open_volumes

    path = job.plain.model_path
    if path is not None and not Path(path).expanduser().is_file():
        raise MissingFileError(f"there is no checkpoint {path!r}. Correct model_path.")
    volumes = open_volumes(job.loaders, "test")
    return f"{len(volumes)} file(s) to predict with {job.config['model']['name']}"


def _planned(job: Job) -> dict[str, Any]:
    """Values of keys that the file leaves out."""
    found: dict[str, Any] = {}
    given = job.config
    sections = {"loaders": job.loaders.model_dump(mode="json", exclude={"train", "val", "test"})}
    if job.trainer is not None:
        sections["trainer"] = job.trainer.model_dump(mode="json", exclude={"tensorboard_formatter"})
    for section, values in sections.items():
        stated: Mapping[str, Any] = given.get(section) or {}
        found |= {f"{section}.{key}": value for key, value in values.items() if key not in stated and value is not None}
    return found
