"""The summary table of docs/benchmarks/index.md: a few figures that stand for all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One line of the table: what is said, and which figure of which row says it."""

    what: str
    row: str
    figure: str
    page: str
    """Page with the details."""
    higher_is_better: bool = True


LINES = (
    Line("2D nuclei (fluorescence), F1@0.5", "nuclei2d", "F1@0.5", "accuracy"),
    Line("2D nuclei (fluorescence), F1@0.75", "nuclei2d", "F1@0.75", "accuracy"),
    Line("3D nuclei (mouse embryo), F1@0.5", "nuclei3d_embryo", "F1@0.5", "accuracy"),
    Line("3D nuclei (mouse embryo) without labels, F1@0.5", "wnet3d_embryo", "F1@0.5", "few-labels"),
    Line("3D neurons (electron microscopy), adapted Rand error", "neurons3d_fib25", "adapted Rand error", "accuracy", False),
    Line(
        "Training step of a 2D U-Net, time / BiaPy", "unet_steps", "U-Net, batch of 6, 256 x 256: morula / BiaPy", "other-programs", False
    ),
    Line("Training step, time / pytorch-3dunet", "unet3d_step", "morula / pytorch-3dunet", "other-programs", False),
    Line("Planned prediction, time / patch by patch", "prediction", "planned / patch by patch", "speed", False),
    Line("`kill -9` at random points, other results", "trust", "killed, failures", "trust", False),
    Line("Start of the command line (`morula --help`)", "start", "morula --help", "speed", False),
)


def summary_table(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown; lines whose row was not measured are left out."""
    rows = ["| what | measured | target | reached | details |", "|---|---|---|---|---|"]
    for line in LINES:
        figures = {figure["what"]: figure for figure in stored.get(line.row, {}).get("figures", ())}
        if line.figure not in figures:
            continue
        figure = figures[line.figure]
        value, target, unit = figure["value"], figure["bar"], figure["unit"].replace("-", "\N{NON-BREAKING HYPHEN}")
        reached = "yes" if (value >= target if line.higher_is_better else value <= target) else "no"
        sign = "≥" if line.higher_is_better else "≤"
        rows.append(f"| {line.what} | {value:.3g} {unit} | {sign} {target:g} {unit} | {reached} | [{line.row}]({line.page}.md) |")
    return "\n".join(rows).replace("  |", " |")
