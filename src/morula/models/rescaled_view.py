"""Lazy views of images at another scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from morula.core.image import Image
from morula.inference.rescale import smoothing
from morula.io.lazy import LazyArray, Opened


class Rescaled(LazyArray):
    """Lazy view C(Z)YX of an image at another size: boxes have the values of `rescaled`, those of labels the values of `nearest`.

    Only the part of the image that a box depends on is read, so that a large image need not be in memory at its new size.

    Args:
        image: the image.
        shape: its new spatial shape (Z)YX.
        labels: whether each voxel takes the value of the nearest one, and the type stays.

    Examples:
        >>> image = Image(np.array([[0, 4]], np.uint8), "YX")
        >>> Rescaled(image, (1, 4))[0, 0].round(2), Rescaled(image, (1, 4), labels=True)[0, 0]
        (array([0., 1., 3., 4.], dtype=float32), array([0, 0, 4, 4], dtype=uint8))
    """

    def __init__(self, image: Image, shape: Sequence[int], *, labels: bool = False) -> None:
        super().__init__((image.n_channels, *shape), image.dtype if labels else np.float32)
        self.image, self.labels = image, labels
        self.factors = [m / n for m, n in zip(shape, image.spatial_shape, strict=True)]

    def _open(self) -> Opened:
        return self.image.lazy(), lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        wanted = [np.arange(*part.indices(n)) for part, n in zip(box, self.shape, strict=True)]
        if not all(len(places) for places in wanted):
            return np.empty([len(places) for places in wanted], self.dtype)
        sigmas = [0.0] * len(self.factors) if self.labels else smoothing(self.factors)
        parts, places = list(box[:1]), list[np.ndarray]()
        for chosen, m, sigma, n in zip(wanted[1:], self.shape[1:], sigmas, self.image.spatial_shape, strict=True):
            centres = np.clip((chosen + 0.5) * n / m - (0.0 if self.labels else 0.5), 0, n - 1)
            reach = math.ceil(4 * sigma) + 1  # the filter ends at four standard deviations
            first = max(0, int(centres.min()) - reach)
            parts.append(slice(first, min(n, int(centres.max()) + reach + 1)))
            places.append(centres - first)
        values = self.image.lazy()[tuple(parts)]
        if self.labels:
            for axis, along in enumerate(places, start=1):
                values = values.take(along.astype(np.intp), axis)
            return values
        return _interpolated(_smoothed(values.astype(np.float32), sigmas), places)


def _smoothed(values: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(values, [0.0, *sigmas], mode="mirror") if any(sigmas) else values


def _interpolated(values: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Linear interpolation of C(Z)YX at places along each axis, which lie inside."""
    for axis, along in enumerate(places, start=1):
        low = along.astype(np.intp)
        weight = (along - low).astype(np.float32).reshape([-1 if at == axis else 1 for at in range(values.ndim)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return values
