"""What `morula check` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from morula.cli.show import complain, say
from morula.core.atomic import atomic
from morula.core.errors import FileWriteError
from morula.core.events import Warned
from morula.dialects.pytorch3dunet.check import Checked3dunet
from morula.workflows.check import Checked
from morula.workflows.dry_run import Proof


def tell(checked: Checked) -> None:
    """Print what was planned, the warnings and the cost."""
    prepared = checked.prepared
    say(prepared.summary_line())
    say("used for what the job leaves out:")
    width = max((len(key) for key in checked.planned), default=0)
    for key, value in checked.planned.items():
        say(f"  {key:<{width}}  {value}")
    for warning in prepared.warnings:
        complain(f"warning: {warning}")
    if checked.proof is not None:
        say(cost(checked.proof))
    say("no problem found")


def tell_stages(stages: Sequence[Checked | str]) -> None:
    """Print each stage of a job file."""
    for number, stage in enumerate(stages, start=1):
        say(f"stage {number} of {len(stages)}")
        if isinstance(stage, str):
            say(f"{stage}: no problem found yet; its images and costs are checked when the stage that it starts from is done")
        else:
            tell(stage)


def cost(proof: Proof) -> str:
    """The cost of a job in a line.

    Examples:
        >>> cost(Proof(weights=1_900_000, peak_bytes=2_000_000_000, seconds_per_step=0.5, steps=1200))
        'one real step: 1,900,000 weights, 2.0 GB, 0.50 s; 1200 steps take about 10 minutes'
    """
    return (
        f"one real step: {proof.weights:,} weights, {proof.peak_bytes / 1e9:.1f} GB, {proof.seconds_per_step:.2f} s; "
        f"{proof.steps} steps take about {proof.minutes:.0f} minutes"
    )


def tell3dunet(checked: Checked3dunet) -> None:
    """Print what a job of pytorch-3dunet will do, what was left out, and what has no effect."""
    say(f"job of pytorch-3dunet; morula {checked.purpose}3dunet --config runs it")
    say(checked.summary)
    say("used for what the job leaves out:")
    width = max((len(key) for key in checked.planned), default=0)
    for key, value in checked.planned.items():
        say(f"  {key:<{width}}  {value}")
    for remark in checked.remarks:
        complain(f"warning: {remark}")
    if checked.proof is not None:
        say(cost(checked.proof))
    say("no problem found")


def write_converted(text: str, warnings: Sequence[Warned], output: Path | None, *, overwrite: bool) -> None:
    """Print a converted job, or write it.

    Raises:
        FileWriteError: when the file exists already, or cannot be written.
    """
    for warning in warnings:
        complain(f"warning: {warning.message}")
    if output is None:
        say(text.rstrip())
        return
    if output.exists() and not overwrite:
        raise FileWriteError(f"{str(output)!r} exists already. Replace it with --overwrite, or name another file.")
    with atomic(output) as part:
        part.write_text(text, encoding="utf-8")
    say(f"wrote {output}; morula check {output} shows what it does")
