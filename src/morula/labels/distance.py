"""Distance of each voxel to the end of its object."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
from numba import njit


def distance(labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Euclidean distance (in units of `spacing`) to the nearest voxel of another id or the background; 0 in the background.

    The image's border is no end, except for an object that fills the whole image: there it is the only one.

    Examples:
        >>> distance(np.array([[0, 1, 1, 1, 2, 2]], np.uint32), (1, 1))
        array([[0., 1., 2., 1., 1., 2.]], dtype=float32)
    """
    alone = bool(labels.flat[0]) and bool((labels == labels.flat[0]).all())
    return edt.edt(labels, anisotropy=tuple(spacing), black_border=alone, parallel=2)


def normalise(values: np.ndarray, labels: np.ndarray, largest: int, constant: float) -> np.ndarray:
    """Values of each object scaled to [0, 1] by its own smallest and largest; an object with one value alone gets `constant`.

    `values` float32 and compact `labels` of one shape; 0 in the background.
    """
    out = np.empty_like(values)
    _normalise(values.ravel(), labels.ravel(), largest, np.float32(constant), out.ravel())
    return out


@njit(cache=True, nogil=True)
def _normalise(values: np.ndarray, ids: np.ndarray, largest: int, constant: np.float32, out: np.ndarray) -> None:
    low = np.full(largest + 1, np.float32(np.inf))
    high = np.full(largest + 1, np.float32(-np.inf))
    for i in range(ids.size):
        label = ids[i]
        if label != 0:
            low[label] = min(low[label], values[i])
            high[label] = max(high[label], values[i])
    scale = np.zeros(largest + 1, np.float32)
    for label in range(1, largest + 1):
        if high[label] > low[label]:
            scale[label] = high[label] - low[label]
    for i in range(ids.size):
        label = ids[i]
        if label == 0:
            out[i] = 0
        elif scale[label] == 0:
            out[i] = constant
        else:
            out[i] = (values[i] - low[label]) / scale[label]
