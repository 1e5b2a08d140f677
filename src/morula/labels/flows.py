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
def _heat(mask: np.ndarray, centre: np.ndarray, rounds: int) -> np.ndarray:
    """Temperature, with a margin of one voxel around the mask. The mean over 27 voxels is taken axis by axis, along whole planes: what
    wraps around at the end of a row falls on the margin, which stays cold."""
    nz, ny, nx = mask.shape
    width = nx + 2
    size = ny * width - 2  # from the first voxel of a plane that is not margin to the last
    heat, weight = np.zeros((nz + 2, ny + 2, width)), np.zeros((nz + 2, ny + 2, width))
    weight[1:-1, 1:-1, 1:-1] = np.where(mask, 1 / 27 if nz > 1 else 1 / 9, 0.0)
    flat, weights = heat.reshape(nz + 2, -1), weight.reshape(nz + 2, -1)
    rows, planes = np.zeros(size + 2 * width), np.zeros((3, size))  # the planes before, at and after one
    for _ in range(rounds):
        heat[centre[0] + 1, centre[1] + 1, centre[2] + 1] += 1
        planes[0] = 0.0
        for z in range(1, nz + 2):
            _sum_of_three(flat[z], 1, rows)
            _sum_of_three(rows, width, planes[z % 3])
            if z > 1:
                below, here, above = planes[(z - 2) % 3], planes[(z - 1) % 3], planes[z % 3]
                share, target = weights[z - 1, width + 1 : width + 1 + size], flat[z - 1, width + 1 : width + 1 + size]
                for i in range(size):
                    target[i] = (below[i] + here[i] + above[i]) * share[i]
    return heat


@njit(cache=True, nogil=True)
def _sum_of_three(values: np.ndarray, step: int, out: np.ndarray) -> None:
    """Each value with those one and two steps on."""
    second, third = values[step:], values[2 * step :]
    for i in range(len(out)):
        out[i] = values[i] + second[i] + third[i]


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
