"""Check a job: its problems, the planned values of the keys that it leaves out, and its memory and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from morula import workflows
from morula.jobs.load import load_job
from morula.jobs.yaml_lines import located
from morula.workflows.prepare import Prepared, prepare
from morula.workflows.run_settings import default_output
from morula.workflows.space import run_bytes, space_warning
from morula.workflows.stages import depends_on_other_stage, load_stages, of_stage

if TYPE_CHECKING:
    from morula.workflows.dry_run import Proof


@dataclass(frozen=True, eq=False)
class Checked:
    """A job that can be run.

    Attributes:
        prepared: the prepared job.
        planned: planned values by dotted key.
        proof: the measured cost of a training step, if one was taken.
        disk_bytes: least size of the run on the disk.
    """

    prepared: Prepared
    planned: dict[str, object]
    proof: Proof | None
    disk_bytes: int


def check(
    job: str | Path | Mapping[str, object], *, overrides: Iterable[str] = (), prove: bool = True, stage: int | None = None
) -> Checked:
    """Check a job, or one stage of a file of several, with its images.

    Raises:
        JobError: with all problems at once.
    """
    stated = load_job(job, overrides=overrides, stage=stage)
    with located(job, stage or 1):
        prepared = prepare(stated)
    # planned is what the resolved job has and the user did not state
    before = dict(leaves(stated.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    after = dict(leaves(prepared.job.model_dump(mode="json", by_alias=True)))
    planned = {key: value for key, value in after.items() if before.get(key, ...) != value and value is not None}
    excess = workflows.network_size.too_large_to_prove(prepared.job, prepared.facts, prepared.method) if prove else ""
    needed = run_bytes(prepared)
    doubts = [excess, space_warning(needed, default_output(job))]
    proof = _proof(prepared) if prove and not excess else None
    return Checked(replace(prepared, warnings=(*prepared.warnings, *filter(None, doubts))), planned, proof, needed)


def _proof(prepared: Prepared) -> Proof:
    from morula.workflows.dry_run import prove  # imports lightning_fabric, which takes as long as torch

    return prove(prepared)


def check_stages(job: str | Path, *, overrides: Iterable[str] = (), prove: bool = True) -> list[Checked | str]:
    """Check the stages of a job file in order. A stage that needs the result of another one cannot be prepared yet: only its document is
    checked, and its entry in the result is the name of its method.

    Raises:
        JobError: with all problems of the first stage that has some.
    """
    chosen = list(overrides)
    stages = load_stages(job, chosen)
    return [
        stage.method.kind if depends_on_other_stage(stage) else check(job, overrides=of_stage(chosen, number), prove=prove, stage=number)
        for number, stage in enumerate(stages, start=1)
    ]


def leaves(document: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of nested mappings.

    A list of plain values is one value; a list of variants has the kind of each variant in the key.

    Examples:
        >>> dict(leaves({"a": {"b": 1}, "c": [1, 2], "d": [{"kind": "flip", "probability": 0.5}]}))
        {'a.b': 1, 'c': [1, 2], 'd.flip.probability': 0.5}
    """
    if isinstance(document, Mapping):
        for name, value in document.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(document, list | tuple) and document and all(isinstance(stage, Mapping) and "kind" in stage for stage in document):
        for stage in document:
            yield from leaves({name: value for name, value in stage.items() if name != "kind"}, f"{key}.{stage['kind']}")
    else:
        yield key, document
