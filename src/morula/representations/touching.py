"""T: where objects touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from morula.core.compiled import njit
from morula.core.label_image import as_volume, read_only, rows_to_3d
from morula.representations.base import Representation
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel T."""

    kind: Literal["T"] = "T"
    """Name of the variant."""

    thickness: PositiveInt = 2
    """Thickness of the touching area in voxels of the finest axis, half of it in each object (an odd number is rounded up)."""


class Touching(Representation[Options]):
    """1 in objects near where they touch another one (corners count), 0 elsewhere.

    Two objects touch where voxels of both are neighbours. The area reaches half the thickness deep into each of them, measured between
    voxel centres under the voxel size; along every axis it is one voxel thick at least. Objects that are separated by background do not
    touch.

    Examples:
        >>> Touching().encode(np.array([[0, 1, 1, 1, 2, 2, 2]], np.uint32), (1, 1))
        array([[[0., 0., 0., 1., 1., 0., 0.]]], dtype=float32)
        >>> Touching(Options(thickness=4)).encode(np.array([[0, 1, 1, 1, 2, 2, 2]], np.uint32), (1, 1))
        array([[[0., 0., 1., 1., 1., 1., 0.]]], dtype=float32)
    """

    code = "T"
    boundary_evidence = "contact"
    inverted = True
    options_class = Options

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        return touching(labels, self.options.thickness, spacing)[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Half the thickness along each axis, and the voxel beyond it."""
        return tuple(int(reach) + 1 for reach in np.abs(_near(self.options.thickness, spacing)).max(axis=0))


def touching(labels: np.ndarray, thickness: int, spacing: Sequence[float]) -> np.ndarray:
    """Where objects touch, (Z)YX float32; see `Touching`."""
    out = np.zeros(labels.shape, np.float32)
    neighbours = np.argwhere(np.ones((3,) * labels.ndim)) - 1
    _mark(
        as_volume(read_only(labels)), rows_to_3d(neighbours[neighbours.any(axis=1)]), rows_to_3d(_near(thickness, spacing)), as_volume(out)
    )
    return out


def _near(thickness: int, spacing: Sequence[float]) -> np.ndarray:
    """Offsets (n, ndim) from a voxel on one side of a contact to those of the area on the other side."""
    half = thickness / 2
    # a voxel of a coarse axis counts no more than half the thickness, so that contacts across that axis are marked, too
    lengths = np.minimum(np.asarray(spacing) / min(spacing), max(half, 1.0))
    # half + 1: the nearest voxel on the other side is 1 away, so that a thickness of 2 marks one voxel on each side
    reach = np.ceil((half + 1) / lengths).astype(int)
    offsets = np.argwhere(np.ones(2 * reach + 1)) - reach
    distance = np.sqrt(((offsets * lengths) ** 2).sum(axis=1))
    return offsets[(distance < half + 1 - 1e-9) & (distance > 0)]


@njit(cache=True, nogil=True)
def _mark(ids: np.ndarray, neighbours: np.ndarray, near: np.ndarray, out: np.ndarray) -> None:  # noqa: C901 - loops over voxels and offsets
    nz, ny, nx = ids.shape
    others = np.zeros(len(neighbours), ids.dtype)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                label, count = ids[z, y, x], 0
                if label == 0:
                    continue
                for i in range(len(neighbours)):
                    w, v, u = z + neighbours[i, 0], y + neighbours[i, 1], x + neighbours[i, 2]
                    # every neighbouring object once; `others` has a place for each neighbour
                    if 0 <= w < nz and 0 <= v < ny and 0 <= u < nx:
                        other = ids[w, v, u]
                        if other != 0 and other != label and (count == 0 or not (others[:count] == other).any()):
                            others[count] = other
                            count += 1
                # mark the part of the other object that is near the contact
                for i in range(len(near) if count else 0):
                    w, v, u = z + near[i, 0], y + near[i, 1], x + near[i, 2]
                    if 0 <= w < nz and 0 <= v < ny and 0 <= u < nx and ids[w, v, u] != 0:
                        for k in range(count):
                            if ids[w, v, u] == others[k]:
                                out[w, v, u] = 1
