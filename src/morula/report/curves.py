"""Line charts as SVG text: small, sharp in print, and coloured by the style sheet of the page, which has a light and a dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 44


@dataclass(frozen=True)
class Line:
    """One line: `x` and `y` of equal length; points that are not finite are left out, and the line has a gap there.

    A line `like` another of that name is dashed in its colour, and the legend says once what dashed lines are (`kind`).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    like: str | None = None
    kind: str = ""

    @property
    def points(self) -> list[tuple[float, float]]:
        """Its finite points."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to pixels; `whole` has ticks at whole numbers only."""

    low: float
    high: float
    start: float
    stop: float
    whole: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        return [tick for tick in ticks(self.low, self.high) if not self.whole or tick == int(tick)]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `wanted` of them, 1, 2 or 5 times a power of ten apart.

    Examples:
        >>> ticks(0.13, 0.94)
        [0.2, 0.4, 0.6, 0.8]
        >>> ticks(1, 60)
        [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    """
    # the round step that is nearest to the wanted one on a logarithmic scale
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda candidate: abs(math.log(candidate / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    mark: tuple[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """An SVG with one line per series, a legend, and a vertical mark with its text at `mark`; nothing when no line has a point.

    The y axis is linear. It spans `y_range` where that is given (scores: 0 to 1, so that two reports can be compared), else it begins at 0
    for values that are not negative.

    Examples:
        >>> line_chart([Line("loss", [1, 2], [0.5, 0.2])], title="Loss", x_label="epoch")[:4]
        Markup('<svg')
    """
    lines = [line for line in lines if line.points]
    drawn = {line.name for line in lines}
    # a line without its counterpart is a line of its own, not a dashed one in a colour that nothing explains
    lines = [line if line.like in drawn else replace(line, like=None) for line in lines]
    if not lines:
        return Markup("")
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    whole = all(x == int(x) for x in xs)
    x_axis = Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT, whole=whole)
    y_axis = Axis(*y_range, HEIGHT - BOTTOM, TOP) if y_range else _y_axis(ys)
    parts = [grid(x_axis, y_axis), _mark(mark, x_axis)]
    own = [line.name for line in lines if line.like is None]
    colours = [own.index(line.name if line.like is None else line.like) for line in lines]
    parts += [_path(line, x_axis, y_axis, colour) for line, colour in zip(lines, colours, strict=True)]
    parts += [
        _legend(lines),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    ends = "; ".join(f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines)
    label = escape(f"{title}: {ends}" + (f"; {mark[1]} at {mark[0]:g}" if mark else ""))
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _y_axis(values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    if low >= 0:
        low = 0.0
    # some room above and below; a constant line gets an axis of finite height
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low if low == 0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP)


def grid(x_axis: Axis, y_axis: Axis) -> str:
    """Grid lines, ticks and their numbers."""
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in y_axis.ticks:
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_axis.ticks:
        x = x_axis(value)
        parts.append(f'<line class="axis-line" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<line class="axis-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    return "".join(parts)


def _mark(mark: tuple[float, str] | None, x_axis: Axis) -> str:
    if mark is None or not x_axis.low <= mark[0] <= x_axis.high:
        return ""
    x = x_axis(mark[0])
    side, gap = ("end", -5) if x > WIDTH / 2 else ("start", 5)
    line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return f'{line}<text class="mark-text" x="{x + gap:.1f}" y="{TOP + 10}" text-anchor="{side}">{escape(mark[1])}</text>'


def _path(line: Line, x_axis: Axis, y_axis: Axis, colour: int) -> str:
    look = f'class="line c{colour % 6}{" dashed" if line.like is not None else ""}"'
    if len(line.points) == 1:
        x, y = line.points[0]
        return f'<circle {look} cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3"/>'
    steps = []
    broken = True  # a value that is not finite leaves a gap: the next point starts a new piece with M
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            steps.append(f"{'M' if broken else 'L'}{x_axis(x):.1f} {y_axis(y):.1f}")
        broken = not (math.isfinite(x) and math.isfinite(y))
    return f'<path {look} d="{" ".join(steps)}"/>'


def _legend(lines: Sequence[Line]) -> str:
    """A sample and a name for each colour, then one for dashed lines."""
    own = [line for line in lines if line.like is None]
    entries = [(f"c{colour % 6}", line.name) for colour, line in enumerate(own)]
    entries += [("c5 dashed", kind) for kind in dict.fromkeys(line.kind for line in lines if line.like is not None)]
    parts, x = [], float(LEFT)
    for look, name in entries:
        parts.append(f'<path class="line {look}" d="M{x:.0f} 14 h22"/><text class="legend" x="{x + 28:.0f}" y="18">{escape(name)}</text>')
        x += 44 + 7.2 * len(name)  # about the width of a letter: SVG text cannot be measured here
    return "".join(parts)
