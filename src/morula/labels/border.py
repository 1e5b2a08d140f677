"""Removal of objects that touch the border of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from morula.core.errors import OptionError
from morula.core.label_image import check_labels, compact_ids
from morula.kernels.object_tables import select_objects


def clear_border(labels: ArrayLike, *, margin: int = 0, axes: Sequence[int] | None = None) -> np.ndarray:
    """Labels without the objects within `margin` voxels of the border of the image; ids and data type stay the same.

    `axes` names the axes whose borders count (all where left out): ``(-2, -1)`` keeps objects cut by the first and last z plane.

    Examples:
        >>> clear_border(np.array([[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0]], np.uint16))[1]
        array([0, 1, 0, 0], dtype=uint16)

    Raises:
        OptionError: for a negative margin.
    """
    if margin < 0:
        raise OptionError("refinement.negative", "must be 0 or more voxels", key="margin", value=margin)
    array = np.ascontiguousarray(labels)
    ids, largest = compact_ids(check_labels(array))
    kept = np.ones(largest + 1, np.bool_)
    for axis in range(ids.ndim) if axes is None else axes:
        along = np.moveaxis(ids, axis, 0)
        # every id in the first planes touches the border
        kept[np.unique(along[: margin + 1])] = False
        kept[np.unique(along[-margin - 1 :])] = False
    out = np.zeros_like(array)
    select_objects(array.ravel(), ids.ravel(), kept, out.ravel())
    return out
