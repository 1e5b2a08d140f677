"""Non-maximum suppression: of stars that overlap, the one with the highest score stays.

The best star is kept, then the next best that overlaps none of those by more than a limit, and so on. In 2D overlaps are exact areas of
the polygons, in 3D they are counts of voxels. After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from morula.core.label_image import as_volume, to_3d
from morula.kernels.star_nms_bounds import Heart, View, heart_of, hold, view_of
from morula.kernels.star_polygons import area, outline, shared_area
from morula.kernels.star_polyhedra import EDGE, LANES, Blocks, Lanes, block_sums, blocks_of, gauges, lanes_of, share_at_least, sizes_of
from morula.kernels.star_shapes import Fan, cone_table, gauge, paint, star_box, star_volume

CELL = 16
"""Edge, in voxels, of the cells that kept stars are looked up by."""


class RayField(NamedTuple):
    """Predicted lengths (rays, Z, Y, X): `unit` is what 1 stands for; lengths are kept between `low` and `high`."""

    values: np.ndarray
    unit: float
    low: float
    high: float


def ray_field(values: np.ndarray, longest: float, unit: float, spacing: Sequence[float]) -> RayField:
    """Lengths (rays, (Z)YX) as they are used: at least a thousandth of a voxel, at most the `longest` and the image's diagonal."""
    diagonal = math.hypot(*(n * length for n, length in zip(values.shape[1:], spacing, strict=True)))
    low = 1e-3 * min(spacing)
    return RayField(
        np.ascontiguousarray(values if values.ndim == 4 else values[:, None]), unit, low, max(low, min(longest * unit, diagonal))
    )


def suppress(
    scores: np.ndarray, candidates: np.ndarray, field: RayField, fan: Fan, spacing: Sequence[float], rule: OverlapRule
) -> np.ndarray:
    """Flat indices of the stars that stay, the best first; among equal scores the one that comes first.

    Args:
        scores: (Z)YX.
        candidates: flat indices.
        field: lengths of the rays of every voxel.
        fan: the rays.
        spacing: edge lengths of a voxel.
        rule: how much stars may overlap.
    """
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(-scores.ravel()[candidates], kind="stable")]
    alive = np.zeros(as_volume(scores).shape, np.uint8)
    alive.ravel()[candidates] = 1
    table = table_for(field.high, fan, spacing, scores.shape)
    lengths = to_3d(spacing, 1.0)
    return _stars_left(order, alive, Comparison(field, fan, lengths, table, blocks_of(table, lengths), rule))


def table_for(radius: float, fan: Fan, spacing: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Table of the cones for stars that reach so far at most, in an image of this shape; no voxel farther off than the image is long."""
    reach = [min(math.ceil(radius / length), n) for length, n in zip(spacing, shape, strict=True)]
    return cone_table(fan, to_3d(reach, 0).astype(np.int64))


def paint_stars(labels: np.ndarray, stars: np.ndarray, field: RayField, fan: Fan, spacing: Sequence[float]) -> None:
    """Write ids 1, 2, ... into the voxels of the stars at these flat indices, in this order; voxels that are taken stay.

    Args:
        labels: (Z)YX, written to.
        stars: flat indices of the centres.
        field: lengths of the rays of every voxel.
        fan: the rays.
        spacing: edge lengths of a voxel.
    """
    if len(stars):
        ends = np.empty((len(stars), len(fan.ways)))
        _all_lengths(field, stars, ends)
        _paint_all(as_volume(labels), stars, ends, fan, table_for(float(ends.max()), fan, spacing, labels.shape))


class OverlapRule(NamedTuple):
    """A star goes where it shares more than the part `most` with a better one: of the smaller of the two, or of their `union`. Corners of
    polygons may be cut to `whole` pixels before they are compared."""

    most: float
    union: bool
    whole: bool = False


class Comparison(NamedTuple):
    """What all comparisons share: the rays of every voxel, their fan, edge `lengths` of a voxel, the `table` of the cones, the blocks
    that it is cut into, the rule."""

    field: RayField
    fan: Fan
    lengths: np.ndarray
    table: np.ndarray
    blocks: Blocks
    rule: OverlapRule


class Star(NamedTuple):
    """A star that others are compared with: its centre, longest ray, area or volume, the box of its voxels and which of them are `inside`;
    for 2D its `corners` around the centre and their `frame`."""

    centre: np.ndarray
    reach: float
    size: float
    box: np.ndarray
    inside: np.ndarray
    corners: np.ndarray
    frame: np.ndarray


class Workspace(NamedTuple):
    """Where the other star of a comparison is worked out: lengths of its rays, gauge, box, corners, their frame, crossings."""

    ends: np.ndarray
    towards: np.ndarray
    box: np.ndarray
    corners: np.ndarray
    frame: np.ndarray
    scratch: np.ndarray


class Kept(NamedTuple):
    """Stars that are kept, by cells of the image: the number of the last one of each cell is in `head` (or -1), that of another one of the
    same cell in `before`; flat indices of their centres and their longest rays."""

    head: np.ndarray
    before: np.ndarray
    flats: np.ndarray
    reaches: np.ndarray


@njit(cache=True, nogil=True)
def _stars_left(order: np.ndarray, alive: np.ndarray, setting: Comparison) -> np.ndarray:
    """Stars are taken by their score and compared with those kept before. One that is kept strikes out the centres that lie in it at once,
    while their rays are near in memory: nearly all go this way."""
    cells = ((alive.shape[0] - 1) // CELL + 1, (alive.shape[1] - 1) // CELL + 1, (alive.shape[2] - 1) // CELL + 1)
    kept = Kept(np.full(cells, -1, np.int32), np.empty(len(order), np.int32), order, np.empty(len(order), np.float32))
    rays, cones = len(setting.fan.ways), len(setting.fan.cones)
    room = Workspace(
        np.empty(rays),
        np.empty((3, cones), np.float32),
        np.empty((3, 2), np.int64),
        np.empty((2, rays + 1)),
        np.empty((2, 2)),
        np.empty((3, rays + 1)),
    )
    lanes = lanes_of(setting.fan)
    centre, number, longest = np.empty(3, np.int64), 0, 0.0
    for flat in order:
        _place(flat, alive.shape, centre)
        if alive[centre[0], centre[1], centre[2]]:
            alive[centre[0], centre[1], centre[2]] = 0
            star = _star(centre, setting)
            if not _struck_out(star, kept, longest, alive.shape, setting, room):
                cell = centre[0] // CELL, centre[1] // CELL, centre[2] // CELL
                kept.before[number], kept.flats[number], kept.reaches[number] = kept.head[cell], flat, star.reach
                kept.head[cell] = number
                heart, view = _heart(star, setting, lanes)
                near = _near(star, heart, alive, setting)
                values = _gathered(setting.field, near)
                if heart.held:
                    _strike_out_by_heart(near, values, star, heart, view, alive, setting, lanes)
                if setting.fan.cones.shape[1] == 3:
                    _strike_out_together(near, values, star, alive, setting, lanes)
                _strike_out(star, alive, setting, room)
                longest, number = max(longest, star.reach), number + 1
    return order[:number].copy()


@njit(cache=True, nogil=True)
def _strike_out(star: Star, alive: np.ndarray, setting: Comparison, room: Workspace) -> None:
    """Take out the candidates whose centres lie in a star and that overlap it too much."""
    other = np.empty(3, np.int64)
    for z in range(max(star.box[0, 0], 0), min(star.box[0, 1], alive.shape[0])):
        for y in range(max(star.box[1, 0], 0), min(star.box[1, 1], alive.shape[1])):
            for x in range(max(star.box[2, 0], 0), min(star.box[2, 1], alive.shape[2])):
                if alive[z, y, x] and star.inside[z - star.box[0, 0], y - star.box[1, 0], x - star.box[2, 0]]:
                    other[0], other[1], other[2] = z, y, x
                    if _overlap(star, other, setting, room):
                        alive[z, y, x] = 0


@njit(cache=True, nogil=True)
def _heart(star: Star, setting: Comparison, lanes: Lanes) -> tuple[Heart, View]:
    """The heart of a star, good for others that are not much larger where the union counts, and how the rays look from it."""
    least = min(_wanted(setting.rule, star.size, 1.1 * star.size), star.size)
    flat = setting.fan.cones.shape[1] == 2
    heart = heart_of(star.inside, star.box[:, 0] - star.centre, least, flat)
    view = view_of(heart, setting.fan)
    held = heart.held if _holds_middle(heart, star) and not (flat and setting.rule.whole) else 0.0
    if flat and held:
        height, width = setting.field.values.shape[2:]
        own = np.array([(star.centre[0] * height + star.centre[1]) * width + star.centre[2]])
        _read(setting.field, _gathered(setting.field, own), np.zeros(LANES, np.int64), lanes)
        lanes.away[:] = 0.0
        hold(heart, view, setting.fan, lanes)
        held = 0.0 if lanes.lacks[0] > 0 else held
    return Heart(heart.middle, heart.axes, heart.back, held), view


@njit(cache=True, nogil=True)
def _holds_middle(heart: Heart, star: Star) -> bool:
    """Whether the voxel at the middle of a heart lies in it and in its star."""
    square = 0.0
    for axis in range(3):
        there = 0.0
        for k in range(axis + 1):
            there += heart.back[axis, k] * (round(heart.middle[k]) - heart.middle[k])
        square += there * there
        place = star.centre[axis] + round(heart.middle[axis]) - star.box[axis, 0]
        if place < 0 or place >= star.inside.shape[axis]:
            return False
    z, y, x = star.centre + np.rint(heart.middle).astype(np.int64) - star.box[:, 0]
    return square < 1 and star.inside[z, y, x] > 0


@njit(cache=True, nogil=True)
def _near(star: Star, heart: Heart, alive: np.ndarray, setting: Comparison) -> np.ndarray:
    """Candidates that may go by a star: those whose own stars hold the voxel at the middle of its heart; those in it where it has no heart.
    Flat indices."""
    found, number = np.empty(star.inside.size, np.int64), 0
    half, middle = np.array([n // 2 for n in setting.table.shape]), star.centre + np.rint(heart.middle).astype(np.int64)
    for z in range(max(star.box[0, 0], 0), min(star.box[0, 1], alive.shape[0])):
        for y in range(max(star.box[1, 0], 0), min(star.box[1, 1], alive.shape[1])):
            for x in range(max(star.box[2, 0], 0), min(star.box[2, 1], alive.shape[2])):
                if alive[z, y, x]:
                    if heart.held:
                        there = _reaches(setting, (z, y, x), (middle[0] - z, middle[1] - y, middle[2] - x), half)
                    else:
                        there = star.inside[z - star.box[0, 0], y - star.box[1, 0], x - star.box[2, 0]] > 0
                    if there:
                        found[number] = (z * alive.shape[1] + y) * alive.shape[2] + x
                        number += 1
    return found[:number]


@njit(cache=True, nogil=True)
def _reaches(setting: Comparison, centre: tuple[int, int, int], place: tuple[int, int, int], half: np.ndarray) -> bool:
    """Whether the star around a voxel holds the voxel at this place from its centre."""
    field, fan = setting.field, setting.fan
    if abs(place[0]) > half[0] or abs(place[1]) > half[1] or abs(place[2]) > half[2]:
        return False
    cone, total = setting.table[half[0] + place[0], half[1] + place[1], half[2] + place[2]], 0.0
    for edge in range(fan.cones.shape[1]):
        to = fan.inverse[cone, edge]
        share = to[0] * place[0] + to[1] * place[1] + to[2] * place[2]
        length = field.values[fan.cones[cone, edge], centre[0], centre[1], centre[2]] * field.unit
        total += share / min(max(length, field.low), field.high)
    return total < 1


@njit(cache=True, nogil=True)
def _strike_out_by_heart(
    near: np.ndarray, values: np.ndarray, star: Star, heart: Heart, view: View, alive: np.ndarray, setting: Comparison, lanes: Lanes
) -> None:
    """Take out those of some candidates, by their flat indices, that hold the heart of a star; they hold the voxel at its middle.

    `values` are theirs, from `_gathered`.
    """
    marks, (height, width), rows, flat = alive.ravel(), alive.shape[1:], np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for begin in range(0, len(near), LANES):
        number = min(LANES, len(near) - begin)
        for lane in range(LANES):
            rows[lane] = begin + lane if lane < number else begin
            flat[lane] = near[rows[lane]]
        _read(setting.field, values, rows, lanes)
        for lane in range(LANES):
            lanes.away[0, lane] = star.centre[0] - flat[lane] // (height * width)
            lanes.away[1, lane] = star.centre[1] - flat[lane] // width % height
            lanes.away[2, lane] = star.centre[2] - flat[lane] % width
        if setting.rule.union:
            sizes_of(lanes, setting.fan)
        else:
            lanes.sizes[:] = star.size
        hold(heart, view, setting.fan, lanes)
        for lane in range(number):
            if lanes.lacks[lane] <= 0 and heart.held > _wanted(setting.rule, star.size, lanes.sizes[lane]):
                marks[flat[lane]] = 0


@njit(cache=True, nogil=True)
def _strike_out_together(near: np.ndarray, values: np.ndarray, star: Star, alive: np.ndarray, setting: Comparison, lanes: Lanes) -> None:
    """Take out those of some candidates, by their flat indices, of which blocks tell that they overlap a star too much.

    `values` are theirs, from `_gathered`.
    """
    marks, (height, width) = alive.ravel(), alive.shape[1:]
    left = np.flatnonzero(marks[near])
    if not len(left):
        return
    sums, rows, flat = block_sums(star.inside), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for begin in range(0, len(left), LANES):
        number = min(LANES, len(left) - begin)
        rows[:number], rows[number:] = left[begin : begin + number], left[begin]
        flat[:] = near[rows]
        _read(setting.field, values, rows, lanes)
        for lane in range(LANES):
            lanes.places[0, lane] = flat[lane] // (height * width) - star.box[0, 0] + EDGE
            lanes.places[1, lane] = flat[lane] // width % height - star.box[1, 0] + EDGE
            lanes.places[2, lane] = flat[lane] % width - star.box[2, 0] + EDGE
        sizes_of(lanes, setting.fan)
        gauges(lanes, setting.fan)
        for lane in range(LANES):
            lanes.wanted[lane] = _wanted(setting.rule, star.size, lanes.sizes[lane]) if lane < number else -1.0
        share_at_least(lanes, setting.blocks, sums, lanes.ends.max())
        for lane in range(number):
            if lanes.shared[lane] > lanes.wanted[lane]:
                marks[flat[lane]] = 0


@njit(cache=True, nogil=True)
def _gathered(field: RayField, near: np.ndarray) -> np.ndarray:
    """Values of the rays of the voxels at these flat indices, (rays, n). Rays lie far apart in memory, so that each is read for all voxels
    before the next."""
    values = field.values.reshape(len(field.values), -1)
    out = np.empty((len(values), len(near)), np.float32)
    for ray in range(len(values)):
        source, target = values[ray], out[ray]
        for row in range(len(near)):
            target[row] = source[near[row]]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _read(field: RayField, values: np.ndarray, rows: np.ndarray, lanes: Lanes) -> None:
    """Lengths of the rays of some of the voxels whose values were gathered, and one over them."""
    for ray in range(len(values)):
        source, target, near = values[ray], lanes.ends[ray], lanes.near[ray]
        for lane in range(LANES):
            target[lane] = source[rows[lane]] * field.unit
        for lane in range(LANES):
            length = target[lane] if target[lane] > field.low else field.low
            target[lane] = length if length < field.high else field.high
            near[lane] = 1 / target[lane]


@njit(cache=True, nogil=True)
def _struck_out(star: Star, kept: Kept, longest: float, shape: tuple[int, int, int], setting: Comparison, room: Workspace) -> bool:
    """Whether a star overlaps one of those kept before too much."""
    other, first, last = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    for axis in range(3):
        reach = (star.reach + longest) / setting.lengths[axis]
        first[axis] = max(math.floor((star.centre[axis] - reach) / CELL), 0)
        last[axis] = min(math.floor((star.centre[axis] + reach) / CELL) + 1, kept.head.shape[axis])
    for cz in range(first[0], last[0]):
        for cy in range(first[1], last[1]):
            for cx in range(first[2], last[2]):
                number = kept.head[cz, cy, cx]
                while number >= 0:
                    _place(kept.flats[number], shape, other)
                    far = 0.0
                    for axis in range(3):
                        far += ((other[axis] - star.centre[axis]) * setting.lengths[axis]) ** 2
                    if far < (star.reach + kept.reaches[number]) ** 2 and _overlap(star, other, setting, room):
                        return True
                    number = kept.before[number]
    return False


@njit(cache=True, nogil=True)
def _star(centre: np.ndarray, setting: Comparison) -> Star:
    fan = setting.fan
    ends, towards, box = np.empty(len(fan.ways)), np.empty((3, len(fan.cones)), np.float32), np.empty((3, 2), np.int64)
    lengths_at(setting.field, centre, ends)
    star_box(centre, ends, fan.ways, np.array([n // 2 for n in setting.table.shape]), box)
    gauge(ends, fan.cones, fan.inverse, towards)
    inside = np.zeros((box[0, 1] - box[0, 0], box[1, 1] - box[1, 0], box[2, 1] - box[2, 0]), np.uint8)
    paint(inside, 1, centre - box[:, 0], box - box[:, :1], towards, setting.table)
    corners, frame, size = np.empty((2, len(ends) + 1)), np.empty((2, 2)), star_volume(ends, fan.cones, fan.volumes)
    if fan.cones.shape[1] == 2:
        here = np.array([1e-6, 1.618034e-6])  # so little off that no corner lies on an edge of another polygon, whole ones neither
        outline(ends, fan.ways, centre, here, setting.rule.whole, corners, frame)
        size = area(corners) if setting.rule.whole else size
    return Star(centre.copy(), ends.max(), size, box, inside, corners, frame)


@njit(cache=True, nogil=True)
def _overlap(star: Star, other: np.ndarray, setting: Comparison, room: Workspace) -> bool:
    """Whether a star and the one around another voxel overlap too much."""
    fan = setting.fan
    lengths_at(setting.field, other, room.ends)
    size = star_volume(room.ends, fan.cones, fan.volumes)
    if fan.cones.shape[1] == 2:
        away = np.array([float(other[1] - star.centre[1]), float(other[2] - star.centre[2])])
        outline(room.ends, fan.ways, other, away, setting.rule.whole, room.corners, room.frame)
        wanted = _wanted(setting.rule, star.size, area(room.corners) if setting.rule.whole else size)
        if _shared_box(star.frame, room.frame) <= wanted:
            return False
        return shared_area(star.corners, star.frame, room.corners, room.frame, room.scratch) > wanted
    wanted = _wanted(setting.rule, star.size, size)
    star_box(other, room.ends, fan.ways, np.array([n // 2 for n in setting.table.shape]), room.box)
    if _shared_box(star.box, room.box) <= wanted:
        return False
    gauge(room.ends, fan.cones, fan.inverse, room.towards)
    return _share_more(star, other, room, setting.table, wanted)


@njit(cache=True, nogil=True)
def lengths_at(field: RayField, centre: np.ndarray, out: np.ndarray) -> None:
    """Lengths of the rays of one voxel."""
    for ray in range(len(out)):
        out[ray] = min(max(field.values[ray, centre[0], centre[1], centre[2]] * field.unit, field.low), field.high)


@njit(cache=True, nogil=True)
def _place(flat: int, shape: tuple[int, int, int], out: np.ndarray) -> None:
    out[0], out[1], out[2] = flat // (shape[1] * shape[2]), flat // shape[2] % shape[1], flat % shape[2]


@njit(cache=True, nogil=True)
def _all_lengths(field: RayField, stars: np.ndarray, out: np.ndarray) -> None:
    centre = np.empty(3, np.int64)
    for row, flat in enumerate(stars):
        _place(flat, field.values.shape[1:], centre)
        lengths_at(field, centre, out[row])


@njit(cache=True, nogil=True)
def _paint_all(labels: np.ndarray, stars: np.ndarray, ends: np.ndarray, fan: Fan, table: np.ndarray) -> None:
    centre, box, towards = np.empty(3, np.int64), np.empty((3, 2), np.int64), np.empty((3, len(fan.cones)), np.float32)
    reach = np.array([n // 2 for n in table.shape])
    for row, flat in enumerate(stars):
        _place(flat, labels.shape, centre)
        star_box(centre, ends[row], fan.ways, reach, box)
        gauge(ends[row], fan.cones, fan.inverse, towards)
        paint(labels, row + 1, centre, box, towards, table)


@njit(cache=True, nogil=True)
def _shared_box(one: np.ndarray, two: np.ndarray) -> float:
    """Area or volume that two boxes (axes, 2) have in common."""
    common = 1.0
    for axis in range(len(one)):
        common *= max(min(one[axis, 1], two[axis, 1]) - max(one[axis, 0], two[axis, 0]), 0)
    return common


@njit(cache=True, nogil=True)
def _wanted(rule: OverlapRule, one: float, two: float) -> float:
    """Area or volume from which two stars of these sizes overlap too much."""
    return rule.most * (one + two) / (1 + rule.most) if rule.union else rule.most * min(one, two)


@njit(cache=True, nogil=True)
def _share_more(star: Star, other: np.ndarray, room: Workspace, table: np.ndarray, wanted: float) -> bool:
    """Whether a star shares more voxels than wanted with the one around another voxel.

    Counted plane by plane from the star's middle on, until the answer is known.
    """
    first, last = np.maximum(star.box[:, 0], room.box[:, 0]), np.minimum(star.box[:, 1], room.box[:, 1])
    into, onto = first - star.box[:, 0], first - other + np.array([n // 2 for n in table.shape])
    middle = min(max(star.centre[0], first[0]), last[0] - 1) - first[0]
    depth, height, width = last - first
    count, left = 0, depth * height * width
    for turn in range(depth):
        k = (turn + middle) % depth
        for j in range(height):
            row = star.inside[into[0] + k, into[1] + j, into[2] : into[2] + width]
            cones = table[onto[0] + k, onto[1] + j, onto[2] : onto[2] + width]
            place = first[0] + k - other[0], first[1] + j - other[1], first[2] - other[2]
            count += _inside(row, cones, room.towards, place)
        left -= height * width
        if count > wanted:
            return True
        if count + left <= wanted:
            return False
    return False


@njit(cache=True, nogil=True)
def _inside(row: np.ndarray, cones: np.ndarray, towards: np.ndarray, place: tuple[int, int, int]) -> int:
    """How many marked voxels of a row lie inside a star from whose centre the first of them is so far."""
    count = 0
    tz, ty, tx = towards
    dz, dy, dx = np.float32(place[0]), np.float32(place[1]), np.float32(place[2])
    for i in range(len(row)):
        cone = cones[i]
        if row[i] and tz[cone] * dz + ty[cone] * dy + tx[cone] * (dx + np.float32(i)) <= 1:
            count += 1
    return count
