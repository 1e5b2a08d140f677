"""The heart of a star: an ellipsoid in its middle, as large as what another star may share with it, and a little larger.

A star in which the whole heart lies shares too much, whatever it looks like elsewhere. In each cone the surface is a plane; a heart that
lies on the near side of all of these planes lies inside. This decides nearly all comparisons of stars of one object, for a few operations
a cone; what it does not decide is compared exactly (see `morula.labels.suppression`). In 2D hearts are ellipses.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from morula.labels.polyhedra import LANES, Lanes
from morula.labels.stars import Fan

CUT = 1.3
"""How far behind the heart rays are cut, in units of its axes."""
_SPARE = 2e-6
"""More than what rounding in float32 adds to a gauge, in parts of its summands."""


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
    """Rays and cones in units of a heart's axes: `rays` (rays, 3) and the `squares` of their lengths; `turned` (cones, edges, 3): shares of
    the edges in a place; `wide` (cones, edges): the most that a place in the heart adds to a share."""

    rays: np.ndarray
    squares: np.ndarray
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
def _spare(axes: np.ndarray, back: np.ndarray, away: np.ndarray, far: float) -> float:
    """The square of how much larger a heart is taken, for what rounding does here (`far` is its distance in units of its axes) and where
    places in it are compared with a surface (`away` is its middle, from the star's centre)."""
    sides = math.sqrt((back * back).sum()) * (math.sqrt((away * away).sum()) + math.sqrt((axes * axes).sum()))
    return (1 + _SPARE * (sides + 5 * (1 + far))) ** 2


@njit(cache=True, nogil=True)
def view_of(heart: Heart, fan: Fan) -> View:
    """How the rays and cones look in units of a heart's axes."""
    axes, back = heart.axes, heart.back
    rays, squares = np.zeros((len(fan.ways), 3), np.float32), np.zeros(len(fan.ways), np.float32)
    for ray in range(len(rays)):
        total = 0.0
        for axis in range(3):
            step = 0.0
            for k in range(axis + 1):
                step += back[axis, k] * fan.ways[ray, k]
            rays[ray, axis] = step
            total += step * step
        squares[ray] = total
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
    return View(rays, squares, turned, wide)


@njit(cache=True, nogil=True)
def hold(heart: Heart, view: View, fan: Fan, lanes: Lanes) -> None:
    """Tell which stars in the lanes hold a heart: those whose `lacks` is at most 0.

    Rays that reach beyond the heart are cut somewhat behind it, which makes the stars smaller and their planes smooth; cones that a wall
    parts from the heart do not matter.

    Args:
        heart: the heart.
        view: from `view_of`.
        fan: the rays.
        lanes: `near` is read, and `away`, the centre of the heart's star from those in the lanes.
    """
    spare, places, left = np.empty(LANES, np.float32), np.empty((3, LANES), np.float32), np.empty(LANES, np.float32)
    _stand(heart, lanes.away, places, spare, left)
    near, close, lacks = lanes.near, lanes.close, lanes.lacks
    dz, dy, dx = places[0], places[1], places[2]
    for ray in range(len(near)):
        rz, ry, rx, square = view.rays[ray, 0], view.rays[ray, 1], view.rays[ray, 2], view.squares[ray]
        low = np.float32(0.1) * np.float32(math.sqrt(square))
        source, target = near[ray], close[ray]
        for lane in range(LANES):
            along = rz * dz[lane] + ry * dy[lane] + rx * dx[lane]
            root = along * along - square * left[lane]
            far = along + np.sqrt(root if root > 0 else np.float32(0))
            cut = square / (far if far > low else low)
            target[lane] = max(np.float32(source[lane]), cut)
    lacks[:] = 0
    one = np.float32(1 - _SPARE)
    for cone in range(len(fan.cones)):
        edges, turned, wide = fan.cones[cone], view.turned[cone], view.wide[cone]
        if len(edges) == 3:
            a, b, c = close[edges[0]], close[edges[1]], close[edges[2]]
            (az, ay, ax), (bz, by, bx), (cz, cy, cx) = _row(turned[0]), _row(turned[1]), _row(turned[2])
            aw, bw, cw = wide[0], wide[1], wide[2]
            for lane in range(LANES):
                z, y, x = dz[lane], dy[lane], dx[lane]
                sa, sb, sc = az * z + ay * y + ax * x, bz * z + by * y + bx * x, cz * z + cy * y + cx * x
                apart = (sa + aw * spare[lane] < 0) | (sb + bw * spare[lane] < 0) | (sc + cw * spare[lane] < 0)
                hz, hy = az * a[lane] + bz * b[lane] + cz * c[lane], ay * a[lane] + by * b[lane] + cy * c[lane]
                hx = ax * a[lane] + bx * b[lane] + cx * c[lane]
                gap = one - (sa * a[lane] + sb * b[lane] + sc * c[lane])
                lack = spare[lane] * (hz * hz + hy * hy + hx * hx) - gap * abs(gap)
                lack = np.float32(0) if apart else lack
                lacks[lane] = lack if lack > lacks[lane] else lacks[lane]
        else:
            a, b = close[edges[0]], close[edges[1]]
            ay, ax, by, bx = turned[0, 1], turned[0, 2], turned[1, 1], turned[1, 2]
            aw, bw = wide[0], wide[1]
            for lane in range(LANES):
                y, x = dy[lane], dx[lane]
                sa, sb = ay * y + ax * x, by * y + bx * x
                apart = (sa + aw * spare[lane] < 0) | (sb + bw * spare[lane] < 0)
                hy, hx = ay * a[lane] + by * b[lane], ax * a[lane] + bx * b[lane]
                gap = one - (sa * a[lane] + sb * b[lane])
                lack = spare[lane] * (hy * hy + hx * hx) - gap * abs(gap)
                lack = np.float32(0) if apart else lack
                lacks[lane] = lack if lack > lacks[lane] else lacks[lane]


@njit(cache=True, nogil=True)
def _stand(heart: Heart, away: np.ndarray, places: np.ndarray, spare: np.ndarray, left: np.ndarray) -> None:
    """Where the heart's middle lies from each lane's star in units of its axes, and how far that is beyond where rays are cut."""
    place = np.empty(3)
    for lane in range(LANES):
        place[:] = away[:, lane] + heart.middle
        square = 0.0
        for axis in range(3):
            there = 0.0
            for k in range(axis + 1):
                there += heart.back[axis, k] * place[k]
            places[axis, lane] = there
            square += there * there
        spare[lane] = _spare(heart.axes, heart.back, place, math.sqrt(square))
        left[lane] = square - CUT * CUT


@njit(cache=True, nogil=True)
def _row(values: np.ndarray) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
