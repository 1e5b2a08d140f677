"""Filling of holes in objects."""

from __future__ import annotations

import fill_voids
import numpy as np
from numpy.typing import ArrayLike

from morula.core.label_image import check_labels, compact_ids
from morula.kernels.geometry import geometry


def fill_holes(labels: ArrayLike, *, only: np.ndarray | None = None) -> np.ndarray:
    """Labels without holes: background that is enclosed by one object becomes part of it; other objects inside it stay.

    A hole is background from which no path across faces leads out (in 3D cavities, not tunnels). Ids and data type stay the same. With
    `only`, just these ids are filled.

    Examples:
        >>> fill_holes(np.array([[5, 5, 5], [5, 0, 5], [5, 5, 5]], np.uint16))
        array([[5, 5, 5],
               [5, 5, 5],
               [5, 5, 5]], dtype=uint16)
    """
    array = np.ascontiguousarray(labels)
    ids, largest = compact_ids(check_labels(array))
    found = geometry(ids, largest)
    out = array.copy()
    boxes = np.prod(found.stops - found.starts, axis=1, where=found.sizes[:, None] > 0)
    for label in found.ids[boxes[found.ids] > found.sizes[found.ids]]:  # an object as large as its box has no hole
        # only the box of an object is filled, not the whole image
        box = found.box(label)
        mask = ids[box] == label
        name = array[box][mask][0]
        if only is not None and name not in only:
            continue
        filled, added = fill_voids.fill(mask, in_place=False, return_fill_count=True)
        if added:
            out[box][(filled != 0) & (ids[box] == 0)] = name
    return out
