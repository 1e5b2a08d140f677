r"""A fast bound on the overlap of two stars: an ellipsoid inscribed in the first one.

The ellipsoid is in the middle of the kept star and slightly larger than what another star may share with it. Another star that contains the
whole ellipsoid therefore shares too much, whatever its shape is elsewhere::

      kept star        ______
                      /  __  \        E: ellipsoid with more than the allowed overlap
                     |  (E )  |       other star contains E  ->  overlap > limit  ->  removed
                      \__--__/        other star cuts E      ->  undecided, compared exactly

A star contains the ellipsoid when it contains one point of it and its surface does not intersect it. The surface is one triangle per cone
(in 2D one edge), so that the test takes a few operations per cone. In the coordinates of the ellipsoid's axes it is the unit ball, and a
triangle is outside when all of its corners are beyond 1 along some direction. Directions that decide almost always are the normal of the
triangle and the nearest points of its edges. All bounds include what rounding to float32 may add, so that they never decide wrongly.

This decides nearly all comparisons of stars of one object. Stars are processed in lanes of 32, which the compiler turns into SIMD code.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.kernels.star_polyhedra import LANES, Lanes
from morula.kernels.star_shapes import Fan

_SPARE = 2e-6
"""Upper bound of the rounding error of a gauge in float32, relative to its summands."""
_ROUNDED = np.float32(2e-6)
"""Upper bound of the rounding error of a scalar product, relative to the squared distances."""


class Ellipsoid(NamedTuple):
    """An ellipsoid near a star's centre, middle + axes @ (unit ball), in voxels.

    `middle` (3,), from the centre; `axes` (3, 3), a lower triangle, and its inverse `inverse_axes`; `size_inside`: voxels (area in 2D) of
    the star that it contains, 0 where there is no such ellipsoid.
    """

    middle: np.ndarray
    axes: np.ndarray
    inverse_axes: np.ndarray
    size_inside: float


class LocalRays(NamedTuple):
    """Rays and cones in the coordinates of an ellipsoid.

    `rays` (rays, 3); `local_inverse` (cones, edges, 3): shares of the edges in a point;
    `spread` (cones, edges): the most that a point in the ellipsoid adds to a share.
    """

    rays: np.ndarray
    local_inverse: np.ndarray
    spread: np.ndarray


@njit(cache=True, nogil=True)
def inscribed_ellipsoid(inside: np.ndarray, corner: np.ndarray, least: float, flat: bool) -> Ellipsoid:
    """The ellipsoid of a star: shaped by the second moments of its voxels, just large enough to contain more than `least` of them.

    Args:
        inside: voxels of the star.
        corner: offset of the first voxel of that array from the star's centre.
        least: voxels (area in 2D).
        flat: whether the star is a polygon (2D); whether it contains the whole ellipse is then checked by the caller.
    """
    middle, axes, inverse_axes = np.empty(3), np.zeros((3, 3)), np.zeros((3, 3))
    _shape(inside, corner, middle, axes)
    _invert(axes, inverse_axes)
    if flat:
        # an ellipse's area is pi times its half axes; slightly enlarged, so that rounding cannot make it too small
        radius = math.sqrt(least / (math.pi * axes[1, 1] * axes[2, 2])) * (1 + 1e-4) + 1e-5 * max(inverse_axes[1, 1], inverse_axes[2, 2])
        size_inside = least * (1 + 1e-4)
    else:
        radius, size_inside = _radius(inside, corner, middle, inverse_axes, least)
    return Ellipsoid(middle, axes * radius, inverse_axes / radius, size_inside)


@njit(cache=True, nogil=True)
def _shape(inside: np.ndarray, corner: np.ndarray, middle: np.ndarray, axes: np.ndarray) -> None:
    """Centroid of voxels, and the Cholesky factor of their covariance. 1/12 is the variance of a voxel itself, so that no axis is 0."""
    count, first, second = 0, np.zeros(3), np.zeros((3, 3))
    place = np.empty(3)
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for x in range(inside.shape[2]):
                if inside[z, y, x]:
                    count += 1
                    place[0], place[1], place[2] = z + corner[0], y + corner[1], x + corner[2]
                    for i in range(3):
                        first[i] += place[i]
                        for j in range(i + 1):
                            second[i, j] += place[i] * place[j]
    # the ellipsoid of the second moments is the unit ball in coordinates of the Cholesky factor; a triangle is quick to invert
    for i in range(3):
        middle[i] = first[i] / count
        for j in range(i + 1):
            left = second[i, j] / count - middle[i] * middle[j] + (1 / 12 if i == j else 0.0)
            for k in range(j):
                left -= axes[i, k] * axes[j, k]
            axes[i, j] = math.sqrt(left) if i == j else left / axes[j, j]


@njit(cache=True, nogil=True)
def _invert(axes: np.ndarray, inverse_axes: np.ndarray) -> None:
    for i in range(3):
        inverse_axes[i, i] = 1 / axes[i, i]
        for j in range(i):
            total = 0.0
            for k in range(j, i):
                total += axes[i, k] * inverse_axes[k, j]
            inverse_axes[i, j] = -total / axes[i, i]


@njit(cache=True, nogil=True)
def _radius(inside: np.ndarray, corner: np.ndarray, middle: np.ndarray, inverse_axes: np.ndarray, least: float) -> tuple[float, float]:
    """Scale at which the ellipsoid contains more than `least` voxels, and their number; 0 where the star has fewer."""
    far, number = np.empty(inside.size), 0
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for x in range(inside.shape[2]):
                if inside[z, y, x]:
                    dz, dy, dx = z + corner[0] - middle[0], y + corner[1] - middle[1], x + corner[2] - middle[2]
                    u, v, w = (
                        inverse_axes[0, 0] * dz,
                        inverse_axes[1, 0] * dz + inverse_axes[1, 1] * dy,
                        inverse_axes[2, 0] * dz + inverse_axes[2, 1] * dy + inverse_axes[2, 2] * dx,
                    )
                    far[number] = u * u + v * v + w * w
                    number += 1
    # the smallest whole number above `least`: the distance of that voxel. Sorting takes longer than selection, but Numba compiles it faster
    limit = math.floor(least) + 1
    if limit > number:
        return 1.0, 0.0
    return math.sqrt(np.sort(far[:number])[limit - 1]) * (1 + 1e-6) + 1e-6, float(limit)


@njit(cache=True, nogil=True)
def local_rays(ellipsoid: Ellipsoid, fan: Fan) -> LocalRays:
    """Rays and cones in the coordinates of an ellipsoid."""
    axes, inverse_axes = ellipsoid.axes, ellipsoid.inverse_axes
    rays = np.zeros((len(fan.ray_steps), 3), np.float32)
    for ray in range(len(rays)):
        for axis in range(3):
            step = 0.0
            for k in range(axis + 1):
                step += inverse_axes[axis, k] * fan.ray_steps[ray, k]
            rays[ray, axis] = step
    cones, edges = fan.cones.shape
    local_inverse, spread = np.zeros((cones, edges, 3), np.float32), np.zeros((cones, edges), np.float32)
    for cone in range(cones):
        for edge in range(edges):
            total = 0.0
            for axis in range(3):
                share = 0.0
                for k in range(axis, 3):
                    share += fan.inverse[cone, edge, k] * axes[k, axis]
                local_inverse[cone, edge, axis] = share
                total += share * share
            # the largest value of a linear function on the unit ball is the length of its gradient; rounded up
            spread[cone, edge] = math.sqrt(total) * 1.00001
    return LocalRays(rays, local_inverse, spread)


@njit(cache=True, nogil=True, error_model="numpy")
def find_intersections(ellipsoid: Ellipsoid, local: LocalRays, fan: Fan, lanes: Lanes) -> None:
    """Set `intersects` of each lane to 0 where the surface of its star does not intersect an ellipsoid.

    Where such a star contains one point of the ellipsoid, it contains all of it. See the top of this file.

    Args:
        ellipsoid: the ellipsoid.
        local: from `local_rays`.
        fan: the rays.
        lanes: `lengths`, `inverse_lengths` and `offset` are read; `offset` leads from the centres of the lanes' stars to that of the
            ellipsoid's star.
    """
    placement, intersects, corners = lanes.placement, lanes.intersects, lanes.corners
    _placement(ellipsoid, lanes.offset, placement)
    for ray in range(len(corners)):
        rz, ry, rx = local.rays[ray, 0], local.rays[ray, 1], local.rays[ray, 2]
        lengths, inverse_lengths, corner = lanes.lengths[ray], lanes.inverse_lengths[ray], corners[ray]
        for lane in range(LANES):
            length = np.float32(lengths[lane])
            z, y, x = rz * length - placement[lane], ry * length - placement[LANES + lane], rx * length - placement[2 * LANES + lane]
            corner[lane], corner[LANES + lane], corner[2 * LANES + lane] = z, y, x
            # squares and inverse lengths are computed once per ray, not once per cone that the ray bounds
            corner[3 * LANES + lane], corner[4 * LANES + lane] = z * z + y * y + x * x, np.float32(inverse_lengths[lane])
    intersects[:] = 0
    if fan.cones.shape[1] == 3:
        _triangles(local, fan, lanes)
    else:
        _lines(local, fan, lanes)


@njit(cache=True, nogil=True, error_model="numpy")
def _triangles(local: LocalRays, fan: Fan, lanes: Lanes) -> None:
    """Mark the lanes in which a triangle may intersect the ball; the planes of the triangles exclude most of them for all lanes at once."""
    placement, intersects, undecided = lanes.placement, lanes.intersects, lanes.undecided
    zero, one = np.float32(0), np.float32(1)
    for cone in range(len(fan.cones)):
        edges, local_inverse = fan.cones[cone], local.local_inverse[cone]
        a, b, c = lanes.corners[edges[0]], lanes.corners[edges[1]], lanes.corners[edges[2]]
        (az, ay, ax), (bz, by, bx), (cz, cy, cx) = _row(local_inverse[0]), _row(local_inverse[1]), _row(local_inverse[2])
        aw, bw, cw = _row(local.spread[cone])
        for lane in range(LANES):
            i, j, k, m, n = lane, LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            spare = placement[m] * (aw * a[n] + bw * b[n] + cw * c[n])
            hz, hy, hx = az * a[n] + bz * b[n] + cz * c[n], ay * a[n] + by * b[n] + cy * c[n], ax * a[n] + bx * b[n] + cx * c[n]
            # distance of the plane from the middle, times the length of its normal, minus what rounding may add
            gap = one - (hz * placement[i] + hy * placement[j] + hx * placement[k]) - spare
            clear = (gap > zero) & (gap * gap > hz * hz + hy * hy + hx * hx)
            undecided[lane] = zero if clear else one - intersects[lane]
        # a reduction after the loop instead of an exit from it: branches would prevent SIMD
        left = zero
        for lane in range(LANES):
            left = max(left, undecided[lane])
        if left == 0:
            continue
        for lane in range(LANES):
            i, j, k, m, n = lane, LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            radius = one + placement[n] * (placement[m] * (aw * a[n] + bw * b[n] + cw * c[n]) + _ROUNDED)
            aa, bb, cc = a[m], b[m], c[m]
            ab, bc = a[i] * b[i] + a[j] * b[j] + a[k] * b[k], b[i] * c[i] + b[j] * c[j] + b[k] * c[k]
            ca = c[i] * a[i] + c[j] * a[j] + c[k] * a[k]
            most = aa if aa > bb else bb
            error, square = _ROUNDED * (most if most > cc else cc), radius * radius
            clear = _beyond(aa, ab, bb, ca, bc, error, square)
            clear |= _beyond(bb, bc, cc, ab, ca, error, square)
            clear |= _beyond(cc, ca, aa, bc, ab, error, square)
            intersects[lane] += zero if clear else undecided[lane]


@njit(cache=True, nogil=True, error_model="numpy")
def _lines(local: LocalRays, fan: Fan, lanes: Lanes) -> None:
    """Mark the lanes in which an edge between two corners may intersect the ball."""
    placement, intersects, one = lanes.placement, lanes.intersects, np.float32(1)
    for cone in range(len(fan.cones)):
        a, b = lanes.corners[fan.cones[cone, 0]], lanes.corners[fan.cones[cone, 1]]
        aw, bw = local.spread[cone, 0], local.spread[cone, 1]
        for lane in range(LANES):
            j, k, m, n = LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            aa, bb, ab = a[m], b[m], a[j] * b[j] + a[k] * b[k]
            radius = one + placement[n] * (placement[m] * (aw * a[n] + bw * b[n]) + _ROUNDED)
            clear = _beyond(aa, ab, bb, aa, ab, _ROUNDED * (aa if aa > bb else bb), radius * radius)
            intersects[lane] = intersects[lane] if clear else one


@njit(cache=True, nogil=True, error_model="numpy")
def _beyond(pp: float, pq: float, qq: float, rp: float, qr: float, error: float, square: float) -> np.bool:
    """Whether three points P, Q and R, given by their scalar products, are beyond a ball of this squared radius.

    The direction is that of the point on the edge from P to Q that is nearest to the middle of the ball.
    """
    zero, one, least = np.float32(0), np.float32(1), np.float32(1e-30)
    before, after = pp - pq, qq - pq
    length = before + after
    # a triangle with an edge of length 0 must not divide by 0
    share = before / (length if length > least else least)
    share = share if share > zero else zero
    share = share if share < one else one
    p, q, r = pp - share * before, pq + share * after, rp + share * (qr - rp)
    lowest = p if p < q else q
    lowest = (lowest if lowest < r else r) - error
    # lowest / |direction| > radius, squared: no root is needed
    return (lowest > zero) & (lowest * lowest > square * (p + share * (q - p) + error))


@njit(cache=True, nogil=True)
def _placement(ellipsoid: Ellipsoid, offset: np.ndarray, placement: np.ndarray) -> None:
    """Position of the ellipsoid as seen from the star of each lane, one quantity after the other.

    Offset of the middle in the ellipsoid's coordinates (three numbers); bound of the rounding error of a gauge per unit of its growth; and
    how much of that shows in a distance.
    """
    inverse_axes, middle = ellipsoid.inverse_axes, ellipsoid.middle
    across, along = math.sqrt((inverse_axes * inverse_axes).sum()), math.sqrt((ellipsoid.axes * ellipsoid.axes).sum())
    for lane in range(LANES):
        z, y, x = offset[0, lane] + middle[0], offset[1, lane] + middle[1], offset[2, lane] + middle[2]
        dz, dy, dx = (
            inverse_axes[0, 0] * z,
            inverse_axes[1, 0] * z + inverse_axes[1, 1] * y,
            inverse_axes[2, 0] * z + inverse_axes[2, 1] * y + inverse_axes[2, 2] * x,
        )
        far = 1 + math.sqrt(dz * dz + dy * dy + dx * dx)
        placement[lane], placement[LANES + lane], placement[2 * LANES + lane] = dz, dy, dx
        placement[3 * LANES + lane] = _SPARE * (across * (math.sqrt(z * z + y * y + x * x) + along) + 5 * far)
        placement[4 * LANES + lane] = 2 * far


@njit(cache=True, nogil=True)
def _row(values: np.ndarray) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
