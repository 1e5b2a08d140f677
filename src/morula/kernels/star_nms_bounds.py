"""The heart of a star: an ellipsoid in its middle, as large as what another star may share with it, and a little larger.

A star in which the whole heart lies shares too much, whatever it looks like elsewhere. It does where it holds one place of the heart and
its surface, a triangle in each cone, stays out of the heart. This decides nearly all comparisons of stars of one object, for a few
operations a cone; what it does not decide is compared exactly (see `morula.kernels.star_nms`). In 2D hearts are ellipses.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from morula.kernels.star_polyhedra import LANES, Lanes
from morula.kernels.star_shapes import Fan

_SPARE = 2e-6
"""More than what rounding in float32 adds to a gauge, in parts of its summands."""
_ROUNDED = np.float32(2e-6)
"""More than what it adds to a product of two places, in parts of the squares of their distances."""


class Heart(NamedTuple):
    """An ellipsoid around a star's centre, middle + axes @ (unit ball), in voxels.

    `middle` (3,), from the centre; `axes` (3, 3), a lower triangle, and its inverse `back`; `held`: voxels (area in 2D) of the star that it
    holds, 0 where there is none.
    """

    middle: np.ndarray
    axes: np.ndarray
    back: np.ndarray
    held: float


class View(NamedTuple):
    """Rays and cones in units of a heart's axes: `rays` (rays, 3); `turned` (cones, edges, 3): shares of the edges in a place; `wide`
    (cones, edges): the most that a place in the heart adds to a share."""

    rays: np.ndarray
    turned: np.ndarray
    wide: np.ndarray


@njit(cache=True, nogil=True)
def heart_of(inside: np.ndarray, corner: np.ndarray, least: float, flat: bool) -> Heart:
    """The heart of a star, shaped by the moments of its voxels, with more than `least` of it inside.

    Args:
        inside: voxels of the star.
        corner: place of the first of them from the star's centre.
        least: voxels (area in 2D).
        flat: whether the star is a polygon; whether that holds the heart wholly remains to be seen then.
    """
    middle, axes, back = np.empty(3), np.zeros((3, 3)), np.zeros((3, 3))
    _shape(inside, corner, middle, axes)
    _invert(axes, back)
    if flat:
        radius = math.sqrt(least / (math.pi * axes[1, 1] * axes[2, 2])) * (1 + 1e-4) + 1e-5 * max(back[1, 1], back[2, 2])
        held = least * (1 + 1e-4)
    else:
        radius, held = _radius(inside, corner, middle, back, least)
    return Heart(middle, axes * radius, back / radius, held)


@njit(cache=True, nogil=True)
def _shape(inside: np.ndarray, corner: np.ndarray, middle: np.ndarray, axes: np.ndarray) -> None:
    """Centroid of voxels and the root of their covariance, a lower triangle; each voxel's own extent counts, so that none is flat."""
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
    middle[:] = first / count
    for i in range(3):
        for j in range(i + 1):
            left = second[i, j] / count - middle[i] * middle[j] + (1 / 12 if i == j else 0.0)
            for k in range(j):
                left -= axes[i, k] * axes[j, k]
            axes[i, j] = math.sqrt(left) if i == j else left / axes[j, j]


@njit(cache=True, nogil=True)
def _invert(axes: np.ndarray, back: np.ndarray) -> None:
    for i in range(3):
        back[i, i] = 1 / axes[i, i]
        for j in range(i):
            total = 0.0
            for k in range(j, i):
                total += axes[i, k] * back[k, j]
            back[i, j] = -total / axes[i, i]


@njit(cache=True, nogil=True)
def _radius(inside: np.ndarray, corner: np.ndarray, middle: np.ndarray, back: np.ndarray, least: float) -> tuple[float, float]:
    """How large the ellipsoid must be to hold more than `least` of the voxels, and how many those are; none where there are not so many."""
    far, number = np.empty(inside.size), 0
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for x in range(inside.shape[2]):
                if inside[z, y, x]:
                    dz, dy, dx = z + corner[0] - middle[0], y + corner[1] - middle[1], x + corner[2] - middle[2]
                    u, v, w = back[0, 0] * dz, back[1, 0] * dz + back[1, 1] * dy, back[2, 0] * dz + back[2, 1] * dy + back[2, 2] * dx
                    far[number] = u * u + v * v + w * w
                    number += 1
    wanted = math.floor(least) + 1
    if wanted > number:
        return 1.0, 0.0
    return math.sqrt(np.partition(far[:number], wanted - 1)[wanted - 1]) * (1 + 1e-6) + 1e-6, float(wanted)


@njit(cache=True, nogil=True)
def view_of(heart: Heart, fan: Fan) -> View:
    """How the rays and cones look in units of a heart's axes."""
    axes, back = heart.axes, heart.back
    rays = np.zeros((len(fan.ways), 3), np.float32)
    for ray in range(len(rays)):
        for axis in range(3):
            step = 0.0
            for k in range(axis + 1):
                step += back[axis, k] * fan.ways[ray, k]
            rays[ray, axis] = step
    cones, edges = fan.cones.shape
    turned, wide = np.zeros((cones, edges, 3), np.float32), np.zeros((cones, edges), np.float32)
    for cone in range(cones):
        for edge in range(edges):
            total = 0.0
            for axis in range(3):
                share = 0.0
                for k in range(axis, 3):
                    share += fan.inverse[cone, edge, k] * axes[k, axis]
                turned[cone, edge, axis] = share
                total += share * share
            wide[cone, edge] = math.sqrt(total) * 1.00001
    return View(rays, turned, wide)


@njit(cache=True, nogil=True, error_model="numpy")
def hold(heart: Heart, view: View, fan: Fan, lanes: Lanes) -> None:
    """Tell which stars in the lanes have no part of their surface in a heart: those whose `lacks` is 0. Where such a star holds one place
    of the heart, it holds all.

    In units of the heart's axes each cone's triangle (in 2D: line) has to be farther than 1 from the middle. It is where all of its
    corners lie beyond 1 along some direction: that of its plane, or of the place nearest to the middle on one of its sides.

    Args:
        heart: the heart.
        view: from `view_of`.
        fan: the rays.
        lanes: `ends` and `near` are read, and `away`, the centre of the heart's star from those in the lanes.
    """
    stand, lacks, corners = lanes.stand, lanes.lacks, lanes.corners
    _stand(heart, lanes.away, stand)
    for ray in range(len(corners)):
        rz, ry, rx = view.rays[ray, 0], view.rays[ray, 1], view.rays[ray, 2]
        ends, near, corner = lanes.ends[ray], lanes.near[ray], corners[ray]
        for lane in range(LANES):
            length = np.float32(ends[lane])
            z, y, x = rz * length - stand[lane], ry * length - stand[LANES + lane], rx * length - stand[2 * LANES + lane]
            corner[lane], corner[LANES + lane], corner[2 * LANES + lane] = z, y, x
            corner[3 * LANES + lane], corner[4 * LANES + lane] = z * z + y * y + x * x, np.float32(near[lane])
    lacks[:] = 0
    if fan.cones.shape[1] == 3:
        _triangles(view, fan, lanes)
    else:
        _lines(view, fan, lanes)


@njit(cache=True, nogil=True, error_model="numpy")
def _triangles(view: View, fan: Fan, lanes: Lanes) -> None:
    """Note the lanes in which a triangle comes too near. Planes tell of most that they do not, in all lanes."""
    stand, lacks, open = lanes.stand, lanes.lacks, lanes.open
    zero, one = np.float32(0), np.float32(1)
    for cone in range(len(fan.cones)):
        edges, turned = fan.cones[cone], view.turned[cone]
        a, b, c = lanes.corners[edges[0]], lanes.corners[edges[1]], lanes.corners[edges[2]]
        (az, ay, ax), (bz, by, bx), (cz, cy, cx) = _row(turned[0]), _row(turned[1]), _row(turned[2])
        aw, bw, cw = _row(view.wide[cone])
        for lane in range(LANES):
            i, j, k, m, n = lane, LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            spare = stand[m] * (aw * a[n] + bw * b[n] + cw * c[n])
            hz, hy, hx = az * a[n] + bz * b[n] + cz * c[n], ay * a[n] + by * b[n] + cy * c[n], ax * a[n] + bx * b[n] + cx * c[n]
            gap = one - (hz * stand[i] + hy * stand[j] + hx * stand[k]) - spare
            clear = (gap > zero) & (gap * gap > hz * hz + hy * hy + hx * hx)
            open[lane] = zero if clear else one - lacks[lane]
        left = zero
        for lane in range(LANES):
            left = max(left, open[lane])
        if left == 0:
            continue
        for lane in range(LANES):
            i, j, k, m, n = lane, LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            radius = one + stand[n] * (stand[m] * (aw * a[n] + bw * b[n] + cw * c[n]) + _ROUNDED)
            aa, bb, cc = a[m], b[m], c[m]
            ab, bc = a[i] * b[i] + a[j] * b[j] + a[k] * b[k], b[i] * c[i] + b[j] * c[j] + b[k] * c[k]
            ca = c[i] * a[i] + c[j] * a[j] + c[k] * a[k]
            most = aa if aa > bb else bb
            error, square = _ROUNDED * (most if most > cc else cc), radius * radius
            clear = _beyond(aa, ab, bb, ca, bc, error, square)
            clear |= _beyond(bb, bc, cc, ab, ca, error, square)
            clear |= _beyond(cc, ca, aa, bc, ab, error, square)
            lacks[lane] += zero if clear else open[lane]


@njit(cache=True, nogil=True, error_model="numpy")
def _lines(view: View, fan: Fan, lanes: Lanes) -> None:
    """Note the lanes in which a line between two corners comes too near."""
    stand, lacks, one = lanes.stand, lanes.lacks, np.float32(1)
    for cone in range(len(fan.cones)):
        a, b = lanes.corners[fan.cones[cone, 0]], lanes.corners[fan.cones[cone, 1]]
        aw, bw = view.wide[cone, 0], view.wide[cone, 1]
        for lane in range(LANES):
            j, k, m, n = LANES + lane, 2 * LANES + lane, 3 * LANES + lane, 4 * LANES + lane
            aa, bb, ab = a[m], b[m], a[j] * b[j] + a[k] * b[k]
            radius = one + stand[n] * (stand[m] * (aw * a[n] + bw * b[n]) + _ROUNDED)
            clear = _beyond(aa, ab, bb, aa, ab, _ROUNDED * (aa if aa > bb else bb), radius * radius)
            lacks[lane] = lacks[lane] if clear else one


@njit(cache=True, nogil=True, error_model="numpy")
def _beyond(pp: float, pq: float, qq: float, rp: float, qr: float, error: float, square: float) -> np.bool:
    """Whether three places P, Q, R of these products lie beyond a ball (of this squared radius) in the direction of the place on the line
    from P to Q that is nearest to its middle."""
    zero, one, least = np.float32(0), np.float32(1), np.float32(1e-30)
    back, on = pp - pq, qq - pq
    length = back + on
    share = back / (length if length > least else least)
    share = share if share > zero else zero
    share = share if share < one else one
    p, q, r = pp - share * back, pq + share * on, rp + share * (qr - rp)
    lowest = p if p < q else q
    lowest = (lowest if lowest < r else r) - error
    return (lowest > zero) & (lowest * lowest > square * (p + share * (q - p) + error))


@njit(cache=True, nogil=True)
def _stand(heart: Heart, away: np.ndarray, stand: np.ndarray) -> None:
    """How the lanes stand to a heart, one quantity after the other: where its middle lies from them, in units of its axes (three numbers);
    what rounding, here and where places are compared with a surface, may add to a gauge for each unit that it grows in the length of an
    axis; and how much of that shows in a distance."""
    back, middle = heart.back, heart.middle
    across, along = math.sqrt((back * back).sum()), math.sqrt((heart.axes * heart.axes).sum())
    for lane in range(LANES):
        z, y, x = away[0, lane] + middle[0], away[1, lane] + middle[1], away[2, lane] + middle[2]
        dz, dy, dx = back[0, 0] * z, back[1, 0] * z + back[1, 1] * y, back[2, 0] * z + back[2, 1] * y + back[2, 2] * x
        far = 1 + math.sqrt(dz * dz + dy * dy + dx * dx)
        stand[lane], stand[LANES + lane], stand[2 * LANES + lane] = dz, dy, dx
        stand[3 * LANES + lane] = _SPARE * (across * (math.sqrt(z * z + y * y + x * x) + along) + 5 * far)
        stand[4 * LANES + lane] = 2 * far


@njit(cache=True, nogil=True)
def _row(values: np.ndarray) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
