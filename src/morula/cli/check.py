"""The output of `morula check` and `morula convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from morula.cli.show import echo, echo_error
from morula.core.atomic import atomic
from morula.core.events import Warned
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, amount, check_outputs

if TYPE_CHECKING:  # the engine of pytorch-3dunet takes a second to import
    from morula.dialects.pytorch3dunet.check import Checked3dunet
    from morula.workflows.check import Checked
    from morula.workflows.dry_run import Proof


def print_check(checked: Checked) -> None:
    """Print the planned values, the warnings, and the memory and time of the job."""
    prepared = checked.prepared
    for line in (prepared.summary_line(), *prepared.notes):
        echo(line)
    _print_found(checked.planned, prepared.warnings, checked.proof, checked.disk_bytes)


def _print_found(planned: Mapping[str, object], warnings: Sequence[object], proof: Proof | None, disk_bytes: int | None = None) -> None:
    """Print planned values, warnings, memory and time, and space on the disk."""
    echo("planned values of keys that the job leaves out:")
    width = max((len(key) for key in planned), default=0)
    for key, value in planned.items():
        echo(f"  {key:<{width}}  {value}")
    for warning in warnings:
        echo_error(f"warning: {warning}")
    if proof is not None:
        echo(f"one real step: {proof.cost}")
    if disk_bytes is not None:
        echo(f"the run needs at least {amount(disk_bytes)} on the disk")
    echo("no problems found")


def print_stages(stages: Sequence[Checked | str]) -> None:
    """Print each stage of a job file."""
    for number, stage in enumerate(stages, start=1):
        echo(f"stage {number} of {len(stages)}")
        if isinstance(stage, str):  # only the document could be checked, see `check_stages`
            echo(f"{stage}: no problems found so far; its images and cost can be checked after the stage that it depends on")
        else:
            print_check(stage)


def print_check3dunet(checked: Checked3dunet) -> None:
    """Print what a job of pytorch-3dunet does, its planned values, and keys without effect."""
    echo(f"job of pytorch-3dunet; run it with `morula {checked.purpose}3dunet --config JOB`")
    echo(checked.summary)
    _print_found(checked.planned, checked.remarks, checked.proof)


def print_warnings(warnings: Sequence[str]) -> None:
    """Print the warnings of a job that has no planned values."""
    for warning in warnings:
        echo_error(f"warning: {warning}")
    echo("no problems found")


def write_converted(job: Path, text: str, warnings: Sequence[Warned], output: Path | None, *, overwrite: bool) -> None:
    """Print a converted job, or write it to a file.

    Raises:
        FileWriteError: when the file exists, or cannot be written.
    """
    for warning in warnings:
        echo_error(f"warning: {warning.message}")
    if output is None:
        echo(text.rstrip())
        return
    output = output.expanduser()
    check_outputs([Destination(output, proven=True)], [job], overwrite=overwrite)
    with recording(output.parent, RESULTS), atomic(output) as part:
        part.write_text(text, encoding="utf-8")
    echo(f"wrote {output}; check it with: morula check {output}")
