"""The film strip: what the network said to one patch, epoch by epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from morula.core.errors import FileReadError
from morula.report.pictures import data_uri, planes_shown
from morula.report.run_folder import Row
from morula.report.tables import number, short

FRAMES = 12
"""Epochs that a strip shows at most."""
WIDTH = 1100
"""Widest frame in pixels; wider ones are made smaller, small ones larger by a whole number."""


@dataclass(frozen=True)
class Frame:
    """One epoch: its picture as a ``data:`` address, the epoch, and its losses in words."""

    picture: str
    epoch: int
    losses: str


def film(previews: Sequence[Path], training: Sequence[Row]) -> list[Frame]:
    """Up to 12 epochs of the first kind of preview that a run wrote, evenly spaced, the first and the last included.

    Args:
        previews: files ``NAME_EPOCH.png``.
        training: rows of the learning curves, for the losses of each epoch.

    Raises:
        FileReadError: when a picture is damaged.
    """
    named = [(match[1], int(match[2]), path) for path in previews if (match := re.fullmatch(r"(.+)_(\d+)\.png", path.name))]
    first = min((name for name, _, _ in named), default="")
    shown = sorted((epoch, path) for name, epoch, path in named if name == first)
    losses = {int(number(row["epoch"])): losses_of(row) for row in training if row.get("epoch")}
    chosen = [shown[at] for at in planes_shown(len(shown), FRAMES)] if shown else []
    return [Frame(_picture(path), epoch, losses.get(epoch, "")) for epoch, path in chosen]


def losses_of(row: Row) -> str:
    """Losses of an epoch and the share of the first part in them, in words.

    Examples:
        >>> losses_of({"epoch": "3", "loss": "0.75", "ncuts": "0.5", "reconstruction": "100", "balance": "0.3333"})
        'ncuts 0.500, reconstruction 100, ncuts 33 % of the loss'
        >>> losses_of({"epoch": "3", "loss": "0.75"})
        'loss 0.750'
    """
    if not row.get("ncuts") or not row.get("reconstruction"):
        return f"loss {short(row['loss'])}" if row.get("loss") else ""
    share = f"{100 * number(row['balance']):.0f} %"
    return f"ncuts {short(row['ncuts'])}, reconstruction {short(row['reconstruction'])}, ncuts {share} of the loss"


def _picture(path: Path) -> str:
    try:
        with Picture.open(path) as file:
            picture = file.convert("RGB")
    except OSError as error:
        raise FileReadError(f"the preview {path} cannot be read: {error}. Delete it.") from error
    factor = WIDTH / picture.width if picture.width > WIDTH else max(1, WIDTH // 2 // picture.width)
    size = (round(picture.width * factor), round(picture.height * factor))
    resized = picture.resize(size, Picture.Resampling.NEAREST if factor >= 1 else Picture.Resampling.LANCZOS)
    return data_uri(np.asarray(resized), lossless=False)
