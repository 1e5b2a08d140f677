"""Non-maximum suppression of star-convex shapes: of those that overlap, the one with the highest score stays.

Every probable voxel proposes a shape, so that an object of 1,000 voxels is proposed 1,000 times. The greedy rule of StarDist keeps the
proposal with the highest score, removes all that overlap it by more than a limit, and continues with the next one. Overlaps are exact areas
of polygons in 2D and counts of voxels in 3D. Comparing every pair exactly would be far too slow; four observations make it fast::

      candidates in score order          1 Only kept stars whose boxes can touch are compared: kept stars are found by
        s1  kept                           cells of a grid of 16 voxels.
        s2  inside s1 -> removed         2 A star that is kept removes the candidates inside it at once, while their rays
        s3  inside s1 -> removed           are in the cache. Nearly all candidates go this way.
        s4  outside: compare with        3 Most of these contain an ellipsoid in the middle of the kept star that is already
            kept stars nearby              larger than the limit: a few operations per cone decide (`star_nms_bounds`).
        ...                              4 In 3D most of the rest is decided by counting blocks of 3 x 3 x 3 voxels that are
                                           inside both shapes (`star_polyhedra`).

What these bounds do not decide is compared exactly, so that the result is that of the plain rule. Complexity: about linear in the number of
candidates, times the number of rays.

After Schmidt et al., Cell detection with star-convex polygons (MICCAI 2018), and Weigert et al. (WACV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, to_3d
from morula.kernels.star_nms_bounds import Ellipsoid, LocalRays, find_intersections, inscribed_ellipsoid, local_rays
from morula.kernels.star_painting import RayField, lengths_at, table_for, unravel
from morula.kernels.star_polygons import area, outline, shared_area
from morula.kernels.star_polyhedra import EDGE, LANES, Blocks, Lanes, block_sums, blocks_of, gauges, lanes_of, share_at_least, sizes_of
from morula.kernels.star_shapes import Fan, gauge, paint, star_box, star_volume

CELL = 16
"""Edge, in voxels, of the grid cells by which kept stars are found."""


def suppress(
    scores: np.ndarray, candidates: np.ndarray, field: RayField, fan: Fan, spacing: Sequence[float], rule: OverlapRule
) -> np.ndarray:
    """Keep the best of the stars that overlap.

    Among equal scores the candidate that is listed first goes first.

    Args:
        scores: (Z)YX.
        candidates: flat indices.
        field: lengths of the rays of every voxel.
        fan: the rays.
        spacing: edge lengths of a voxel.
        rule: how much stars may overlap.

    Returns:
        Flat indices of the kept stars, the highest score first.
    """
    if not len(candidates):
        return candidates
    # a stable sort: equal scores keep the order that the caller chose
    order = candidates[np.argsort(-scores.ravel()[candidates], kind="stable")]
    # an image of marks: the candidates inside a box are found without a search
    alive = np.zeros(as_volume(scores).shape, np.uint8)
    alive.ravel()[candidates] = 1
    table = table_for(field.high, fan, spacing, scores.shape)
    lengths = to_3d(spacing, 1.0)
    return _kept_stars(order, alive, Comparison(field, fan, lengths, table, blocks_of(table, lengths), rule))


class OverlapRule(NamedTuple):
    """A star is removed where it shares more than `most` with a better one: a share of the smaller of the two, or of their `union`. Corners
    of polygons may be rounded to `whole` pixels before they are compared."""

    most: float
    union: bool
    whole: bool = False


class Comparison(NamedTuple):
    """What all comparisons have in common: the rays of every voxel, their fan, the edge lengths of a voxel, the `table` of the cones, its
    division into blocks, and the rule."""

    field: RayField
    fan: Fan
    voxel_size: np.ndarray
    table: np.ndarray
    blocks: Blocks
    rule: OverlapRule


class Star(NamedTuple):
    """A star that others are compared with: its centre, longest ray, area or volume, the box of its voxels and the `mask` of those inside;
    in 2D its `corners` around the centre and their bounding box, `frame`."""

    centre: np.ndarray
    reach: float
    size: float
    box: np.ndarray
    mask: np.ndarray
    corners: np.ndarray
    frame: np.ndarray


class Workspace(NamedTuple):
    """Memory for the other star of a comparison, reused for all of them: lengths of its rays, normals of its cones, box, corners, their
    frame, and crossings of polygon edges."""

    lengths: np.ndarray
    normals: np.ndarray
    box: np.ndarray
    corners: np.ndarray
    frame: np.ndarray
    scratch: np.ndarray


class Kept(NamedTuple):
    """Kept stars by cells of a grid, as linked lists: `head` has the number of the last star of each cell (or -1), `before` that of the
    previous one in the same cell; flat indices of the centres and longest rays."""

    head: np.ndarray
    before: np.ndarray
    flats: np.ndarray
    reaches: np.ndarray


@njit(cache=True, nogil=True)
def _kept_stars(order: np.ndarray, alive: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Flat indices of the kept stars. Candidates are processed in the order of their score and compared with the stars kept before."""
    cells = ((alive.shape[0] - 1) // CELL + 1, (alive.shape[1] - 1) // CELL + 1, (alive.shape[2] - 1) // CELL + 1)
    kept = Kept(np.full(cells, -1, np.int32), np.empty(len(order), np.int32), order, np.empty(len(order), np.float32))
    rays, cones = len(comparison.fan.ray_steps), len(comparison.fan.cones)
    workspace = Workspace(
        np.empty(rays),
        np.empty((3, cones), np.float32),
        np.empty((3, 2), np.int64),
        np.empty((2, rays + 1)),
        np.empty((2, 2)),
        np.empty((3, rays + 1)),
    )
    lanes = lanes_of(comparison.fan)
    centre, number, longest = np.empty(3, np.int64), 0, 0.0
    for flat in order:
        unravel(flat, alive.shape, centre)
        if alive[centre[0], centre[1], centre[2]]:
            # it is either kept now or removed: it never has to be visited again
            alive[centre[0], centre[1], centre[2]] = 0
            star = _star(centre, comparison)
            if not _is_suppressed(star, kept, longest, alive.shape, comparison, workspace):
                cell = centre[0] // CELL, centre[1] // CELL, centre[2] // CELL
                kept.before[number], kept.flats[number], kept.reaches[number] = kept.head[cell], flat, star.reach
                kept.head[cell] = number
                # from the cheapest test to the exact one; each leaves fewer candidates to the next
                ellipsoid, local = _ellipsoid(star, comparison, lanes)
                near = _candidates_near(star, ellipsoid, alive, comparison)
                values = _gather(comparison.field, near)
                if ellipsoid.size_inside:
                    _suppress_by_ellipsoid(near, values, star, ellipsoid, local, alive, comparison, lanes)
                if comparison.fan.cones.shape[1] == 3:
                    _suppress_by_blocks(near, values, star, alive, comparison, lanes)
                _suppress_inside(star, alive, comparison, workspace)
                longest, number = max(longest, star.reach), number + 1
    return order[:number].copy()


@njit(cache=True, nogil=True)
def _suppress_inside(star: Star, alive: np.ndarray, comparison: Comparison, workspace: Workspace) -> None:
    """Remove the candidates whose centres are inside a star and that overlap it too much, by exact comparison."""
    other = np.empty(3, np.int64)
    for z in range(max(star.box[0, 0], 0), min(star.box[0, 1], alive.shape[0])):
        for y in range(max(star.box[1, 0], 0), min(star.box[1, 1], alive.shape[1])):
            for x in range(max(star.box[2, 0], 0), min(star.box[2, 1], alive.shape[2])):
                if alive[z, y, x] and star.mask[z - star.box[0, 0], y - star.box[1, 0], x - star.box[2, 0]]:
                    other[0], other[1], other[2] = z, y, x
                    if _overlap(star, other, comparison, workspace):
                        alive[z, y, x] = 0


@njit(cache=True, nogil=True)
def _ellipsoid(star: Star, comparison: Comparison, lanes: Lanes) -> tuple[Ellipsoid, LocalRays]:
    """The ellipsoid of a star, and the rays in its coordinates. Where the union counts, it is sized for stars up to 10 % larger."""
    least = min(_overlap_limit(comparison.rule, star.size, 1.1 * star.size), star.size)
    flat = comparison.fan.cones.shape[1] == 2
    ellipsoid = inscribed_ellipsoid(star.mask, star.box[:, 0] - star.centre, least, flat)
    local = local_rays(ellipsoid, comparison.fan)
    size_inside = ellipsoid.size_inside if _contains_middle(ellipsoid, star) and not (flat and comparison.rule.whole) else 0.0
    # in 3D the ellipsoid is counted in the star's voxels; in 2D it has an area, of which no part may be outside the polygon
    if flat and size_inside:
        height, width = comparison.field.values.shape[2:]
        own = np.array([(star.centre[0] * height + star.centre[1]) * width + star.centre[2]])
        _load_lanes(comparison.field, _gather(comparison.field, own), np.zeros(LANES, np.int64), lanes)
        lanes.offset[:] = 0.0
        find_intersections(ellipsoid, local, comparison.fan, lanes)
        size_inside = 0.0 if lanes.intersects[0] > 0 else size_inside
    return Ellipsoid(ellipsoid.middle, ellipsoid.axes, ellipsoid.inverse_axes, size_inside), local


@njit(cache=True, nogil=True)
def _contains_middle(ellipsoid: Ellipsoid, star: Star) -> bool:
    """Whether the voxel at the middle of an ellipsoid is inside it and inside its star."""
    square = 0.0
    for axis in range(3):
        coordinate = 0.0
        for k in range(axis + 1):
            coordinate += ellipsoid.inverse_axes[axis, k] * (round(ellipsoid.middle[k]) - ellipsoid.middle[k])
        square += coordinate * coordinate
        place = star.centre[axis] + round(ellipsoid.middle[axis]) - star.box[axis, 0]
        if place < 0 or place >= star.mask.shape[axis]:
            return False
    z, y, x = star.centre + np.rint(ellipsoid.middle).astype(np.int64) - star.box[:, 0]
    return square < 1 and star.mask[z, y, x] > 0


@njit(cache=True, nogil=True)
def _candidates_near(star: Star, ellipsoid: Ellipsoid, alive: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Flat indices of the candidates that a star may remove: those whose own shape contains the middle of its ellipsoid, or, without an
    ellipsoid, those inside the star."""
    flats, number = np.empty(star.mask.size, np.int64), 0
    half, middle = np.array([n // 2 for n in comparison.table.shape]), star.centre + np.rint(ellipsoid.middle).astype(np.int64)
    for z in range(max(star.box[0, 0], 0), min(star.box[0, 1], alive.shape[0])):
        for y in range(max(star.box[1, 0], 0), min(star.box[1, 1], alive.shape[1])):
            for x in range(max(star.box[2, 0], 0), min(star.box[2, 1], alive.shape[2])):
                if alive[z, y, x]:
                    if ellipsoid.size_inside:
                        removable = _contains(comparison, (z, y, x), (middle[0] - z, middle[1] - y, middle[2] - x), half)
                    else:
                        removable = star.mask[z - star.box[0, 0], y - star.box[1, 0], x - star.box[2, 0]] > 0
                    if removable:
                        flats[number] = (z * alive.shape[1] + y) * alive.shape[2] + x
                        number += 1
    return flats[:number]


@njit(cache=True, nogil=True)
def _contains(comparison: Comparison, centre: tuple[int, int, int], place: tuple[int, int, int], half: np.ndarray) -> bool:
    """Whether the star around a voxel contains the voxel at this offset."""
    field, fan = comparison.field, comparison.fan
    if abs(place[0]) > half[0] or abs(place[1]) > half[1] or abs(place[2]) > half[2]:
        return False
    cone, total = comparison.table[half[0] + place[0], half[1] + place[1], half[2] + place[2]], 0.0
    for edge in range(fan.cones.shape[1]):
        row = fan.inverse[cone, edge]
        share = row[0] * place[0] + row[1] * place[1] + row[2] * place[2]
        length = field.values[fan.cones[cone, edge], centre[0], centre[1], centre[2]] * field.unit
        total += share / min(max(length, field.low), field.high)
    return total < 1


@njit(cache=True, nogil=True)
def _suppress_by_ellipsoid(
    near: np.ndarray,
    values: np.ndarray,
    star: Star,
    ellipsoid: Ellipsoid,
    local: LocalRays,
    alive: np.ndarray,
    comparison: Comparison,
    lanes: Lanes,
) -> None:
    """Remove those of the `near` candidates that contain the whole ellipsoid of a star. All of them contain the voxel at its middle.

    `values` are their rays, from `_gather`.
    """
    marks, (height, width), rows, flat = alive.ravel(), alive.shape[1:], np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for begin in range(0, len(near), LANES):
        number = min(LANES, len(near) - begin)
        for lane in range(LANES):
            # lanes without a candidate repeat the first one; their results are not read
            rows[lane] = begin + lane if lane < number else begin
            flat[lane] = near[rows[lane]]
        _load_lanes(comparison.field, values, rows, lanes)
        for lane in range(LANES):
            lanes.offset[0, lane] = star.centre[0] - flat[lane] // (height * width)
            lanes.offset[1, lane] = star.centre[1] - flat[lane] // width % height
            lanes.offset[2, lane] = star.centre[2] - flat[lane] % width
        if comparison.rule.union:
            sizes_of(lanes, comparison.fan)
        else:
            lanes.sizes[:] = star.size
        find_intersections(ellipsoid, local, comparison.fan, lanes)
        for lane in range(number):
            if lanes.intersects[lane] <= 0 and ellipsoid.size_inside > _overlap_limit(comparison.rule, star.size, lanes.sizes[lane]):
                marks[flat[lane]] = 0


@njit(cache=True, nogil=True)
def _suppress_by_blocks(near: np.ndarray, values: np.ndarray, star: Star, alive: np.ndarray, comparison: Comparison, lanes: Lanes) -> None:
    """Remove those of the `near` candidates of which blocks prove that they overlap a star too much.

    `values` are their rays, from `_gather`.
    """
    marks, (height, width) = alive.ravel(), alive.shape[1:]
    left = np.flatnonzero(marks[near])
    if not len(left):
        return
    sums, rows, flat = block_sums(star.mask), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for begin in range(0, len(left), LANES):
        number = min(LANES, len(left) - begin)
        for lane in range(LANES):
            rows[lane] = left[begin + lane] if lane < number else left[begin]
            flat[lane] = near[rows[lane]]
        _load_lanes(comparison.field, values, rows, lanes)
        for lane in range(LANES):
            lanes.places[0, lane] = flat[lane] // (height * width) - star.box[0, 0] + EDGE
            lanes.places[1, lane] = flat[lane] // width % height - star.box[1, 0] + EDGE
            lanes.places[2, lane] = flat[lane] % width - star.box[2, 0] + EDGE
        sizes_of(lanes, comparison.fan)
        gauges(lanes, comparison.fan)
        for lane in range(LANES):
            # -1: lanes without a candidate are done at once, so that counting need not wait for them
            lanes.limit[lane] = _overlap_limit(comparison.rule, star.size, lanes.sizes[lane]) if lane < number else -1.0
        share_at_least(lanes, comparison.blocks, sums, lanes.lengths.max())
        for lane in range(number):
            if lanes.shared[lane] > lanes.limit[lane]:
                marks[flat[lane]] = 0


@njit(cache=True, nogil=True)
def _gather(field: RayField, near: np.ndarray) -> np.ndarray:
    """Rays of the voxels at these flat indices, (rays, n). The rays of a voxel are far apart in memory, so that one ray is read for all
    voxels before the next one."""
    values = field.values.reshape(len(field.values), -1)
    out = np.empty((len(values), len(near)), np.float32)
    for ray in range(len(values)):
        source, target = values[ray], out[ray]
        for row in range(len(near)):
            target[row] = source[near[row]]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _load_lanes(field: RayField, values: np.ndarray, rows: np.ndarray, lanes: Lanes) -> None:
    """Load the ray lengths of some gathered voxels into the lanes, and their inverses."""
    for ray in range(len(values)):
        source, target, inverse = values[ray], lanes.lengths[ray], lanes.inverse_lengths[ray]
        for lane in range(LANES):
            target[lane] = source[rows[lane]] * field.unit
        for lane in range(LANES):
            # comparisons instead of min and max: they compile to SIMD code, and NaN becomes the shortest length
            length = target[lane] if target[lane] > field.low else field.low
            target[lane] = length if length < field.high else field.high
            inverse[lane] = 1 / target[lane]


@njit(cache=True, nogil=True)
def _is_suppressed(
    star: Star, kept: Kept, longest: float, shape: tuple[int, int, int], comparison: Comparison, workspace: Workspace
) -> bool:
    """Whether a star overlaps a star that was kept before too much."""
    other, first, last = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    for axis in range(3):
        # no star that was kept reaches farther than the longest of them
        reach = (star.reach + longest) / comparison.voxel_size[axis]
        first[axis] = max(math.floor((star.centre[axis] - reach) / CELL), 0)
        last[axis] = min(math.floor((star.centre[axis] + reach) / CELL) + 1, kept.head.shape[axis])
    for cz in range(first[0], last[0]):
        for cy in range(first[1], last[1]):
            for cx in range(first[2], last[2]):
                number = kept.head[cz, cy, cx]
                # all kept stars of this cell
                while number >= 0:
                    unravel(kept.flats[number], shape, other)
                    far = 0.0
                    for axis in range(3):
                        far += ((other[axis] - star.centre[axis]) * comparison.voxel_size[axis]) ** 2
                    if far < (star.reach + kept.reaches[number]) ** 2 and _overlap(star, other, comparison, workspace):
                        return True
                    number = kept.before[number]
    return False


@njit(cache=True, nogil=True)
def _star(centre: np.ndarray, comparison: Comparison) -> Star:
    fan = comparison.fan
    lengths, normals, box = np.empty(len(fan.ray_steps)), np.empty((3, len(fan.cones)), np.float32), np.empty((3, 2), np.int64)
    lengths_at(comparison.field, centre, lengths)
    star_box(centre, lengths, fan.ray_steps, np.array([n // 2 for n in comparison.table.shape]), box)
    gauge(lengths, fan.cones, fan.inverse, normals)
    inside = np.zeros((box[0, 1] - box[0, 0], box[1, 1] - box[1, 0], box[2, 1] - box[2, 0]), np.uint8)
    paint(inside, 1, centre - box[:, 0], box - box[:, :1], normals, comparison.table)
    corners, frame, size = np.empty((2, len(lengths) + 1)), np.empty((2, 2)), star_volume(lengths, fan.cones, fan.volumes)
    if fan.cones.shape[1] == 2:
        # a tiny shift in an irrational direction, so that no corner is exactly on an edge of another polygon
        shift = np.array([1e-6, 1.618034e-6])
        outline(lengths, fan.ray_steps, centre, shift, comparison.rule.whole, corners, frame)
        size = area(corners) if comparison.rule.whole else size
    return Star(centre.copy(), lengths.max(), size, box, inside, corners, frame)


@njit(cache=True, nogil=True)
def _overlap(star: Star, other: np.ndarray, comparison: Comparison, workspace: Workspace) -> bool:
    """Whether a star and the one around another voxel overlap too much."""
    fan = comparison.fan
    lengths_at(comparison.field, other, workspace.lengths)
    size = star_volume(workspace.lengths, fan.cones, fan.volumes)
    if fan.cones.shape[1] == 2:
        offset = np.array([float(other[1] - star.centre[1]), float(other[2] - star.centre[2])])
        outline(workspace.lengths, fan.ray_steps, other, offset, comparison.rule.whole, workspace.corners, workspace.frame)
        limit = _overlap_limit(comparison.rule, star.size, area(workspace.corners) if comparison.rule.whole else size)
        # a cheap upper bound first: neighbours that hardly touch need no exact area
        if _shared_box(star.frame, workspace.frame) <= limit:
            return False
        return shared_area(star.corners, star.frame, workspace.corners, workspace.frame, workspace.scratch) > limit
    limit = _overlap_limit(comparison.rule, star.size, size)
    star_box(other, workspace.lengths, fan.ray_steps, np.array([n // 2 for n in comparison.table.shape]), workspace.box)
    if _shared_box(star.box, workspace.box) <= limit:
        return False
    gauge(workspace.lengths, fan.cones, fan.inverse, workspace.normals)
    return _shares_more_than(star, other, workspace, comparison.table, limit)


@njit(cache=True, nogil=True)
def _shared_box(one: np.ndarray, two: np.ndarray) -> float:
    """Area or volume of the intersection of two boxes (axes, 2): an upper bound for what is inside them."""
    common = 1.0
    for axis in range(len(one)):
        common *= max(min(one[axis, 1], two[axis, 1]) - max(one[axis, 0], two[axis, 0]), 0)
    return common


@njit(cache=True, nogil=True)
def _overlap_limit(rule: OverlapRule, one: float, two: float) -> float:
    """Common area or volume above which two stars of these sizes overlap too much.

    For the union: shared / (one + two - shared) > most, solved for the shared part.
    """
    return rule.most * (one + two) / (1 + rule.most) if rule.union else rule.most * min(one, two)


@njit(cache=True, nogil=True)
def _shares_more_than(star: Star, other: np.ndarray, workspace: Workspace, table: np.ndarray, limit: float) -> bool:
    """Whether a star shares more voxels than the limit with the star around another voxel.

    Counted plane by plane, beginning in the middle where most voxels are, until the answer is certain.
    """
    first, last = np.maximum(star.box[:, 0], workspace.box[:, 0]), np.minimum(star.box[:, 1], workspace.box[:, 1])
    into, onto = first - star.box[:, 0], first - other + np.array([n // 2 for n in table.shape])
    middle = min(max(star.centre[0], first[0]), last[0] - 1) - first[0]
    depth, height, width = last - first
    # `left`: voxels of the common box in the planes that are not counted yet
    count, left = 0, depth * height * width
    for plane in range(depth):
        k = (plane + middle) % depth
        for j in range(height):
            row = star.mask[into[0] + k, into[1] + j, into[2] : into[2] + width]
            cones = table[onto[0] + k, onto[1] + j, onto[2] : onto[2] + width]
            place = first[0] + k - other[0], first[1] + j - other[1], first[2] - other[2]
            count += _count_inside(row, cones, workspace.normals, place)
        left -= height * width
        if count > limit:
            return True
        # even if all remaining voxels were shared, the limit would not be exceeded
        if count + left <= limit:
            return False
    return False


@njit(cache=True, nogil=True)
def _count_inside(row: np.ndarray, cones: np.ndarray, normals: np.ndarray, place: tuple[int, int, int]) -> int:
    """Number of marked voxels of a row inside a star; `place` is the offset of the first voxel from the star's centre."""
    count = 0
    tz, ty, tx = normals
    dz, dy, dx = np.float32(place[0]), np.float32(place[1]), np.float32(place[2])
    for i in range(len(row)):
        cone = cones[i]
        if row[i] and tz[cone] * dz + ty[cone] * dy + tx[cone] * (dx + np.float32(i)) <= 1:
            count += 1
    return count
