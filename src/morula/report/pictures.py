"""Planes of images with labels drawn on them, as ``data:`` addresses."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from PIL import Image as Picture

Colour: TypeAlias = tuple[int, int, int]

# Okabe & Ito (2008), brightened for grey images: distinguishable with every kind of colour vision. Missed objects are dashed as well.
FOUND: Colour = (32, 214, 150)
MISSED: Colour = (255, 110, 46)
FALSE: Colour = (92, 184, 255)
CONFUSED: Colour = (240, 228, 66)
CHANNEL_COLOURS: tuple[Colour, ...] = ((0, 255, 0), (255, 0, 255), (0, 200, 255), (255, 220, 0))


def data_uri(array: np.ndarray, *, lossless: bool) -> str:
    """WebP of a picture (Y, X, 3 or 4) uint8 as a ``data:`` address.

    Examples:
        >>> data_uri(np.zeros((2, 2, 3), np.uint8), lossless=True)[:23]
        'data:image/webp;base64,'
    """
    # WebP: half the size of PNG for overlays, and every browser of the last years shows it
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, "webp", lossless=lossless, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def planes_shown(n: int, most: int) -> list[int]:
    """Up to `most` plane numbers of a stack of `n`, evenly spaced, the ends included.

    Examples:
        >>> planes_shown(5, 24), planes_shown(101, 5)
        ([0, 1, 2, 3, 4], [0, 25, 50, 75, 100])
    """
    return sorted({round(float(z)) for z in np.linspace(0, n - 1, min(n, most))})


def to_rgb(stack: np.ndarray) -> np.ndarray:
    """Planes CZYX of any type as ZYX3 uint8, each channel stretched from its 1st to its 99.8th percentile.

    One channel is grey, three channels of bytes are red, green and blue as they are, others get a colour each and add up.

    Examples:
        >>> to_rgb(np.zeros((2, 4, 8, 9))).shape
        (4, 8, 9, 3)
    """
    if len(stack) == 3 and stack.dtype == np.uint8:
        return np.moveaxis(stack, 0, -1)
    total = np.zeros((*stack.shape[1:], 3), np.float32)
    for channel, values in enumerate(stack):
        colour = (255, 255, 255) if len(stack) == 1 else CHANNEL_COLOURS[channel % len(CHANNEL_COLOURS)]
        total += stretched(values)[..., None] * np.asarray(colour, np.float32)
    return np.clip(total, 0, 255).astype(np.uint8)


def stretched(values: np.ndarray) -> np.ndarray:
    """Values scaled to [0, 1] between their 1st and 99.8th percentile; images that are mostly dark are brightened (gamma 0.7)."""
    finite = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    # percentiles of a sample: of a whole volume they would take longer than the rest of the report
    sample = finite.ravel()[:: max(1, finite.size // 2_000_000)]
    low, high = np.percentile(sample, (1, 99.8))
    scaled = np.clip((finite - low) / max(high - low, 1e-12), 0, 1)
    return scaled**0.7 if (np.median(sample) - low) < 0.25 * (high - low) else scaled


def resize(plane: np.ndarray, side: int, *, smooth: bool, enlarge: bool = True) -> np.ndarray:
    """A plane (Y, X[, 3]) whose longer edge is about `side`: whole multiples up by repetition (with `enlarge`), whole fractions down.

    `smooth` averages when it shrinks (images); otherwise every n-th value is taken (labels).

    Examples:
        >>> resize(np.eye(100), 300, smooth=True).shape, resize(np.eye(100), 50, smooth=False).shape
        ((300, 300), (50, 50))
    """
    longest = max(plane.shape[:2])
    if longest * 2 <= side and enlarge:
        factor = side // longest
        return plane.repeat(factor, axis=0).repeat(factor, axis=1)
    step = max(1, -(-longest // side))
    if step == 1:
        return plane
    cut = plane[: plane.shape[0] // step * step or None, : plane.shape[1] // step * step or None]
    if not smooth:
        return cut[min(step, cut.shape[0]) // 2 :: step, min(step, cut.shape[1]) // 2 :: step]
    sums: np.ndarray = cut.astype(np.float32)
    for axis in (0, 1):
        starts = np.arange(0, cut.shape[axis], step)
        lengths = np.diff(np.append(starts, cut.shape[axis]))
        shape = [-1 if number == axis else 1 for number in range(cut.ndim)]
        sums = np.add.reduceat(sums, starts, axis=axis) / lengths.reshape(shape)
    return sums.astype(plane.dtype)


def edges(labels: np.ndarray, thickness: int = 2) -> np.ndarray:
    """Pixels inside objects whose neighbour at up to `thickness` pixels above, below or beside is another label.

    Examples:
        >>> edges(np.array([[0, 5, 5, 5, 5, 0]]), thickness=1).astype(int)
        array([[0, 1, 0, 0, 1, 0]])
    """
    found = np.zeros(labels.shape, bool)
    for step in range(1, thickness + 1):
        for axis in (0, 1):
            one = labels.take(range(step, labels.shape[axis]), axis) if labels.shape[axis] > step else None
            if one is None:
                continue
            other = labels.take(range(labels.shape[axis] - step), axis)
            near = [slice(None), slice(None)]
            far = [slice(None), slice(None)]
            near[axis], far[axis] = slice(0, -step), slice(step, None)
            found[tuple(near)] |= one != other
            found[tuple(far)] |= one != other
    return found & (labels > 0)


def object_colour(label: int) -> Colour:
    """A bright colour per label, neighbouring numbers far apart on the colour circle.

    Examples:
        >>> object_colour(1) != object_colour(2)
        True
    """
    # multiples of the golden ratio fall evenly on the circle, and consecutive ones far apart
    hue = (label * 0.618033988749895) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.62 + 0.08 * (label % 2), 0.75)
    return (round(255 * red), round(255 * green), round(255 * blue))


def filled(labels: np.ndarray, colours: Mapping[int, Colour], *, thickness: int = 2) -> np.ndarray:
    """Labels (Y, X) as a transparent RGBA overlay: a light fill and a solid outline in each label's colour."""
    values, inverse = np.unique(labels, return_inverse=True)
    table = np.array([(*colours.get(int(value), object_colour(int(value))), 80) if value else (0, 0, 0, 0) for value in values], np.uint8)
    overlay = table[inverse.reshape(labels.shape)]
    overlay[edges(labels, thickness), 3] = 255
    return overlay


def errors_of_objects(
    truth: np.ndarray, prediction: np.ndarray, found: np.ndarray, missed: np.ndarray, *, thickness: int = 2
) -> np.ndarray:
    """Outlines (Y, X) as RGBA: predicted objects whose ids are in `found`, other predicted ones as false, true ones in `missed` dashed."""
    overlay = np.zeros((*truth.shape, 4), np.uint8)
    # dashes along diagonals, so that outlines of every direction are dashed
    rows, columns = np.indices(truth.shape)
    dashes = (rows + columns) // 4 % 3 < 2
    outline = edges(prediction, thickness)
    good = np.isin(prediction, found)
    overlay[outline & good] = (*FOUND, 255)
    overlay[outline & ~good] = (*FALSE, 255)
    overlay[edges(truth, thickness) & np.isin(truth, missed) & dashes] = (*MISSED, 255)
    return overlay


def errors_of_classes(truth: np.ndarray, prediction: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """Fills (Y, X) as RGBA: right, missed, false and confused class, background that is right left out."""
    overlay = np.zeros((*truth.shape, 4), np.uint8)
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    right = (truth == prediction) & (truth > 0)
    for where, colour, alpha in (
        (right, FOUND, 90),
        ((truth > 0) & (prediction == 0), MISSED, 190),
        ((truth == 0) & (prediction > 0), FALSE, 190),
        ((truth > 0) & (prediction > 0) & ~right, CONFUSED, 190),
    ):
        overlay[where & counted] = (*colour, alpha)
    return overlay
