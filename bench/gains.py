"""Table, verdict and figure of the row `labels`, from its stored scores and curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from labels import SETTINGS, STARTS, Setting, key_of
from morula.report.curves import HEIGHT, WIDTH, Axis, Line, line_chart

FIGURE = "labels.svg"
BAR, OF_DATA, OF_COUNT = 0.03, "nuclei2d", 5
"""The promised gain, and the labelled images for which it was promised."""
GAP, TITLE, ROW, LABELS = 24, 30, 34, 400
"""Pixels: gap between panels, title above a panel, one row of gains, names at the left."""
STYLE = """
:root { --card: #fff; --ink: #1c2326; --soft: #5b686e; --rule: #dfe3e1; --c0: #00695c; --c1: #d55e00; }
@media (prefers-color-scheme: dark) {
  :root { --card: #1c2225; --ink: #e6eaea; --soft: #9dabb0; --rule: #343d41; --c0: #58c9b5; --c1: #ff9150; } }
text { fill: var(--ink); font: 13px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.title { font-weight: 600; font-size: 14px; } .tick, .axis, .mark-text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--rule); } .axis-line { stroke: var(--soft); } .mark { stroke: var(--soft); stroke-dasharray: 2 4; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; } .dashed { stroke-dasharray: 7 5; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c5 { stroke: var(--soft); } .seed { fill: none; stroke-width: 2; }
.mean { stroke-width: 4; }
"""


@dataclass(frozen=True)
class Gain:
    """F1@0.5 of the seeds that were trained from scratch and from pretraining."""

    setting: Setting
    network: str
    pretext: str
    scratch: tuple[float, ...]
    pretrained: tuple[float, ...]

    @property
    def values(self) -> list[float]:
        """Gain of each seed."""
        return [after - before for before, after in zip(self.scratch, self.pretrained, strict=True)]

    @property
    def mean(self) -> float:
        """Mean gain."""
        return statistics.mean(self.values)


def gains(scores: dict[str, float]) -> Iterator[Gain]:
    """Pretrained trainings whose seed was also trained from scratch."""
    for setting in SETTINGS:
        for start in setting.starts:
            network, _, pretext = start.partition(" from ")
            keys = [[key_of(setting, seed, f"{network} from {how}") for how in ("scratch", pretext)] for seed in setting.seeds]
            both = [(scores[before], scores[after]) for before, after in keys if before in scores and after in scores]
            if STARTS[start][1] is not None and both:
                scratch, pretrained = zip(*both, strict=True)
                yield Gain(setting, network, pretext, scratch, pretrained)


def section(scores: dict[str, float]) -> list[str]:
    """Sentence, table and figure."""
    found = list(gains(scores))
    if not found:
        return ["No pair of trainings is finished."]
    titles = ["images", "labelled", "network", "from scratch", "pretrained by", "pretrained", "gain", "seeds"]
    rows = [
        [
            g.setting.data,
            g.setting.labelled,
            g.network,
            _spread(g.scratch),
            g.pretext,
            _spread(g.pretrained),
            f"{g.mean:+.3f}",
            len(g.values),
        ]
        for g in found
    ]
    table = [f"| {' | '.join(map(str, line))} |" for line in (titles, ["---"] * len(titles), *rows)]
    drawn = f"![Gain of F1@0.5 of each seed, and the training loss over the steps of fine-tuning]({FIGURE})"
    return [verdict(found), "", *table, "", drawn]


def verdict(found: list[Gain]) -> str:
    """Whether the promised gain is reached, as a sentence."""
    here = [gain for gain in found if (gain.setting.data, gain.setting.labelled) == (OF_DATA, OF_COUNT)]
    if not here:
        return f"With {OF_COUNT} labelled images of {OF_DATA} nothing has been measured yet."
    parts = [f"{gain.pretext} changes F1@0.5 of the {gain.network} by {gain.mean:+.3f} (mean of {len(gain.values)} seeds)" for gain in here]
    sentence = f"With {OF_COUNT} labelled images of {OF_DATA}, {', and '.join(parts)}."
    reached = [gain.pretext for gain in here if gain.mean >= BAR]
    if not reached:
        return f"{sentence} **There is no gain of {BAR:+.2f}, the target: pretraining does not help here.**"
    return f"{sentence} The target of {BAR:+.2f} is reached by {' and '.join(reached)}."


def _signed(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _spread(values: tuple[float, ...]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} – {max(values):.3f})"


def picture(scores: dict[str, float], curves: dict[str, dict[str, list[float]]]) -> str:
    """The figure as SVG: gains of the seeds above, the loss during fine-tuning below."""
    found = list(gains(scores))
    charts = [
        (f"{s.data}, {s.labelled} labelled: training loss, mean of the seeds", lines) for s in SETTINGS if (lines := losses(s, curves))
    ]
    top = TITLE + ROW * len(found) + 50
    width, height = 2 * WIDTH + GAP, top + (len(charts) + 1) // 2 * (TITLE + HEIGHT)
    parts = [_gains_panel(found, width)]
    for number, (title, lines) in enumerate(charts):
        x, y = number % 2 * (WIDTH + GAP), top + number // 2 * (TITLE + HEIGHT)
        chart = str(line_chart(lines, title=title, x_label="steps of fine-tuning"))
        parts.append(f'<text class="title" x="{x + 8}" y="{y + 20}">{title}</text>')
        parts.append(chart.replace("<svg ", f'<svg x="{x}" y="{y + TITLE}" width="{WIDTH}" height="{HEIGHT}" ', 1))
    back = '<rect width="100%" height="100%" fill="var(--card)"/>'
    label = "Gain of F1 and loss over the steps of fine-tuning"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return f"{head}<style>{STYLE}</style>{back}{''.join(parts)}</svg>\n"


def losses(setting: Setting, curves: dict[str, dict[str, list[float]]]) -> list[Line]:
    """A line a start, the mean over its seeds; pretrained ones dashed in the colour of their network."""
    lines = []
    for start in setting.starts:
        known = [curves[key] for seed in setting.seeds if (key := key_of(setting, seed, start)) in curves]
        known = [curve for curve in known if len(curve["steps"]) == max(len(other["steps"]) for other in known)]
        if known:
            mean = [statistics.mean(values) for values in zip(*(curve["loss"] for curve in known), strict=True)]
            network, _, how = start.partition(" from ")
            scratch = how == "scratch"
            name = network if scratch else start
            lines.append(Line(name, known[0]["steps"], mean, None if scratch else network, "" if scratch else "pretrained"))
    return lines


def _gains_panel(found: list[Gain], width: float) -> str:
    values = [value for gain in found for value in gain.values] + [0.0, BAR]
    margin = 0.08 * (max(values) - min(values))
    axis = Axis(min(values) - margin, max(values) + margin, LABELS, width - 20)
    bottom = TITLE + ROW * len(found)
    parts = ['<text class="title" x="8" y="20">Gain of F1@0.5 over scratch: seeds (rings) and their mean (bar)</text>']
    for tick in axis.ticks:
        parts.append(f'<line class="grid" x1="{axis(tick):.1f}" x2="{axis(tick):.1f}" y1="{TITLE}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{axis(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{_signed(tick)}</text>')
    parts.append(f'<line class="axis-line" x1="{axis(0):.1f}" x2="{axis(0):.1f}" y1="{TITLE}" y2="{bottom}"/>')
    parts.append(f'<line class="mark" x1="{axis(BAR):.1f}" x2="{axis(BAR):.1f}" y1="{TITLE}" y2="{bottom}"/>')
    parts.append(f'<text class="mark-text" x="{axis(BAR):.1f}" y="{TITLE - 6}" text-anchor="middle">target {BAR:+.2f}</text>')
    networks = list(dict.fromkeys(start.partition(" from ")[0] for start in STARTS))
    for number, gain in enumerate(found):
        y, colour = TITLE + ROW * (number + 0.5), f"c{networks.index(gain.network)}"
        name = f"{gain.setting.data}, {gain.setting.labelled} labelled: {gain.network} from {gain.pretext}"
        parts.append(f'<text x="{LABELS - 14}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts += [f'<circle class="seed {colour}" cx="{axis(value):.1f}" cy="{y}" r="5"/>' for value in gain.values]
        parts.append(f'<line class="mean {colour}" x1="{axis(gain.mean):.1f}" x2="{axis(gain.mean):.1f}" y1="{y - 11}" y2="{y + 11}"/>')
    return "".join(parts)
