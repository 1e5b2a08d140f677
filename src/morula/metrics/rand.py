"""Adapted Rand error of two label images."""

from __future__ import annotations

from morula.core.image_like import ImageLike
from morula.metrics.partition import PartitionAgreement


def adapted_rand_error(truth: ImageLike, prediction: ImageLike, *, ignore: int | None = 0) -> float:
    """One minus the F-score of the pairs of voxels that are in the same object (SNEMI3D; https://doi.org/10.3389/fnana.2015.00142).

    0 is best and 1 worst. Equal to ``skimage.metrics.adapted_rand_error``. NaN where no pair of voxels is evaluated.

    Args:
        truth: integer label image (Z)YX, array or `Image`.
        prediction: likewise, of the same shape.
        ignore: true label whose voxels are not evaluated, by default the background.

    Raises:
        DataError: for different shapes, or values that are not labels.

    Examples:
        >>> import numpy as np
        >>> adapted_rand_error(np.array([[1, 1, 2, 2]]), np.array([[4, 4, 9, 9]]))
        0.0
        >>> round(adapted_rand_error(np.array([[1, 1, 2, 2]]), np.array([[4, 4, 4, 4]])), 3)
        0.5
    """
    return PartitionAgreement.of(truth, prediction, ignore=ignore).adapted_rand_error
