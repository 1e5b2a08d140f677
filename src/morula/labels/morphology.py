"""Erosion and dilation by ellipsoids, of masks and of each object separately.

An ellipsoid is a ball under a scaled distance, so that a dilation is a threshold of the distance transform: the cost does not depend on the
radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import NonNegativeInt

from morula.core.compiled import njit
from morula.core.errors import OptionError
from morula.core.label_image import as_volume, rows_to_3d
from morula.labels.distance import distance

Radius = NonNegativeInt | tuple[NonNegativeInt, ...]
"""Voxels of the finest axis, or one number per axis."""

_Spacing = Annotated[Sequence[float], "(ndim,)"]
_ROUNDING = 1e-4  # distances are float32 sums of squares; a voxel exactly at the radius counts as reached
CONTESTED = np.uint32(2**32 - 1)


def radii(radius: Radius, spacing: _Spacing) -> tuple[int, ...]:
    """Radius of an ellipsoid along each axis, in voxels.

    A single number counts voxels of the finest axis; other axes get the number with the same length, but at least one, so that an erosion
    separates touching objects along every axis. One number per axis is used unchanged.

    Examples:
        >>> radii(2, (1.75, 0.8, 0.8)), radii((0, 3, 3), (1, 1, 1)), radii(0, (1, 1))
        ((1, 2, 2), (0, 3, 3), (0, 0))

    Raises:
        OptionError: for another number of radii than axes.
    """
    if isinstance(radius, int):
        finest = min(spacing)
        return tuple(max(1, round(radius * finest / length)) if radius else 0 for length in spacing)
    if len(radius) != len(spacing):
        raise OptionError(
            "option.axis_count",
            f"must be one number or {len(spacing)} numbers, one per axis of the image",
            key="radius",
            value=list(radius),
            remedy="Give one number for all axes.",
        )
    return tuple(radius)


def ellipsoid(radius: Sequence[int]) -> np.ndarray:
    """Footprint with these radii: true where ``sum((i / r)**2) <= 1``, 2r+1 voxels along each axis.

    Examples:
        >>> ellipsoid((1, 2)).astype(int)
        array([[0, 0, 1, 0, 0],
               [1, 1, 1, 1, 1],
               [0, 0, 1, 0, 0]])
    """
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in radius)]
    return np.asarray(sum((axis / max(r, 1)) ** 2 for axis, r in zip(axes, radius, strict=True)) <= 1 + _ROUNDING)


def _scale(radius: Sequence[int]) -> tuple[float, ...]:
    """Spacing under which the ellipsoid is the unit ball; an axis of radius 0 is never crossed."""
    return tuple(1 / r if r else 1e4 for r in radius)


def erode(labels: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    """Erode each object by an ellipsoid, as if it were alone: voxels that are too close to another id or to the background become 0.

    Touching objects are separated. The outside of the image counts as inside. `labels` (Z)YX, or a mask; the type is kept.

    Examples:
        >>> erode(np.array([[1, 1, 1, 2, 2, 2]], np.uint32), (1, 1))
        array([[1, 1, 0, 0, 2, 2]], dtype=uint32)
    """
    if not any(radius):
        return labels
    # beyond the limit distances need not be known, so that the transform can stop there
    depth = distance(labels, _scale(radius), limit=1 + 2 * _ROUNDING)
    return np.where(depth > 1 + _ROUNDING, labels, labels.dtype.type(0))


def dilate_mask(mask: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    """A mask dilated by an ellipsoid."""
    if not any(radius) or not mask.any():
        return mask
    return distance(~mask, _scale(radius), limit=1 + 2 * _ROUNDING) <= 1 + _ROUNDING


def dilate(labels: np.ndarray, radius: Sequence[int], *, contested: int = 0) -> np.ndarray:
    """Dilate each object into the background by an ellipsoid; objects never overwrite each other.

    A voxel in range of several objects gets the nearest one (measured in radii). A voxel that is equally near to two becomes `contested`,
    so that the result depends neither on the ids nor on the orientation of the image.

    Examples:
        >>> dilate(np.array([[1, 0, 0, 0, 2]], np.uint32), (2, 2))
        array([[1, 1, 0, 2, 2]], dtype=uint32)
    """
    if not any(radius):
        return labels
    reach = np.argwhere(ellipsoid(radius)) - np.asarray(radius)
    lengths = np.sqrt(((reach / np.maximum(radius, 1)) ** 2).sum(axis=1)).astype(np.float32)
    offsets = rows_to_3d(reach)
    order = np.argsort(lengths, kind="stable")
    out = labels.copy()
    _dilate(as_volume(labels), offsets[order], lengths[order], labels.dtype.type(contested), as_volume(out))
    return out


@njit(cache=True, nogil=True)
def _dilate(ids: np.ndarray, offsets: np.ndarray, distance: np.ndarray, contested: int, out: np.ndarray) -> None:
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if ids[z, y, x] != 0:
                    continue
                nearest, reach = out[z, y, x], np.float32(np.inf)
                for i in range(len(offsets)):
                    # offsets are sorted by length: all further ones lose against the nearest object
                    if distance[i] > reach + np.float32(1e-5):
                        break
                    w, v, u = z + offsets[i, 0], y + offsets[i, 1], x + offsets[i, 2]
                    if w < 0 or v < 0 or u < 0 or w >= nz or v >= ny or u >= nx or ids[w, v, u] == 0:
                        continue
                    if nearest == 0:
                        nearest, reach = ids[w, v, u], distance[i]
                    elif ids[w, v, u] != nearest:
                        nearest = contested
                        break
                out[z, y, x] = nearest


@njit(cache=True, nogil=True)
def stamp(ids: np.ndarray, marks: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """Set `out` to 1 at every offset from every mark that is in the same object as the mark. 3D arrays; marks and offsets (n, 3)."""
    nz, ny, nx = ids.shape
    for i in range(len(marks)):
        label = ids[marks[i, 0], marks[i, 1], marks[i, 2]]
        for j in range(len(offsets)):
            z, y, x = marks[i, 0] + offsets[j, 0], marks[i, 1] + offsets[j, 1], marks[i, 2] + offsets[j, 2]
            if 0 <= z < nz and 0 <= y < ny and 0 <= x < nx and ids[z, y, x] == label:
                out[z, y, x] = 1
