"""Differences between two images of continuous values: squared and absolute error, PSNR, structural similarity."""

from __future__ import annotations

from math import inf, log10, prod

import numpy as np
from scipy.ndimage import uniform_filter

from morula.core.errors import DataError, OptionError


def _check_shapes(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raise for images of different shapes, or without voxels."""
    if truth.shape != prediction.shape or not truth.size:
        raise DataError("metric.shapes", f"the truth has the shape {truth.shape} but the prediction {prediction.shape}")


def _check_range(width: float) -> None:
    """Raise for a range of values that is not positive."""
    if width <= 0:
        remedy = "Give data_range where the true image is constant."
        raise OptionError("metric.data_range", "must be positive", key="data_range", value=width, remedy=remedy)


def mean_squared_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean of the squared differences, in float64.

    Raises:
        DataError: for different shapes, or images without voxels.

    Examples:
        >>> mean_squared_error(np.zeros((2, 2)), np.full((2, 2), 3.0))
        9.0
    """
    _check_shapes(truth, prediction)
    return float(np.square(np.asarray(truth, np.float64) - prediction).mean())


def peak_signal_noise_ratio(truth: np.ndarray, prediction: np.ndarray, *, data_range: float | None = None) -> float:
    """Peak signal-to-noise ratio: 10 log10(data range² / mean squared error), in decibels; infinite for equal images.

    Args:
        truth: image of any shape.
        prediction: of the same shape.
        data_range: width of the range of values; by default the difference between the maximum and the minimum of the truth.

    Raises:
        DataError: when the shapes differ.
        OptionError: for a range that is not positive.

    Examples:
        >>> round(peak_signal_noise_ratio(np.array([0.0, 1.0]), np.array([0.1, 0.9])), 6)
        20.0
    """
    error = mean_squared_error(truth, prediction)
    width = float(np.ptp(truth)) if data_range is None else data_range
    if not error:
        return inf
    _check_range(width)
    return 10 * log10(width**2 / error)


def mean_absolute_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean of the absolute differences, in float64.

    Raises:
        DataError: for different shapes, or images without voxels.

    Examples:
        >>> mean_absolute_error(np.zeros((2, 2)), np.full((2, 2), -3.0))
        3.0
    """
    _check_shapes(truth, prediction)
    return float(np.abs(np.asarray(truth, np.float64) - prediction).mean())


def structural_similarity(truth: np.ndarray, prediction: np.ndarray, *, data_range: float | None = None, window: int = 7) -> float:
    """Mean structural similarity of two images without channels (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861).

    Args:
        truth: (Z)YX image.
        prediction: of the same shape.
        data_range: width of the range of values; by default the difference between the maximum and the minimum of the truth.
        window: edge of the window in voxels, odd; shortened along axes that are shorter.

    Raises:
        DataError: when the shapes differ.
        OptionError: for a range that is not positive, or an even window.

    Examples:
        >>> image = np.arange(81.0).reshape(9, 9)
        >>> structural_similarity(image, image)
        1.0
    """
    _check_shapes(truth, prediction)
    if window % 2 == 0:
        raise OptionError("metric.window", "must be odd", key="window", value=window, remedy=f"Use {window + 1}.")
    width = float(np.ptp(truth)) if data_range is None else data_range
    _check_range(width)
    x, y = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    edges = [min(window, n - (n + 1) % 2) for n in x.shape]  # odd, so that every window has a voxel at its centre
    mean_x, mean_y = uniform_filter(x, edges), uniform_filter(y, edges)
    # n / (n - 1): covariances of a sample, as `skimage.metrics.structural_similarity` computes them by default
    sample = prod(edges) / max(1, prod(edges) - 1)
    var_x = sample * (uniform_filter(x * x, edges) - mean_x**2)
    var_y = sample * (uniform_filter(y * y, edges) - mean_y**2)
    both = sample * (uniform_filter(x * y, edges) - mean_x * mean_y)
    # K1 = 0.01 and K2 = 0.03 of the paper keep windows without contrast from a division by 0
    a, b = (0.01 * width) ** 2, (0.03 * width) ** 2
    similar = (2 * mean_x * mean_y + a) * (2 * both + b) / ((mean_x**2 + mean_y**2 + a) * (var_x + var_y + b))
    # only windows that are inside the image count: at the border the filter repeats voxels
    inner = tuple(slice(edge // 2, n - edge // 2) for edge, n in zip(edges, x.shape, strict=True))
    return float(similar[inner].mean())
