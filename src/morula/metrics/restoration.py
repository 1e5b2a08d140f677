"""How near an image of continuous values is to the true one."""

from __future__ import annotations

from math import inf, log10

import numpy as np

from morula.core.errors import DataError, OptionError


def mean_squared_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean of the squared differences, in float64.

    Raises:
        DataError: when the shapes differ or there is nothing to compare.

    Examples:
        >>> mean_squared_error(np.zeros((2, 2)), np.full((2, 2), 3.0))
        9.0
    """
    if truth.shape != prediction.shape or not truth.size:
        raise DataError(f"the truth has shape {truth.shape} and the prediction {prediction.shape}. They must be of the same image.")
    return float(np.square(np.asarray(truth, np.float64) - prediction).mean())


def peak_signal_noise_ratio(truth: np.ndarray, prediction: np.ndarray, *, data_range: float | None = None) -> float:
    """Logarithm of data range² over mean squared error, in decibels; infinite for equal images.

    Args:
        truth: image of any shape.
        prediction: of the same shape.
        data_range: width of the range of values; without, that between the truth's smallest and greatest value.

    Raises:
        DataError: when the shapes differ.
        OptionError: for a range that is not above 0.

    Examples:
        >>> round(peak_signal_noise_ratio(np.array([0.0, 1.0]), np.array([0.1, 0.9])), 6)
        20.0
    """
    error = mean_squared_error(truth, prediction)
    width = float(np.ptp(truth)) if data_range is None else data_range
    if not error:
        return inf
    if width <= 0:
        raise OptionError(f"the data range is {width}; it is above 0. Give data_range where the true image is constant.")
    return 10 * log10(width**2 / error)
