"""The film strip: what the network predicts for one patch, from the first epoch to the last."""

from __future__ import annotations

import json
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

FRAMES = 3
"""Epochs that a strip shows: the first, the middle and the last one."""
WIDTH = 1400
"""Width of a frame in pixels at most; small frames are enlarged by a whole number."""


@dataclass(frozen=True)
class Frame:
    """One epoch: its picture as a ``data:`` address, the epoch, its losses in words, and the titles of the tiles in the picture."""

    picture: str
    epoch: int
    losses: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def film(previews: Sequence[Path], training: Sequence[Row]) -> list[Frame]:
    """The first, the middle and the last epoch of the first kind of preview that a run wrote.

    Args:
        previews: files ``NAME_EPOCH.png``.
        training: rows of the learning curves, for the losses of each epoch.

    Raises:
        FileReadError: when a picture is damaged.
    """
    named = [(match[1], int(match[2]), path) for path in previews if (match := re.fullmatch(r"(.+)_(\d+)\.png", path.name))]
    # one kind of preview only: a strip of several kinds would mix pictures that cannot be compared
    first = min((name for name, _, _ in named), default="")
    shown = sorted((epoch, path) for name, epoch, path in named if name == first)
    losses = {int(number(row["epoch"])): losses_of(row) for row in training if row.get("epoch")}
    chosen = [shown[at] for at in planes_shown(len(shown), FRAMES)] if shown else []
    return [_frame(path, epoch, losses.get(epoch, "")) for epoch, path in chosen]


def losses_of(row: Row) -> str:
    """Losses of an epoch in words; of a W-Net its two parts, and the share of the first in the sum.

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


def _frame(path: Path, epoch: int, losses: str) -> Frame:
    try:
        with Picture.open(path) as file:
            picture, titles = file.convert("RGB"), dict(file.info)
    except OSError as error:
        raise FileReadError("preview.unreadable", f"cannot be read: {error}", file=path, remedy="Delete it.") from error
    # enlarged by whole numbers, so that pixels stay square and sharp; shrunk by any factor
    factor = WIDTH / picture.width if picture.width > WIDTH else max(1, WIDTH // 2 // picture.width)
    size = (round(picture.width * factor), round(picture.height * factor))
    resized = picture.resize(size, Picture.Resampling.NEAREST if factor >= 1 else Picture.Resampling.LANCZOS)
    rows, columns = (tuple(json.loads(str(titles.get(key, "[]")))) for key in ("rows", "columns"))
    return Frame(data_uri(np.asarray(resized), lossless=False), epoch, losses, rows, columns)
