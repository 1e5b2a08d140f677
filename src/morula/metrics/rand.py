"""Adapted Rand error of two label images."""

from __future__ import annotations

from typing import Any

import numpy as np

from morula.metrics.overlap import contingency


def adapted_rand_error(truth: Any, prediction: Any, *, ignore: int | None = 0) -> float:
    """One minus the F-score of the pairs of voxels that lie in one object together (SNEMI3D; https://doi.org/10.3389/fnana.2015.00142).

    0 is best and 1 worst. Equal to ``skimage.metrics.adapted_rand_error``. NaN where no pair of voxels counts.

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: label of the truth whose voxels count nowhere, the background.

    Raises:
        DataError: for differing shapes, or values that are no labels.

    Examples:
        >>> adapted_rand_error(np.array([[1, 1, 2, 2]]), np.array([[4, 4, 9, 9]]))
        0.0
        >>> round(adapted_rand_error(np.array([[1, 1, 2, 2]]), np.array([[4, 4, 4, 4]])), 3)
        0.5
    """
    pairs = contingency(truth, prediction)
    kept = np.ones(len(pairs.count), bool) if ignore is None else pairs.truth != ignore
    count = pairs.count[kept].astype(np.float64)
    together = [_pairs(count)]
    for labels in (pairs.truth[kept], pairs.prediction[kept]):
        together.append(_pairs(np.bincount(np.unique(labels, return_inverse=True)[1], weights=count)))
    both, in_truth, in_prediction = together
    total = in_truth + in_prediction
    return 1 - 2 * both / total if total else float("nan")


def _pairs(sizes: np.ndarray) -> float:
    """Ordered pairs of different voxels within groups of these sizes."""
    return float((sizes * (sizes - 1)).sum())
