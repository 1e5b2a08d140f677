"""A lower bound on the voxels that star polyhedra share with one of them, without visiting every voxel.

The space around a star's centre is divided into blocks of 3 x 3 x 3 voxels. A point is inside a star where its gauge is at most 1, and the
gauge is linear in each cone, so that its maximum over a block follows from the block's middle and extent. Blocks whose maximum is at most 1
are completely inside; the voxels of the other star in them are known from sums that are computed once::

      +---+---+---+      maximum of the gauge over a block <= 1   ->  all its voxels are inside,
      |   | in|   |      add the other star's voxels in this block
      +---+---+---+
      | in| in| in|      once the sum exceeds the limit, the two stars overlap too much

Many stars are processed at once, in lanes of 32 that the compiler turns into SIMD code. What the bound does not decide is compared voxel by
voxel (see `morula.kernels.star_nms`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.kernels.star_shapes import Fan

EDGE = 3
"""Voxels along the edge of a block."""
LANES = 32
"""Stars that are processed at once."""
_SPARE = np.float32(1e-5)
"""Upper bound of the rounding error of a gauge in float32, relative to its summands."""


class Blocks(NamedTuple):
    """Blocks around a centre, the nearest first, and their parts: the voxels of a block that belong to one cone.

    `starts` (blocks, 3): offset of the first voxel from the centre; `near` (blocks,): distance of the nearest voxel; `first` (blocks + 1,):
    index of the first part; `cones` (parts,); `boxes` (parts, 6): middle of each part's voxels from the centre, and half their extent.
    """

    starts: np.ndarray
    near: np.ndarray
    first: np.ndarray
    cones: np.ndarray
    boxes: np.ndarray


class Lanes(NamedTuple):
    """Memory for stars that are processed at once, one per lane.

    Lengths of their rays (rays, lanes) and their `inverse_lengths`, normals of the cones (cones, 3, lanes), volumes; lower bound of the
    shared voxels and their limit, bounds of the gauge in a block, and positions in the sums of `block_sums` (3, lanes).

    For `star_nms_bounds`, flat, one quantity after the other: offset of an ellipsoid (3, lanes), whether it is intersected and whether that
    is still undecided, its placement (5 x lanes), and for each ray its end, the square of that and the inverse length (rays, 5 x lanes).
    """

    lengths: np.ndarray
    inverse_lengths: np.ndarray
    normals: np.ndarray
    sizes: np.ndarray
    shared: np.ndarray
    limit: np.ndarray
    bounds: np.ndarray
    places: np.ndarray
    offset: np.ndarray
    intersects: np.ndarray
    undecided: np.ndarray
    placement: np.ndarray
    corners: np.ndarray


def blocks_of(table: np.ndarray, lengths: np.ndarray) -> Blocks:
    """The blocks of a table of cones (see `morula.kernels.star_shapes.cone_table`) for these edge lengths of a voxel."""
    reach = np.array([n // 2 for n in table.shape])
    # blocks that are cut at the end of the table would be of no use
    most = np.minimum(reach // EDGE + 1, (2 * reach + 1) // EDGE)
    corners = [np.arange(-(EDGE // 2) - EDGE * n, r - EDGE + 2, EDGE) for n, r in zip(most, reach, strict=True)]
    corners = [offsets[offsets >= -r] for offsets, r in zip(corners, reach, strict=True)]
    starts = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    nearest = np.maximum(np.maximum(starts, -(starts + EDGE - 1)), 0) * lengths
    near = np.sqrt((nearest**2).sum(axis=1)).astype(np.float32)
    order = np.argsort(near, kind="stable")
    starts = np.ascontiguousarray(starts[order], np.int64)
    first, cones, boxes = _parts(table, starts)
    return Blocks(starts, near[order], first, cones, boxes)


@njit(cache=True, nogil=True)
def _parts(table: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rz, ry, rx = table.shape[0] // 2, table.shape[1] // 2, table.shape[2] // 2
    first = np.zeros(len(starts) + 1, np.int64)
    cones, boxes = np.empty(4 * len(starts) + 64, np.int64), np.empty((4 * len(starts) + 64, 6), np.float32)
    low, high, number = np.empty((EDGE**3, 3)), np.empty((EDGE**3, 3)), 0
    for block in range(len(starts)):
        begin = number
        # a block has at most one part per voxel
        if number + EDGE**3 > len(cones):
            cones, boxes = np.concatenate((cones, np.empty_like(cones))), np.concatenate((boxes, np.empty_like(boxes)))
        for k in range(EDGE**3):
            place = starts[block, 0] + k // (EDGE * EDGE), starts[block, 1] + k // EDGE % EDGE, starts[block, 2] + k % EDGE
            cone = table[rz + place[0], ry + place[1], rx + place[2]]
            part = begin
            while part < number and cones[part] != cone:
                part += 1
            for axis in range(3):
                if part == number:
                    low[part - begin, axis] = high[part - begin, axis] = place[axis]
                low[part - begin, axis] = min(low[part - begin, axis], place[axis])
                high[part - begin, axis] = max(high[part - begin, axis], place[axis])
            if part == number:
                cones[part] = cone
                number += 1
        for part in range(begin, number):
            for axis in range(3):
                least, most = low[part - begin, axis], high[part - begin, axis]
                middle, half = (least + most) / 2, (most - least) / 2
                boxes[part, axis] = middle
                # enlarged by what rounding may add to the gauge, so that the bound stays a bound
                boxes[part, 3 + axis] = half + _SPARE * (abs(middle) + half)
        first[block + 1] = number
    return first, cones[:number].copy(), boxes[:number].copy()


@njit(cache=True, nogil=True)
def lanes_of(fan: Fan) -> Lanes:
    """Memory for the stars of a fan."""
    return Lanes(
        np.ones((len(fan.ray_steps), LANES)),
        np.ones((len(fan.ray_steps), LANES)),
        np.empty((len(fan.cones) if fan.cones.shape[1] == 3 else 0, 3, LANES), np.float32),
        np.empty(LANES),
        np.empty(LANES, np.int32),
        np.empty(LANES),
        np.empty(LANES, np.float32),
        np.zeros((3, LANES), np.int32),
        np.zeros((3, LANES)),
        np.zeros(LANES, np.float32),
        np.zeros(LANES, np.float32),
        np.empty(5 * LANES, np.float32),
        np.empty((len(fan.ray_steps), 5 * LANES), np.float32),
    )


@njit(cache=True, nogil=True)
def block_sums(inside: np.ndarray) -> np.ndarray:
    """Number of voxels of a star in the block that ends at each voxel; blocks before the star contain none."""
    sums = np.zeros((inside.shape[0] + EDGE, inside.shape[1] + EDGE, inside.shape[2] + EDGE), np.int32)
    for z in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for x in range(inside.shape[2]):
                sums[z + 1, y + 1, x + 1] = inside[z, y, x]
    # sums along one axis after the other: 6 additions per voxel instead of 26
    for axis in range(3):
        before = sums.copy()
        for z in range(1, sums.shape[0]):
            for y in range(1, sums.shape[1]):
                for k in range(1, EDGE):
                    from_z, from_y, from_x = z - (k if axis == 0 else 0), y - (k if axis == 1 else 0), k if axis == 2 else 0
                    if from_z > 0 and from_y > 0:
                        source, target = before[from_z, from_y], sums[z, y]
                        for x in range(1 + from_x, len(target)):
                            target[x] += source[x - from_x]
    return sums


@njit(cache=True, nogil=True)
def sizes_of(lanes: Lanes, fan: Fan) -> None:
    """Areas or volumes of the stars whose rays are in the lanes."""
    lengths, sizes = lanes.lengths, lanes.sizes
    sizes[:] = 0.0
    for cone in range(len(fan.cones)):
        one, two, three = lengths[fan.cones[cone, 0]], lengths[fan.cones[cone, 1]], lengths[fan.cones[cone, -1]]
        volume = fan.volumes[cone]
        if fan.cones.shape[1] == 3:
            for lane in range(LANES):
                sizes[lane] += volume * one[lane] * two[lane] * three[lane]
        else:
            for lane in range(LANES):
                sizes[lane] += volume * one[lane] * two[lane]


@njit(cache=True, nogil=True)
def gauges(lanes: Lanes, fan: Fan) -> None:
    """Gauges of the polyhedra whose rays are in the lanes."""
    inverse_lengths, normals = lanes.inverse_lengths, lanes.normals
    for cone in range(len(fan.cones)):
        one, two, three = fan.cones[cone, 0], fan.cones[cone, 1], fan.cones[cone, 2]
        first, second, third = inverse_lengths[one], inverse_lengths[two], inverse_lengths[three]
        for axis in range(3):
            a, b, c = fan.inverse[cone, 0, axis], fan.inverse[cone, 1, axis], fan.inverse[cone, 2, axis]
            target = normals[cone, axis]
            for lane in range(LANES):
                target[lane] = a * first[lane] + b * second[lane] + c * third[lane]


@njit(cache=True, nogil=True)
def share_at_least(lanes: Lanes, blocks: Blocks, sums: np.ndarray, farthest: float) -> None:
    """Lower bound of the voxels that the stars in the lanes share with the star of the `sums`; counting stops once it exceeds `limit` in
    all lanes.

    Args:
        lanes: the stars; `places` are the positions of their centres in the sums.
        blocks: the blocks around a centre.
        sums: from `block_sums`.
        farthest: longest of their rays.
    """
    bounds, shared, limit, normals, places = lanes.bounds, lanes.shared, lanes.limit, lanes.normals, lanes.places
    boxes, flat = blocks.boxes, sums.ravel()
    nz, ny, nx = np.int32(sums.shape[0]), np.int32(sums.shape[1]), np.int32(sums.shape[2])
    pz, py, px = places[0], places[1], places[2]
    shared[:] = 0
    for block in range(len(blocks.near)):
        # blocks are sorted by distance: no star reaches any further one
        if blocks.near[block] > farthest:
            break
        bounds[:] = 0
        for part in range(blocks.first[block], blocks.first[block + 1]):
            mz, my, mx, hz, hy, hx = boxes[part, 0], boxes[part, 1], boxes[part, 2], boxes[part, 3], boxes[part, 4], boxes[part, 5]
            cone = blocks.cones[part]
            tz, ty, tx = normals[cone, 0], normals[cone, 1], normals[cone, 2]  # indexed, so that they are known to be contiguous
            for lane in range(LANES):
                a, b, c = tz[lane], ty[lane], tx[lane]
                # the largest value of a linear function over a box: at its middle plus the half extents
                bound = a * mz + b * my + c * mx + abs(a) * hz + abs(b) * hy + abs(c) * hx
                bounds[lane] = bound if bound > bounds[lane] else bounds[lane]
        oz, oy, ox = np.int32(blocks.starts[block, 0]), np.int32(blocks.starts[block, 1]), np.int32(blocks.starts[block, 2])
        for lane in range(LANES):
            z, y, x = pz[lane] + oz, py[lane] + oy, px[lane] + ox
            in_sums = (z >= 0) & (y >= 0) & (x >= 0) & (z < nz) & (y < ny) & (x < nx) & (bounds[lane] <= 1)
            # a block outside the sums reads their first entry, which is 0: no branch
            shared[lane] += flat[np.uint32((z * ny + y) * nx + x) if in_sums else np.uint32(0)]
        # checked only now and then: the check is not free
        if block % 8 == 7:
            done = True
            for lane in range(LANES):
                done &= shared[lane] > limit[lane]
            if done:
                break
