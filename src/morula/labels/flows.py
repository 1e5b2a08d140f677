"""Unit flow fields: the way that heat from the centre of each object takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from morula.labels.check import compact, three, volume
from morula.labels.geometry import geometry


def flow_field(labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Unit vectors (ndim, (Z)YX) float32 in array order that point up the temperature in each object; 0 in the background.

    Heat flows from the object's centre (its voxel nearest to the centroid) for so many rounds as it takes to reach the whole object: in
    each round the centre is warmed by 1 and every voxel takes the mean of its neighbourhood of 3 voxels a side, outside counting 0.
    Directions are physical ones: differences are divided by the voxel size. Pieces of an object that do not touch the one with the centre
    stay cold and have no direction. After Stringer et al., Cellpose (Nature Methods 18, 2021).

    Examples:
        >>> flow_field(np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], np.uint32), (1, 1))[1, 1]
        array([ 0.,  1.,  0., -1.,  0.], dtype=float32)
    """
    ids, largest = compact(labels)
    found = geometry(ids, largest)
    out = np.zeros((labels.ndim, *labels.shape), np.float32)
    lengths = three(spacing, 1.0)
    for label in found.ids:
        box = found.box(label)
        mask = ids[box] == label
        inside = np.argwhere(mask)
        away = (((inside - (found.centroids[label] - found.starts[label])) * spacing) ** 2).sum(axis=1)
        centre = three(inside[int(np.round(away, 6).argmin())], 0).astype(np.int64)
        rounds = 2 * (sum(mask.shape) + 4) if labels.ndim == 2 else 6 * (sum(mask.shape) + 3)
        heat = _heat(volume(mask), centre, rounds)
        vectors = out[(slice(None), *box)]
        _climb(heat, volume(mask), lengths, vectors if labels.ndim == 3 else vectors[:, None])
    return out


@njit(cache=True, nogil=True)
def _heat(mask: np.ndarray, centre: np.ndarray, rounds: int) -> np.ndarray:  # noqa: C901 - the mean over 27 voxels, axis by axis
    """Temperature, with a margin of one voxel around the mask."""
    nz, ny, nx = mask.shape
    heat = np.zeros((nz + 2, ny + 2, nx + 2))
    weight = np.zeros((nz, ny, nx))
    share = 1 / 27 if nz > 1 else 1 / 9
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                weight[z, y, x] = share if mask[z, y, x] else 0.0
    rows, planes = np.zeros((nz + 2, ny + 2, nx)), np.zeros((nz + 2, ny, nx))
    for _ in range(rounds):
        heat[centre[0] + 1, centre[1] + 1, centre[2] + 1] += 1
        for z in range(1, nz + 1):
            for y in range(1, ny + 1):
                source, target = heat[z, y], rows[z, y]
                for x in range(nx):
                    target[x] = source[x] + source[x + 1] + source[x + 2]
            for y in range(ny):
                a, b, c, target = rows[z, y], rows[z, y + 1], rows[z, y + 2], planes[z, y]
                for x in range(nx):
                    target[x] = a[x] + b[x] + c[x]
        for z in range(nz):
            for y in range(ny):
                a, b, c, w, target = planes[z, y], planes[z + 1, y], planes[z + 2, y], weight[z, y], heat[z + 1, y + 1]
                for x in range(nx):
                    target[x + 1] = (a[x] + b[x] + c[x]) * w[x]
    return heat


@njit(cache=True, nogil=True)
def _climb(heat: np.ndarray, mask: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Unit vectors up the temperature, where the mask is."""
    nz, ny, nx = mask.shape
    ndim = out.shape[0]
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if not mask[z, y, x]:
                    continue
                a = (heat[z + 2, y + 1, x + 1] - heat[z, y + 1, x + 1]) / lengths[0] if ndim == 3 else 0.0
                b = (heat[z + 1, y + 2, x + 1] - heat[z + 1, y, x + 1]) / lengths[1]
                c = (heat[z + 1, y + 1, x + 2] - heat[z + 1, y + 1, x]) / lengths[2]
                size = np.sqrt(a * a + b * b + c * c)
                if size > 1e-12 * heat[z + 1, y + 1, x + 1]:
                    if ndim == 3:
                        out[0, z, y, x] = a / size
                    out[ndim - 2, z, y, x] = b / size
                    out[ndim - 1, z, y, x] = c / size
