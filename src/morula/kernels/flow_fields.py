"""Unit flow fields: vectors that lead along an object to its centre, however irregular its shape.

Heat is released at the centre of an object and diffuses inside it. Its temperature falls monotonically along the object, so that the
gradient leads back to the centre from everywhere, around corners, too::

      cold . - ~ = # = ~ - . cold        #: the source, the voxel nearest to the centroid
      ->  -> -> ->   <- <- <- <-         the flow: unit vectors along the gradient

Cellpose simulates n rounds in which every voxel takes the mean of its 3 x 3 (x 3) neighbourhood, where n is large enough for the heat to
reach the whole object. n rounds are the polynomial M + M^2 + ... + M^n of the averaging operator M. The same polynomial is approximated to
rounding error by about 6 sqrt(n) Chebyshev polynomials, which have a recurrence as cheap as a round (Clenshaw's rule). Where the gradient
is so small that even this error could turn a vector, all rounds are computed.

Complexity: voxels x sqrt(diameter). After Stringer et al., Cellpose (Nature Methods 18, 2021); Trefethen, Approximation Theory and
Approximation Practice, chapters 3 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, compact_ids, read_only, to_3d
from morula.kernels.geometry import geometry

MAX_ERROR = 4e-16
"""Largest error of a temperature per round."""
MAX_TURN = 1e-6
"""Largest error of a unit vector."""


def flow_field(labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Unit vectors (ndim, (Z)YX) float32 in array order that lead to the centre of each object; 0 in the background.

    Directions are physical: differences are divided by the voxel size. Parts of an object that are not connected with its centre stay cold
    and have no direction. See the top of this file.

    Args:
        labels: ids (Z)YX.
        spacing: edge lengths of a voxel.

    Examples:
        >>> flow_field(np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], np.uint32), (1, 1))[1, 1]
        array([ 0.,  1.,  0., -1.,  0.], dtype=float32)
    """
    ids, largest = compact_ids(labels)
    table = geometry(ids, largest)
    out = np.zeros((labels.ndim, *labels.shape), np.float32)
    present, sides = table.ids, (table.stops - table.starts)[table.ids].sum(axis=1)
    # as in Cellpose: a multiple of the sides of the box and its margin, so that heat reaches every end of the object
    rounds = 2 * (sides + 4) if labels.ndim == 2 else 6 * (sides + 3)
    lead = np.zeros((len(present), 3 - labels.ndim))
    centroids = np.hstack([lead, table.centroids[present]])
    boxes = np.stack([np.hstack([lead, table.starts[present]]), np.hstack([lead + 1, table.stops[present]])], axis=-1).astype(np.int64)
    # objects with the same number of rounds share their polynomials
    for number in np.unique(rounds):
        same_rounds = rounds == number
        objects = Batch(present[same_rounds], boxes[same_rounds], centroids[same_rounds], int(number), _weights(int(number)))
        _flows(as_volume(read_only(ids)), objects, to_3d(spacing, 1.0), out if labels.ndim == 3 else out[:, None])
    return out


class Batch(NamedTuple):
    """Objects with the same number of `rounds`: their `ids` (n,), `boxes` (n, 3, 2), start <= index < stop, and `centroids` (n, 3) in
    voxels, and the `weights` of the Chebyshev polynomials."""

    ids: np.ndarray
    boxes: np.ndarray
    centroids: np.ndarray
    rounds: int
    weights: np.ndarray


@njit(cache=True, nogil=True)
def _flows(ids: np.ndarray, objects: Batch, lengths: np.ndarray, out: np.ndarray) -> None:
    """Write the unit vectors of some objects into `out` (ndim, Z, Y, X).

    All rounds are computed where the polynomials would hardly be fewer, or where a gradient is too small for their error.
    """
    rounds, weights = objects.rounds, objects.weights
    # the plain polynomial M + M^2 + ... + M^n, for Horner's rule
    ones = np.ones(rounds + 1)
    ones[0] = 0.0
    for row in range(len(objects.ids)):
        begin, end = objects.boxes[row, :, 0], objects.boxes[row, :, 1]
        mask = ids[begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]] == objects.ids[row]
        target = out[:, begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]]
        centre, least = _centre(mask, objects.centroids[row] - begin, lengths), 0.0
        # Chebyshev polynomials pay off when they are clearly fewer than the rounds
        if 4 * len(weights) < 3 * rounds:
            least = _gradient_directions(_heat(mask, centre, weights, True), mask, lengths, target) * lengths.min()
        if least <= rounds * MAX_ERROR / MAX_TURN:
            _gradient_directions(_heat(mask, centre, ones, False), mask, lengths, target)


@njit(cache=True, nogil=True)
def _centre(mask: np.ndarray, centroid: np.ndarray, lengths: np.ndarray) -> tuple[int, int, int]:
    """Voxel of an object that is nearest to its centroid; the first one among distances that are equal to a millionth."""
    best, least = (0, 0, 0), np.inf
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                if mask[z, y, x]:
                    dz, dy, dx = (z - centroid[0]) * lengths[0], (y - centroid[1]) * lengths[1], (x - centroid[2]) * lengths[2]
                    # rounded, so that ties do not depend on the rounding error of the centroid
                    away = np.rint((dz * dz + dy * dy + dx * dx) * 1e6)
                    if away < least:
                        best, least = (z, y, x), away
    return best


@lru_cache(maxsize=1024)
def _weights(rounds: int) -> np.ndarray:
    """Weights of the Chebyshev polynomials on [-1/3, 1] whose sum is x + x^2 + ... + x^rounds up to an error of `MAX_ERROR` per round.

    The mean of three voxels has eigenvalues from -1/3 to 1, those of 9 and 27 voxels are products of these, and a restriction to an object
    has none outside. So the sum of the omitted weights bounds the error.
    """
    from scipy.fft import dct

    below = 4 / 3 * np.sin(np.pi * (np.arange(rounds + 1) + 0.5) / (2 * rounds + 2)) ** 2  # 1 minus the node, exact near 1, too
    powers = np.where(below < 0.5, -np.expm1(rounds * np.log1p(-np.minimum(below, 0.5))), 1 - (1 - below) ** rounds)
    # the coefficients of the interpolant in Chebyshev nodes are a cosine transform of the values there
    weights = np.asarray(dct((1 - below) * powers / below)) / (rounds + 1)
    weights[0] /= 2
    return weights[: np.flatnonzero(np.abs(weights) > MAX_ERROR / 8 * rounds)[-1] + 1]


@njit(cache=True, nogil=True)
def _heat(mask: np.ndarray, centre: tuple[int, int, int], weights: np.ndarray, chebyshev: bool) -> np.ndarray:
    """Weighted sum of polynomials of the averaging operator, applied to the centre, by Clenshaw's rule (Horner's for plain powers).

    The result has a margin of one voxel around the mask. Means are computed axis by axis, along whole rows and planes: what wraps around at
    the end of a row falls on the margin, which stays cold. Heat moves one voxel per round, so that rows and planes that it has not reached
    are skipped.
    """
    nz, ny, nx = mask.shape
    width = nx + 2
    share = np.zeros((nz + 2, ny + 2, width))
    share[1:-1, 1:-1, 1:-1] = np.where(mask, (3 if chebyshev else 1) / (27 if nz > 1 else 9), 0.0)
    shares = share.reshape(nz + 2, -1)
    now, before = np.zeros_like(shares), np.zeros_like(shares)
    # sums along x; and along y, of the planes before, at and after one
    rows, planes = np.empty((ny + 2) * width), np.empty((3, ny * width))
    for k in range(len(weights) - 1, -1, -1):
        far = len(weights) - 1 - k
        low, high = max(centre[0] - far, 0) + 1, min(centre[0] + far, nz - 1) + 1
        begin, end = (max(centre[1] - far, 0) + 1) * width + 1, (min(centre[1] + far, ny - 1) + 2) * width - 1
        size = end - begin
        # Clenshaw's rule halves the last step, where T_1 = x instead of 2 x T_0
        factor = 1.0 if k > 0 else 0.5
        for z in range(low, high + 1) if nz == 1 else range(low - 1, high + 2):
            _sum_of_three(now[z, begin - width - 1 :], 1, rows[: size + 2 * width])
            if nz == 1:
                below, here, above = rows, rows[width:], rows[2 * width :]
                _next_polynomial(below, here, above, shares[z, begin:end], now[z, begin:end], before[z, begin:end], chebyshev, factor)
            else:
                _sum_of_three(rows, width, planes[z % 3, :size])
                if z > low:
                    below, here, above = planes[(z - 2) % 3], planes[(z - 1) % 3], planes[z % 3]
                    _next_polynomial(
                        below, here, above, shares[z - 1, begin:end], now[z - 1, begin:end], before[z - 1, begin:end], chebyshev, factor
                    )
        # the coefficient of this polynomial acts on the source alone
        before[centre[0] + 1, (centre[1] + 1) * width + centre[2] + 1] += weights[k]
        now, before = before, now
    return now.reshape(share.shape)


@njit(cache=True, nogil=True)
def _sum_of_three(values: np.ndarray, step: int, out: np.ndarray) -> None:
    """Sum of each value and those one and two steps further."""
    second, third = values[step:], values[2 * step :]
    for i in range(len(out)):
        out[i] = values[i] + second[i] + third[i]


@njit(cache=True, nogil=True)
def _next_polynomial(
    below: np.ndarray,
    here: np.ndarray,
    above: np.ndarray,
    share: np.ndarray,
    old: np.ndarray,
    out: np.ndarray,
    chebyshev: bool,
    factor: float,
) -> None:
    """The next polynomial: 2 x T_k = T_k+1 + T_k-1 with x = (3 M - 1) / 2, or a further power."""
    if chebyshev:
        for i in range(len(out)):
            out[i] = ((below[i] + here[i] + above[i]) * share[i] - old[i]) * factor - out[i]
    else:
        for i in range(len(out)):
            out[i] = (below[i] + here[i] + above[i]) * share[i]


@njit(cache=True, nogil=True)
def _gradient_directions(heat: np.ndarray, mask: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> float:
    """Unit vectors along the temperature gradient inside the mask; returns the smallest gradient above 0."""
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
                if size > 0:  # exactly 0 in parts that stay cold, and where no neighbour along an axis belongs to the object
                    least = min(least, size)
                # differences near the rounding error of the temperature have no direction
                share = 1 / size if size > 1e-12 * abs(heat[z + 1, y + 1, x + 1]) else 0.0
                if ndim == 3:
                    out[0, z, y, x] = a * share
                out[ndim - 2, z, y, x] = b * share
                out[ndim - 1, z, y, x] = c * share
    return least
