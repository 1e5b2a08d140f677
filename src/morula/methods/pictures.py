"""Helpers for the pictures that methods draw while a network trains."""

from __future__ import annotations

import numpy as np


def stretched(plane: np.ndarray) -> np.ndarray:
    """A plane stretched to [0, 1] between its 1st and 99.8th percentile, for pictures.

    Examples:
        >>> stretched(np.zeros((2, 2))).max()
        np.float32(0.0)
    """
    # the extremes of a microscopy image are noise and a few hot pixels
    low, high = np.percentile(plane, (1, 99.8))
    return np.clip((plane - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)


def middle_plane(volume: np.ndarray) -> np.ndarray:
    """The (Y, X) plane in the middle of a (Z)YX array."""
    return volume if volume.ndim == 2 else volume[volume.shape[0] // 2]
