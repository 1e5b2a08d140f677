"""A picture with the channels and the objects of several representations of one label image, one row per representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from morula.core.atomic import atomic
from morula.metrics.matching import associate
from morula.report.pictures import FALSE, FOUND, MISSED, errors_of_objects, filled, object_colour

SIDE, GAP, TEXT, EDGE = 192, 6, 16, 128
CHANNELS = 4
"""Most channels of a representation that are shown."""
PAPER, INK = (24, 26, 30), (235, 235, 235)


@dataclass(frozen=True, eq=False)
class Shown:
    """A representation of the image: its title, channels K(Z)YX, and the objects (Z)YX decoded from them."""

    title: str
    channels: np.ndarray
    labels: np.ndarray


def contact_sheet(file: Path, truth: np.ndarray, shown: Sequence[Shown]) -> Path:
    """Write a PNG: in each row the true objects, up to four channels, the objects decoded from them, and their errors.

    Of a volume the plane with most labelled voxels is shown, of a large plane a part. Objects are matched at an IoU of 0.9.
    """
    # one window for all rows, so that representations can be compared
    where = window(truth)
    columns = 3 + max((min(len(candidate.channels), CHANNELS) for candidate in shown), default=0)
    row = SIDE + TEXT + 2 * GAP
    sheet = Picture.new("RGB", (columns * (SIDE + GAP) + GAP, len(shown) * row + TEXT + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    legend = (("truth, channels, decoded; at an IoU of 0.9:", INK), ("found", FOUND), ("missed (dashed)", MISSED), ("false", FALSE))
    left = GAP
    for text, colour in legend:
        pen.text((left, GAP), text, fill=colour)
        left += round(pen.textlength(text)) + 2 * GAP
    for number, candidate in enumerate(shown):
        top = TEXT + 2 * GAP + number * row
        pen.text((GAP, top), candidate.title, fill=INK)
        for place, tile in enumerate(_tiles(truth, candidate, where)):
            sheet.paste(Picture.fromarray(tile), (GAP + place * (SIDE + GAP), top + TEXT))
    with atomic(file) as part:
        sheet.save(part, "png")
    return file


def _tiles(truth: np.ndarray, shown: Shown, where: tuple[int | slice, ...]) -> list[np.ndarray]:
    """Pictures (SIDE, SIDE, 3) of a row."""
    table = associate(truth, shown.labels, 0.9)
    hits, missed = table["predicted_id"][table["tag"] == "TP"], table["true_id"][table["tag"] == "FN"]
    partners = dict(zip(hits.tolist(), table["true_id"][table["tag"] == "TP"].tolist(), strict=True))
    true, found = _enlarged(truth[where]), _enlarged(shown.labels[where])
    # a decoded object has the colour of the true object that it matches
    colours = {label: object_colour(one) for label, one in partners.items()}
    channels = [np.repeat(_grey(_enlarged(channel[where]))[..., None], 3, axis=2) for channel in shown.channels[:CHANNELS]]
    errors = errors_of_objects(true, found, hits, missed)
    return [_on_black(filled(true, {})), *channels, _on_black(filled(found, colours)), _on_black(errors)]


def window(truth: np.ndarray) -> tuple[int | slice, ...]:
    """Index of the part (Y, X) to show: in the plane with most labelled voxels, the window with most of them.

    Examples:
        >>> labels = np.zeros((3, 200, 100))
        >>> labels[1, 150:] = 1
        >>> window(labels)
        (1, slice(72, 200, None), slice(0, 100, None))
    """
    inside = truth > 0
    plane: tuple[int, ...] = ()
    if truth.ndim == 3:
        plane = (int(np.argmax(inside.sum(axis=(1, 2)))),)
        inside = inside[plane]
    parts = []
    for axis, length in enumerate(inside.shape):
        edge = min(length, EDGE)
        # sums of all windows along this axis at once, as differences of the cumulative sum
        sums = np.concatenate([[0], np.cumsum(inside.sum(axis=1 - axis))])
        start = int(np.argmax(sums[edge:] - sums[:-edge]))
        parts.append(slice(start, start + edge))
    return (*plane, *parts)


def _enlarged(plane: np.ndarray) -> np.ndarray:
    """A plane (Y, X) in a square of SIDE pixels, by repetition; the rest is 0."""
    scale = SIDE / max(plane.shape)
    rows, columns = (np.minimum((np.arange(round(n * scale)) / scale).astype(int), n - 1) for n in plane.shape)
    square = np.zeros((SIDE, SIDE), plane.dtype)
    square[: len(rows), : len(columns)] = plane[np.ix_(rows, columns)]
    return square


def _grey(plane: np.ndarray) -> np.ndarray:
    """A channel as grey levels: 0 to 1 as they are, wider ranges scaled; with negative values 0 is the middle.

    Examples:
        >>> _grey(np.array([[-0.01, 0.0, 0.005]])).tolist()
        [[0, 127, 191]]
    """
    # not stretched to the range of the plane: an empty channel must look empty
    high = max(float(plane.max()), 1.0)
    low = 0.0
    if plane.min() < 0:
        high = float(np.abs(plane).max())
        low = -high
    return (255 * (plane - low) / (high - low)).astype(np.uint8)


def _on_black(overlay: np.ndarray) -> np.ndarray:
    """A transparent RGBA overlay on black."""
    return (overlay[..., :3].astype(np.float32) * (overlay[..., 3:] / np.float32(255))).astype(np.uint8)
