"""Renumbering of ids."""

from __future__ import annotations

import fastremap
import numpy as np
from numpy.typing import ArrayLike

from morula.core.label_image import check_labels, smallest_type


def relabel(labels: ArrayLike) -> np.ndarray:
    """Labels with ids 1..n in ascending order of the old ids, in the smallest type that holds them (uint16 at least).

    Examples:
        >>> relabel(np.array([[0, 90_000, 7]]))
        array([[0, 2, 1]], dtype=uint16)
    """
    array = check_labels(labels)
    # fastremap numbers ids in the order of their appearance; the second table sorts them
    renumbered, table = fastremap.renumber(array, preserve_zero=True, in_place=False)
    old = np.fromiter((key for key in table if key), np.int64)
    new = np.zeros(len(old) + 1, smallest_type(len(old)))
    new[np.array([int(table[int(key)]) for key in np.sort(old)], np.int64)] = np.arange(1, len(old) + 1)
    return new[renumbered]
