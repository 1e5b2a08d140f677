"""Images at another scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rescaled(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An image C(Z)YX at another size, float32: smoothed where it shrinks, so that no detail is aliased, and interpolated linearly.

    Args:
        array: image C(Z)YX.
        shape: its new spatial shape (Z)YX.

    Examples:
        >>> rescaled(np.array([[[0, 4]]], np.uint8), (1, 4)).round(2)
        array([[[0., 1., 3., 4.]]], dtype=float32)
        >>> rescaled(np.full((1, 9, 9), 7), (3, 3))[0, 1]
        array([7., 7., 7.], dtype=float32)
    """
    from scipy import ndimage

    factors = [m / n for m, n in zip(shape, array.shape[1:], strict=True)]
    sigmas = smoothing(factors)
    result = np.empty((len(array), *shape), np.float32)
    for channel, values in enumerate(array):
        smooth = ndimage.gaussian_filter(values.astype(np.float32), sigmas, mode="mirror") if any(sigmas) else values.astype(np.float32)
        ndimage.zoom(smooth, factors, output=result[channel], order=1, mode="nearest", grid_mode=True)
    return result


def smoothing(factors: Sequence[float]) -> list[float]:
    """Standard deviations that remove what a coarser grid cannot hold."""
    return [max(0.0, (1 / factor - 1) / 2) for factor in factors]
