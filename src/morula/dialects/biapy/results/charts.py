"""Learning curves as PNG files and as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from morula.core.atomic import atomic
from morula.report.curves import ticks

_SIZE, _LEFT, _RIGHT, _TOP, _BOTTOM = (640, 400), 70, 20, 40, 45
_COLOURS = ((31, 119, 180), (217, 95, 2))
_INK, _GRID = (40, 40, 40), (220, 220, 220)


def figures_of(curves: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the figures that a table of learning curves has for training or validation: ``loss``, ``loss_F``, ...

    Examples:
        >>> figures_of({"epoch": [1], "loss": [0.5], "lr": [0.1], "validation_loss": [0.6], "validation_dice": [0.7]})
        ['loss', 'dice']
    """
    about = ("epoch", "step", "seconds", "best", "lr")
    return list(dict.fromkeys(name.removeprefix("validation_") for name in curves if name not in about))


def draw_chart(target: Path, name: str, curves: Mapping[str, np.ndarray]) -> None:
    """Draw a figure over the epochs: training in blue, validation in orange."""
    lines = [(label, curves[column]) for label, column in (("train", name), ("val", f"validation_{name}")) if column in curves]
    epochs = np.asarray(curves["epoch"], np.float64)
    values = np.concatenate([line for _, line in lines])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5, high + 0.5
    first, last = float(epochs.min()), max(float(epochs.max()), float(epochs.min()) + 1)
    width, height = _SIZE

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - first) / (last - first) * (width - _LEFT - _RIGHT)
        return across, height - _BOTTOM - (y - low) / (high - low) * (height - _TOP - _BOTTOM)

    picture = Picture.new("RGB", _SIZE, (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    for y in ticks(low, high):
        pen.line([place(first, y), place(last, y)], fill=_GRID)
        pen.text((8, place(first, y)[1] - 6), f"{y:g}", fill=_INK)
    for x in (tick for tick in ticks(first, last) if tick == int(tick)):
        pen.text((place(x, low)[0] - 6, height - _BOTTOM + 8), f"{x:g}", fill=_INK)
    pen.rectangle([place(first, high), place(last, low)], outline=_INK)
    pen.text((_LEFT, 12), name, fill=_INK)
    pen.text((width // 2, height - 20), "epoch", fill=_INK)
    for number, (label, line) in enumerate(lines):
        points = [place(x, y) for x, y in zip(epochs, line, strict=True) if np.isfinite(y)]
        if len(points) > 1:
            pen.line(points, fill=_COLOURS[number], width=2)
        for x, y in points:
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_COLOURS[number])
        pen.text((width - 130 + 60 * number, 12), label, fill=_COLOURS[number])
    with atomic(target) as part:
        picture.save(part, "png")


def epoch_lines(curves: Mapping[str, np.ndarray]) -> str:
    """One JSON object per epoch, as in BiaPy: training figures are ``train_*``, validation figures ``test_*``, epochs count from 0."""
    lines = []
    for number, epoch in enumerate(curves["epoch"]):
        row = {f"train_{name}": float(curves[name][number]) for name in [*figures_of(curves), "lr"] if name in curves}
        row |= {
            f"test_{name.removeprefix('validation_')}": float(values[number])
            for name, values in curves.items()
            if name.startswith("validation_")
        }
        finite = {name: value for name, value in row.items() if np.isfinite(value)}
        lines.append(json.dumps({**finite, "epoch": int(epoch) - 1}))
    return "\n".join(lines) + "\n"
