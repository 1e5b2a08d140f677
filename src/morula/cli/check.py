"""What `morula check` prints."""

from __future__ import annotations

from morula.cli.show import complain, say
from morula.workflows.check import Checked
from morula.workflows.prove import Proof


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
