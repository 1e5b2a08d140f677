"""Unit flow fields: the way that heat from the centre of each object takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import njit

from morula.labels.check import compact, three, volume
from morula.labels.geometry import geometry

SLIP = 4e-16
"""How far a temperature may be off, for each round."""
TURN = 1e-6
"""How far a unit vector may be off."""


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
        vectors = out[(slice(None), *box)]
        _vectors(volume(mask), centre, rounds, lengths, vectors if labels.ndim == 3 else vectors[:, None])
    return out


def _vectors(mask: np.ndarray, centre: np.ndarray, rounds: int, lengths: np.ndarray, out: np.ndarray) -> None:
    """Write the unit vectors of one object, mask and centre in ZYX, into `out` (ndim, Z, Y, X).

    With M for taking means, n rounds make M + M^2 + ... + M^n of the warmed centre. The same polynomial is a sum of far fewer of
    Chebyshev's, and no temperature is then off by more than `SLIP` a round. Where a difference of temperatures is so small that this
    could turn a vector, all rounds are gone, as they are where that is hardly more work.
    """
    weights = _weights(rounds)
    if 2 * len(weights) < rounds:
        if _climb(_heat(mask, centre, weights, True), mask, lengths, out) * lengths.min() > rounds * SLIP / TURN:
            return
        out[:, mask] = 0
    _climb(_heat(mask, centre, np.minimum(np.arange(rounds + 1.0), 1), False), mask, lengths, out)


@lru_cache(maxsize=1024)
def _weights(rounds: int) -> np.ndarray:
    """Weights of the first Chebyshev polynomials on [-1/3, 1] whose sum is x + x^2 + ... + x^rounds but for `SLIP` a round.

    A mean of three voxels has eigenvalues from -1/3 to 1, those of 9 and 27 voxels have their products, and taking means within an object
    alone has none beyond. So the weights left out bound what is missing; about six times the root of the rounds are left (Trefethen,
    Approximation Theory and Approximation Practice, chapters 3 and 8).
    """
    from scipy.fft import dct

    below = 4 / 3 * np.sin(np.pi * (np.arange(rounds + 1) + 0.5) / (2 * rounds + 2)) ** 2  # 1 less the node, exact also near 1
    powers = np.where(below < 0.5, -np.expm1(rounds * np.log1p(-np.minimum(below, 0.5))), 1 - (1 - below) ** rounds)
    weights = np.asarray(dct((1 - below) * powers / below)) / (rounds + 1)
    weights[0] /= 2
    return weights[: np.flatnonzero(np.abs(weights) > SLIP / 8 * rounds)[-1] + 1]


@njit(cache=True, nogil=True)
def _heat(mask: np.ndarray, centre: np.ndarray, weights: np.ndarray, chebyshev: bool) -> np.ndarray:
    """Sum of weighted polynomials of the operator that takes means, at the warmed centre, by Clenshaw's (or Horner's) rule; with a margin
    of one voxel around the mask.

    The mean over 27 voxels is taken axis by axis, along whole planes: what wraps around at the end of a row falls on the margin, which
    stays cold.
    """
    nz, ny, nx = mask.shape
    width = nx + 2
    size = ny * width - 2  # from the first voxel of a plane that is not margin to the last
    share = np.zeros((nz + 2, ny + 2, width))
    share[1:-1, 1:-1, 1:-1] = np.where(mask, (3 if chebyshev else 1) / (27 if nz > 1 else 9), 0.0)
    shares = share.reshape(nz + 2, -1)
    now, before = np.zeros_like(shares), np.zeros_like(shares)
    rows, planes = np.zeros(size + 2 * width), np.zeros((3, size))  # the planes before, at and after one
    first, last = width + 1, width + 1 + size
    for k in range(len(weights) - 1, -1, -1):
        planes[0] = 0.0
        for z in range(1, nz + 2):
            _sum_of_three(now[z], 1, rows)
            _sum_of_three(rows, width, planes[z % 3])
            if z > 1:
                below, here, above = planes[(z - 2) % 3], planes[(z - 1) % 3], planes[z % 3]
                part, old, target = shares[z - 1, first:last], now[z - 1, first:last], before[z - 1, first:last]
                if not chebyshev:
                    for i in range(size):
                        target[i] = (below[i] + here[i] + above[i]) * part[i]
                else:  # 2 x T_k = T_k+1 + T_k-1 with x = (3 M - 1) / 2
                    factor = 1.0 if k > 0 else 0.5
                    for i in range(size):
                        below[i] = (below[i] + here[i] + above[i]) * part[i] - old[i]
                    for i in range(size):
                        target[i] = below[i] * factor - target[i]
        before[centre[0] + 1, (centre[1] + 1) * width + centre[2] + 1] += weights[k]
        now, before = before, now
    return now.copy().reshape(share.shape)


@njit(cache=True, nogil=True)
def _sum_of_three(values: np.ndarray, step: int, out: np.ndarray) -> None:
    """Each value with those one and two steps on."""
    second, third = values[step:], values[2 * step :]
    for i in range(len(out)):
        out[i] = values[i] + second[i] + third[i]


@njit(cache=True, nogil=True)
def _climb(heat: np.ndarray, mask: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> float:
    """Unit vectors up the temperature, where the mask is; and the length of the shortest before it was made one."""
    nz, ny, nx = mask.shape
    least = np.inf
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
                least = min(least, size)
                if size > 1e-12 * heat[z + 1, y + 1, x + 1]:
                    if ndim == 3:
                        out[0, z, y, x] = a / size
                    out[ndim - 2, z, y, x] = b / size
                    out[ndim - 1, z, y, x] = c / size
    return least
