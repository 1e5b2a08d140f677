"""Pairs of objects that touch."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.typed import Dict


@njit(cache=True, nogil=True)
def contacts(ids: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: C901 - loops
    """Pairs of objects that touch (first < second), and the area of their border projected along z, y and x, (n, 3)."""
    nz, ny, nx = ids.shape
    found = Dict.empty(types.uint64, types.int64)
    areas = np.zeros((64, 3))
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = np.uint64(ids[z, y, x])
                if here == 0:
                    continue
                for axis in range(3):
                    w, v, u = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                    if w < nz and v < ny and u < nx:
                        other = np.uint64(ids[w, v, u])
                        # projected areas per axis, not a sum: their norm is the area of an oblique border, which voxel faces overestimate
                        if other != 0 and other != here:
                            key = (min(here, other) << np.uint64(32)) | max(here, other)
                            if key not in found:
                                found[key] = len(found)
                                if len(found) > len(areas):
                                    areas = np.concatenate((areas, np.zeros_like(areas)))
                            areas[found[key], axis] += faces[axis]
    first, second = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
    for key, i in found.items():
        first[i], second[i] = key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)
    return first, second, areas[: len(found)]
