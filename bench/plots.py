"""The plots of docs/benchmarks: horizontal bars as SVG that follow the colours of a light or a dark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STYLE = """
:root { --ink: #1c2326; --soft: #5b686e; --c0: #00695c; --c1: #d55e00; --c2: #8c6bb1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaea; --soft: #9dabb0; --c0: #58c9b5; --c1: #ff9150; --c2: #b79be0; } }
text { fill: var(--ink); font: 13px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.soft { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--soft); stroke-opacity: 0.35; }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); }
"""
WIDTH, LABELS, ROW = 720, 190, 30
"""Pixels: of the plot, of the labels at its left, of one group of bars."""


def bars(groups: Sequence[tuple[str, Sequence[float]]], legend: Sequence[str], ticks: Sequence[float], *, logarithmic: bool) -> str:
    """Groups of horizontal bars: a label and one value per entry of the legend."""
    scale = math.log10 if logarithmic else float
    low, high = scale(ticks[0]), scale(ticks[-1])

    def x(value: float) -> float:
        return LABELS + (WIDTH - LABELS - 50) * (scale(value) - low) / (high - low)

    top = 34
    bottom = top + ROW * len(groups)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 24}"><style>{STYLE}</style>']
    left = float(LABELS)
    for number, name in enumerate(legend):
        parts.append(f'<rect class="c{number}" x="{left:.0f}" y="8" width="12" height="12"/><text x="{left + 18:.0f}" y="19">{name}</text>')
        left += 40 + 7.5 * len(name)
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    height = (ROW - 8) / len(legend)
    for row, (label, values) in enumerate(groups):
        y = top + ROW * row + 4
        parts.append(f'<text x="{LABELS - 10}" y="{y + ROW / 2}" text-anchor="end">{label}</text>')
        for number, value in enumerate(values):
            start, place, length = x(ticks[0]), y + number * height, max(0.0, x(value) - x(ticks[0]))
            parts.append(f'<rect class="c{number}" x="{start:.1f}" y="{place:.1f}" width="{length:.1f}" height="{height - 1:.1f}"/>')
        if len(values) == 1:
            parts.append(f'<text class="soft" x="{x(values[0]) + 6:.1f}" y="{y + ROW / 2}">{values[0]:.3g}</text>')
    return "".join(parts) + "</svg>\n"


def channel_sets(row: Mapping[str, Any]) -> str:
    """F1 at three thresholds of every channel set that was trained."""
    groups = [(f"{line[0]} ({line[1]})", line[2:5]) for line in row["table"]["rows"]]
    return bars(groups, ("F1@0.5", "F1@0.75", "F1@0.9"), (0, 0.2, 0.4, 0.6, 0.8, 1), logarithmic=False)


def speed_ups(row: Mapping[str, Any]) -> str:
    """How many times faster than BiaPy each operation on volumes is."""
    size = "64 x 256 x 256"
    groups = []
    for figure in row["figures"]:
        name = figure["what"].partition(":")[0]
        if size in name:
            groups.append((name.replace(f", {size}", "").partition(", 5 %")[0], (figure["value"],)))
    return bars(groups, ("times as fast as BiaPy, volumes of 64 x 256 x 256 voxels",), (1, 10, 100, 1000), logarithmic=True)


PLOTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"representations": channel_sets, "objects": speed_ups}
"""Plots by the row that they show; the file has the name of the row."""
