"""Directions of rays, and how far each voxel's object reaches along them."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
from numba import njit

from morula.labels.check import three, volume


def directions(count: int, ndim: int) -> np.ndarray:
    """Unit vectors (count, ndim) in array order: evenly spaced angles from +x towards +y in 2D, a Fibonacci sphere in 3D.

    After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020), StarDist.

    Examples:
        >>> directions(4, 2)
        array([[ 0.,  1.],
               [ 1.,  0.],
               [ 0., -1.],
               [-1.,  0.]])
    """
    k = np.arange(count)
    if ndim == 2:
        angle = 2 * np.pi * k / count
        rays = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    else:
        z = 1 - 2 * (k + 0.5) / count
        angle = 2 * np.pi * k / ((1 + np.sqrt(5)) / 2)
        across = np.sqrt(1 - z * z)
        rays = np.stack([z, across * np.sin(angle), across * np.cos(angle)], axis=1)
    # rounded, so that rays that mirror each other do so to the last digit
    return np.round(rays, 9) + 0.0


def ray_lengths(labels: np.ndarray, count: int, spacing: Sequence[float], scale: float = 1.0) -> np.ndarray:
    """Distance from each voxel to the end of its object along each ray, (count, (Z)YX) float32; 0 in the background.

    From a voxel's centre the ray is followed in steps of one voxel (of the finest axis it runs along) until it leaves the object or the
    image; the end is taken half a voxel before the first voxel outside. Lengths are in units of `spacing`, divided by `scale`.

    Args:
        labels: (Z)YX uint32, compact.
        count: number of rays, see `directions`.
        spacing: edge lengths of a voxel; rays point in physical directions.
        scale: length that stands for 1.

    Examples:
        >>> ray_lengths(np.array([[0, 1, 1, 1, 0]], np.uint32), 2, (1, 1))[:, 0]
        array([[0. , 2.5, 1.5, 0.5, 0. ],
               [0. , 0.5, 1.5, 2.5, 0. ]], dtype=float32)
    """
    ids = volume(labels)
    padded = np.zeros(tuple(n + 2 for n in ids.shape), labels.dtype)
    padded[1:-1, 1:-1, 1:-1] = ids
    # a ball of this many voxels around each voxel lies in its object: no ray ends there
    free = np.zeros(padded.shape, np.uint8)
    inside = np.floor(edt.edt(padded, black_border=True, parallel=2)[1:-1, 1:-1, 1:-1] - 0.9)
    free[1:-1, 1:-1, 1:-1] = np.clip(inside, 0, 255)
    out = np.zeros((count, *labels.shape), np.float32)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    lengths = three(spacing, 1.0)
    for ray, target in zip(directions(count, labels.ndim), out, strict=True):
        step = three(ray, 0.0) / lengths
        step /= np.sqrt((step * step).sum())
        way = np.rint(np.arange(sum(padded.shape))[:, None] * step).astype(np.int64)
        unit = float(np.sqrt(((step * lengths) ** 2).sum())) / scale
        back = 1 - 0.5 / np.abs(step).max()
        _follow(padded.ravel(), free.ravel(), way @ strides, np.float32(unit), np.float32(back), volume(target))
    return out


@njit(cache=True, nogil=True)
def _follow(ids: np.ndarray, free: np.ndarray, way: np.ndarray, unit: np.float32, back: np.float32, out: np.ndarray) -> None:
    """Distances along one ray, whose voxels lie at the places `way` from the first one in the padded image."""
    nz, ny, nx = out.shape
    for z in range(nz):
        for y in range(ny):
            row = ((z + 1) * (ny + 2) + y + 1) * (nx + 2) + 1
            for x in range(nx):
                here = row + x
                label = ids[here]
                if label != 0:
                    k = np.int64(free[here]) + 1
                    while ids[here + way[k]] == label:
                        k += 1
                    out[z, y, x] = (np.float32(k) - back) * unit
