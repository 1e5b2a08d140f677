"""Histograms, counts per image and the spread of scores over images as SVG text, in the style of `morula.report.curves`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from morula.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, grid

BINS = 24
ROW = 24
NAME_WIDTH = 150
"""Room for the names of images left of horizontal bars."""
CROWDED = 99.0
"""Percentile at which a histogram ends: with one merged giant on the axis, all other objects would be in the first bar."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values of one histogram, `true` for those of the truth, which are drawn as an outline."""

    name: str
    values: np.ndarray
    true: bool = False


def histogram(series: Sequence[Series], *, title: str, x_label: str) -> Markup:
    """Share of the objects per interval, truth as an outline over the filled prediction; nothing without values.

    Examples:
        >>> histogram([Series("found", np.array([1.0, 2.0, 2.0]))], title="Size", x_label="voxels")[:4]
        Markup('<svg')
    """
    series = [entry for entry in series if entry.values.size]
    if not series:
        return Markup("")
    values = np.concatenate([entry.values for entry in series])
    low, high = min(0.0, float(values.min())), float(np.percentile(values, CROWDED))
    # a step of the axis below the smallest normal number would be rounded to 0
    high = high if high - low > 1e-300 else low + 1
    edges = np.linspace(low, high, BINS + 1)
    # shares instead of counts, so that truth and prediction with different numbers of objects can be compared
    shares = [np.histogram(np.minimum(entry.values, high), edges)[0] / entry.values.size for entry in series]
    x_axis, y_axis = Axis(low, high, LEFT, WIDTH - RIGHT), Axis(0, 100 * max(map(np.max, shares)) * 1.05, HEIGHT - BOTTOM, TOP)
    parts = [grid(x_axis, y_axis)]
    # the truth last, so that its outline is above the filled bars
    for entry, share in sorted(zip(series, shares, strict=True), key=lambda pair: pair[0].true):
        steps = [f"M{x_axis(low):.1f} {y_axis(0):.1f}"]
        for right, height in zip(edges[1:], 100 * share, strict=True):
            steps.append(f"V{y_axis(height):.1f} H{x_axis(right):.1f}")
        parts.append(f'<path class="{"outline" if entry.true else "filled"}" d="{" ".join(steps)} V{y_axis(0):.1f} Z"/>')
    beyond = int(np.count_nonzero(values > high))
    label = f"{x_label}; {beyond} larger in the last bar" if beyond else x_label
    parts += [_legend([(entry.name, entry.true) for entry in series]), _axis_title(label, HEIGHT), _side_title("% of objects")]
    words = "; ".join(f"{entry.name}: {entry.values.size} objects, median {float(np.median(entry.values)):.4g}" for entry in series)
    return _svg("".join(parts), f"{title}: {words}", HEIGHT)


def count_chart(names: Sequence[str], predicted: Sequence[int], true: Sequence[int] | None, *, title: str) -> Markup:
    """Objects per image as horizontal bars, the true number as a mark on each.

    Examples:
        >>> "2 found, 3 true" in count_chart(["a"], [2], [3], title="Objects per image")
        True
    """
    if not names:
        return Markup("")
    height = TOP + ROW * len(names) + BOTTOM
    most = max(1, *predicted, *(true or ()))
    x_axis = Axis(0, 1.05 * most, NAME_WIDTH, WIDTH - RIGHT, whole=True)
    parts = [_columns(x_axis, height)]
    for row, name in enumerate(names):
        top = TOP + ROW * row + 5
        words = f"{name}: {predicted[row]} found" + (f", {true[row]} true" if true is not None else "")
        parts.append(f"<g><title>{escape(words)}</title>{_row_name(name, top)}")
        parts.append(f'<rect class="filled" x="{NAME_WIDTH}" y="{top}" width="{x_axis(predicted[row]) - NAME_WIDTH:.1f}" height="14"/>')
        if true is not None:
            x = x_axis(true[row])
            parts.append(f'<line class="truth" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{top + 17}"/>')
        parts.append("</g>")
    parts += [_legend([("found", False), *([("true", True)] if true is not None else [])]), _axis_title("objects", height)]
    return _svg("".join(parts), f"{title}: " + "; ".join(f"{name} {count}" for name, count in zip(names, predicted, strict=True)), height)


def spread_chart(rows: Sequence[tuple[str, Sequence[tuple[str, float]], float]], *, title: str, x_label: str) -> Markup:
    """Scores of single images as dots from 0 to 1, a row per threshold or class, the pooled score as a mark.

    Args:
        rows: name of the row; name and score of each image; pooled score (NaN for none).

    Examples:
        >>> spread_chart([("0.5", [("a", 0.5), ("b", 0.75)], 0.625)], title="F1", x_label="F1").count("<title>")
        3
    """
    rows = [(name, [pair for pair in dots if math.isfinite(pair[1])], pooled) for name, dots, pooled in rows]
    rows = [row for row in rows if row[1]]
    if not rows:
        return Markup("")
    height = TOP + 34 * len(rows) + BOTTOM
    x_axis = Axis(0, 1, 100, WIDTH - RIGHT)
    parts = [_columns(x_axis, height)]
    for number, (name, dots, pooled) in enumerate(rows):
        middle = TOP + 34 * number + 17
        parts.append(f'<text class="tick" x="92" y="{middle + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="grid" x1="100" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}"/>')
        if math.isfinite(pooled):
            x = x_axis(pooled)
            parts.append(f'<g><title>all images: {pooled:.3f}</title><line class="truth" x1="{x:.1f}" x2="{x:.1f}" ')
            parts.append(f'y1="{middle - 12}" y2="{middle + 12}"/></g>')
        for image, score in dots:
            parts.append(
                f'<g><title>{escape(image)}: {score:.3f}</title><circle class="dot" cx="{x_axis(score):.1f}" cy="{middle}" r="5"/></g>'
            )
    entries = '<circle class="dot" cx="106" cy="14" r="5"/><text class="legend" x="118" y="18">one image</text>'
    entries += '<line class="truth" x1="206" x2="206" y1="5" y2="23"/><text class="legend" x="214" y="18">all images together</text>'
    parts += [entries, _axis_title(x_label, height)]
    words = "; ".join(f"{name}: {min(v for _, v in dots):.3f} to {max(v for _, v in dots):.3f}" for name, dots, _ in rows)
    return _svg("".join(parts), f"{title}: {words}", height)


def _columns(x_axis: Axis, height: int) -> str:
    """Vertical grid lines with their numbers below."""
    bottom = height - BOTTOM
    parts = []
    for value in x_axis.ticks:
        x = x_axis(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    return "".join(parts)


def _row_name(name: str, top: int) -> str:
    # start and end of a long name distinguish most files of a data set
    short = name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"
    return f'<text class="tick" x="{NAME_WIDTH - 8}" y="{top + 12}" text-anchor="end">{escape(short)}</text>'


def _legend(entries: Sequence[tuple[str, bool]]) -> str:
    parts, x = [], float(LEFT)
    for name, true in entries:
        parts.append(f'<rect class="{"outline" if true else "filled"}" x="{x:.0f}" y="8" width="22" height="11"/>')
        parts.append(f'<text class="legend" x="{x + 28:.0f}" y="18">{escape(name)}</text>')
        x += 44 + 7.2 * len(name)
    return "".join(parts)


def _axis_title(text: str, height: int) -> str:
    return f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 6}" text-anchor="middle">{escape(text)}</text>'


def _side_title(text: str) -> str:
    y = (TOP + HEIGHT - BOTTOM) / 2
    return f'<text class="axis" x="14" y="{y}" text-anchor="middle" transform="rotate(-90 14 {y})">{escape(text)}</text>'


def _svg(content: str, label: str, height: int) -> Markup:
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{content}</svg>')
