"""Boundaries of objects: voxels with a neighbour of another id.

One pass over the voxels; each compares its neighbours, so that the cost is linear and needs no memory beyond the result.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import OptionError
from morula.core.label_image import as_volume, check_labels, read_only

Mode = Literal["thick", "inner", "outer", "subpixel", "dense"]


def boundaries(labels: np.ndarray, mode: Mode = "thick", connectivity: int = 1) -> np.ndarray:
    """Boundary of every object, (Z)YX float32.

    * ``thick``: voxels with a neighbour of another id; one voxel on each side.
    * ``inner``: the ones inside objects.
    * ``outer``: the ones in the background, and both sides where two objects touch (corners count).
    * ``subpixel``: the boundary runs between voxels; the value is the share of the voxel that a line one voxel wide covers:
      0.5 beside a boundary, 0.75 in a corner, 1 where it runs on both sides.
    * ``dense``: the rim of the background around objects, so that densely packed objects keep all their voxels.

    The first three equal ``skimage.segmentation.find_boundaries``. The border of the image is no boundary. `connectivity` says which voxels
    are neighbours: 1 those that share a face, 2 also an edge, 3 also a corner; the last two modes take faces only.

    Examples:
        >>> boundaries(np.array([[0, 0, 1, 1, 2, 2]]), "inner")
        array([[0., 0., 1., 1., 1., 0.]], dtype=float32)

    Raises:
        OptionError: for another mode.
        DataError: for labels that are not whole, non-negative ids.
    """
    if mode not in get_args(Mode):
        raise OptionError("option.choice", f"must be one of {', '.join(get_args(Mode))}", key="mode", value=mode)
    labels = check_labels(labels)
    out = np.zeros(labels.shape, np.float32)
    ids, result = as_volume(read_only(labels)), as_volume(out)
    if mode == "subpixel":
        _subpixel(ids, result)
        return out
    if connectivity == 1 or mode == "dense":
        _faces(ids, mode != "dense", mode != "inner", result)
    else:
        _neighbours(ids, connectivity, mode != "inner", result)
    if mode == "outer":
        _leave_outer(ids, result)
    return out


@njit(cache=True, nogil=True)
def _faces(ids: np.ndarray, in_objects: bool, in_background: bool, out: np.ndarray) -> None:
    """1 where a face neighbour has another id."""
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = ids[z, y, x]
                if (here == 0 and not in_background) or (here != 0 and not in_objects):
                    continue
                if (
                    (x > 0 and ids[z, y, x - 1] != here)
                    or (x + 1 < nx and ids[z, y, x + 1] != here)
                    or (y > 0 and ids[z, y - 1, x] != here)
                    or (y + 1 < ny and ids[z, y + 1, x] != here)
                    or (z > 0 and ids[z - 1, y, x] != here)
                    or (z + 1 < nz and ids[z + 1, y, x] != here)
                ):
                    out[z, y, x] = 1


@njit(cache=True, nogil=True)
def _neighbours(ids: np.ndarray, connectivity: int, in_background: bool, out: np.ndarray) -> None:
    """1 where a neighbour that shares a face or an edge (3: or a corner) has another id; `_faces` is several times as fast."""
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = ids[z, y, x]
                if here == 0 and not in_background:
                    continue
                for w in range(max(z - 1, 0), min(z + 2, nz)):
                    for v in range(max(y - 1, 0), min(y + 2, ny)):
                        for u in range(max(x - 1, 0), min(x + 2, nx)):
                            if abs(w - z) + abs(v - y) + abs(u - x) <= connectivity and ids[w, v, u] != here:
                                out[z, y, x] = 1


@njit(cache=True, nogil=True)
def _leave_outer(ids: np.ndarray, out: np.ndarray) -> None:
    """Of a thick boundary, leave the background and the voxels of objects that touch another one."""
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = ids[z, y, x]
                if here == 0 or out[z, y, x] == 0:
                    continue
                touching = False
                for w in range(max(z - 1, 0), min(z + 2, nz)):
                    for v in range(max(y - 1, 0), min(y + 2, ny)):
                        for u in range(max(x - 1, 0), min(x + 2, nx)):
                            other = ids[w, v, u]
                            touching = touching or (other != 0 and other != here)
                # an inner voxel stays only beside another object: a boundary to the background runs outside
                if not touching:
                    out[z, y, x] = 0


@njit(cache=True, nogil=True)
def _subpixel(ids: np.ndarray, out: np.ndarray) -> None:
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = ids[z, y, x]
                free = np.float32(1)
                # each axis leaves a share of the voxel uncovered; the product is what no line covers
                free *= 1 - np.float32(0.5) * ((x > 0 and ids[z, y, x - 1] != here) + (x + 1 < nx and ids[z, y, x + 1] != here))
                free *= 1 - np.float32(0.5) * ((y > 0 and ids[z, y - 1, x] != here) + (y + 1 < ny and ids[z, y + 1, x] != here))
                free *= 1 - np.float32(0.5) * ((z > 0 and ids[z - 1, y, x] != here) + (z + 1 < nz and ids[z + 1, y, x] != here))
                out[z, y, x] = 1 - free
