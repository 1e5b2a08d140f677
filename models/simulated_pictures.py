"""Simulated images for the pictures of the cards."""

from __future__ import annotations

import numpy as np

from morula.testing.simulate import simulate
from morula.testing.varied import varied_volume

SHAPE = (256, 256)


def fluorescence() -> np.ndarray:
    """Bright nuclei on a dark background, CYX."""
    return np.asarray(simulate("nuclei", shape=SHAPE, n_objects=55, rng=np.random.default_rng(3)).image)[None]


def stained() -> np.ndarray:
    """Purple nuclei on a pale background, CYX uint8."""
    grey = fluorescence()[0].astype(np.float64)
    low, high = np.percentile(grey, [1, 99.8])
    share = np.clip((grey - low) / (high - low), 0, 1)
    pale, purple = np.array([232, 214, 236.0]), np.array([80, 40, 130.0])
    colours = pale + share[..., None] * (purple - pale)
    return np.moveaxis(colours, -1, 0).round().astype(np.uint8)


def volume() -> np.ndarray:
    """A volume of nuclei as the 3D model is trained on, CZYX."""
    return np.asarray(varied_volume(14, (40, 128, 128), np.random.default_rng((1, 7))).image)[None]
