"""What is wrong with a job of pytorch-3dunet, and what in it has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morula.core.errors import JobError, MorulaError, Problem
from morula.dialects.pytorch3dunet.job import Job, Purpose, purpose_of, read_job
from morula.jobs.yaml_lines import located


@dataclass(frozen=True, eq=False)
class Checked3dunet:
    """A job that can be run.

    Attributes:
        purpose: what it is for.
        remarks: keys that have no effect, each with its line and what is done about it.
        planned: what will be used for keys of ``loaders``, ``trainer`` and ``predictor`` that are left out, by dotted key.
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
        summary, more = (_training(job), ()) if purpose == "train" else _prediction(job)
    except JobError:
        raise
    except MorulaError as error:
        raise JobError([Problem("trainer" if "checkpoint" in str(error) else "loaders", str(error), None, Path(config).name)]) from error
    return Checked3dunet(purpose, (*job.remarks, *more), _planned(job), summary)


def _training(job: Job) -> str:
    from morula.dialects.pytorch3dunet.training import prepare

    prepared = prepare(job)
    prepared.loaders.train_patches.sample(0, 0)
    return prepared.summary_line()


def _prediction(job: Job) -> tuple[str, tuple[Problem, ...]]:
    """What would be predicted, and warnings; the checkpoint is loaded."""
    from morula.dialects.pytorch3dunet.engine import Engine
    from morula.dialects.pytorch3dunet.predict import prepare_prediction

    prepared = prepare_prediction(job.path)
    with located(job.path):
        try:
            engine = Engine.of(job)
        except MorulaError as error:
            raise JobError([Problem("model_path", str(error))]) from error
    warnings = tuple(Problem("loaders.test", text) for text in prepared.warnings[len(job.remarks) :])
    outputs = f"{prepared.outputs[0]}{' ...' if len(prepared.outputs) > 1 else ''}"
    return f"{len(prepared.volumes)} file(s) to predict with {job.config['model']['name']} on {engine.device} into {outputs}", warnings


def _planned(job: Job) -> dict[str, Any]:
    """Values of keys that the file leaves out."""
    found: dict[str, Any] = {}
    given = job.config
    sections = {"loaders": job.loaders.model_dump(mode="json", exclude={"train", "val", "test"})}
    if job.trainer is None:
        sections["predictor"] = job.predictor.model_dump(mode="json")
    else:
        sections["trainer"] = job.trainer.model_dump(mode="json", exclude={"tensorboard_formatter"})
    for section, values in sections.items():
        stated: Mapping[str, Any] = given.get(section) or {}
        found |= {f"{section}.{key}": value for key, value in values.items() if key not in stated and value is not None}
    return found
