"""Colours that tell objects apart: each differs as much as possible from all earlier ones (Glasbey et al., 2007)."""

from __future__ import annotations

from functools import cache

import numpy as np

NUMBER = 256


@cache
def _palette() -> np.ndarray:
    from skimage.color import rgb2lab

    steps = np.linspace(0, 1, 17)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = rgb2lab(rgb)
    rgb, lab = rgb[lab[:, 0] > 35], lab[lab[:, 0] > 35]  # dark colours are lost on the black background
    # squared distance of each candidate to the nearest colour so far: black and white to begin with
    nearest = np.minimum(*(((lab - rgb2lab(np.full(3, value, float))) ** 2).sum(axis=1) for value in (0, 1)))
    chosen = []
    for _ in range(NUMBER):
        best = int(nearest.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, ((lab - lab[best]) ** 2).sum(axis=1))
    return np.rint(rgb[chosen] * 255).astype(np.uint8)


def colours_of(ids: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 of ids: black for 0; ids that are 256 apart have the same colour.

    Examples:
        >>> colours_of(np.array([0, 1, 257])).tolist()
        [[0, 0, 0], [80, 0, 255], [80, 0, 255]]
    """
    table = np.zeros((NUMBER + 1, 3), np.uint8)
    table[1:] = _palette()
    places = np.where(ids > 0, (ids.astype(np.int64) - 1) % NUMBER + 1, 0)
    return table[places]
