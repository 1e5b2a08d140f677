"""Star polygons as closed lines of corners, and the exact area that two of them have in common.

The area of a polygon is half the sum of the cross products of its edges (shoelace formula). The common area of two polygons is the same sum
over the parts of the edges of each one that are inside the other. Those parts follow from the crossings of edges, found in one pass over
all pairs of edges whose boxes overlap. Complexity: edges x nearby edges. No polygon is constructed, and no case distinctions are needed.
"""

from __future__ import annotations

import math

import numpy as np

from morula.core.compiled import njit


@njit(cache=True, nogil=True)
def outline(
    lengths: np.ndarray, ray_steps: np.ndarray, centre: np.ndarray, offset: np.ndarray, whole: bool, out: np.ndarray, box: np.ndarray
) -> None:
    """Corners of a polygon (2, rays + 1), the first one again at the end, and its box.

    Args:
        lengths: lengths of its rays.
        ray_steps: the rays (see `morula.kernels.star_shapes.Fan`).
        centre: its voxel (3,).
        offset: position of the centre in the coordinates of the corners (2,).
        whole: whether corners are truncated to whole pixels of the image.
        out: written to.
        box: written to.
    """
    rays = len(lengths)
    for axis in range(2):
        for ray in range(rays):
            end = lengths[ray] * ray_steps[ray, 1 + axis]
            out[axis, ray] = offset[axis] + (math.trunc(centre[1 + axis] + end) - centre[1 + axis] if whole else end)
        out[axis, rays] = out[axis, 0]
        box[axis, 0], box[axis, 1] = out[axis].min(), out[axis].max()


@njit(cache=True, nogil=True)
def area(polygon: np.ndarray) -> float:
    """Area of a polygon."""
    total = 0.0
    for j in range(polygon.shape[1] - 1):
        total += polygon[1, j] * polygon[0, j + 1] - polygon[0, j] * polygon[1, j + 1]
    return 0.5 * abs(total)


@njit(cache=True, nogil=True)
def shared_area(one: np.ndarray, box: np.ndarray, two: np.ndarray, other: np.ndarray, scratch: np.ndarray) -> float:
    """Area that two polygons have in common: half the sum, over all edges, of the cross product of an edge's ends times the part of the
    edge that is inside the other polygon.

    That part follows from the crossings: entering at the share t of the edge adds 1 - t, leaving subtracts it, and an edge that begins
    inside starts with 1.
    """
    # for the edges of the second polygon: the share that lies inside the first one, and how often the edge enters it, net of exits
    side, over, steps = scratch
    over[:], steps[:] = 0.0, 0.0
    near = _edges_near(two, box)
    # one test for the first corner; crossings keep `inside` up to date from corner to corner
    inside = 1.0 if _within(one[0, 0], one[1, 0], two) else 0.0
    area = 0.0
    for i in range(one.shape[1] - 1):
        ay, ax, by, bx = one[0, i], one[1, i], one[0, i + 1], one[1, i + 1]
        part, step = inside, 0.0
        if max(ay, by) >= other[0, 0] and min(ay, by) <= other[0, 1] and max(ax, bx) >= other[1, 0] and min(ax, bx) <= other[1, 1]:
            for j in range(two.shape[1]):
                # on which side of this edge the corners of the other polygon are
                side[j] = (bx - ax) * (two[0, j] - ay) - (by - ay) * (two[1, j] - ax)
            for j in near:
                if (side[j] < 0) != (side[j + 1] < 0):
                    fy, fx = two[0, j + 1] - two[0, j], two[1, j + 1] - two[1, j]
                    start = fx * (ay - two[0, j]) - fy * (ax - two[1, j])
                    stop = fx * (by - two[0, j]) - fy * (bx - two[1, j])
                    # the edges cross: each one has its ends on different sides of the other
                    if (start < 0) != (stop < 0):
                        sign = 1.0 if start < 0 else -1.0
                        part += sign * (stop / (stop - start))
                        step += sign
                        over[j] -= sign * (side[j + 1] / (side[j + 1] - side[j]))
                        steps[j] -= sign
        area += part * (ax * by - ay * bx)
        inside += step
    inside = 1.0 if _within(two[0, 0], two[1, 0], one) else 0.0
    for j in range(two.shape[1] - 1):
        area += (inside + over[j]) * (two[1, j] * two[0, j + 1] - two[0, j] * two[1, j + 1])
        inside += steps[j]
    return 0.5 * area


@njit(cache=True, nogil=True)
def _edges_near(polygon: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Edges of a polygon that may reach into a box."""
    edges, number = np.empty(polygon.shape[1] - 1, np.int64), 0
    for j in range(polygon.shape[1] - 1):
        y, x, by, bx = polygon[0, j], polygon[1, j], polygon[0, j + 1], polygon[1, j + 1]
        if max(y, by) >= box[0, 0] and min(y, by) <= box[0, 1] and max(x, bx) >= box[1, 0] and min(x, bx) <= box[1, 1]:
            edges[number] = j
            number += 1
    return edges[:number]


@njit(cache=True, nogil=True)
def _within(y: float, x: float, polygon: np.ndarray) -> bool:
    """Whether a point is inside a polygon: it is where a ray along x crosses its edges an odd number of times."""
    inside = False
    for j in range(polygon.shape[1] - 1):
        # half-open intervals: a corner at the height of the point counts for one of its two edges
        if (polygon[0, j] > y) != (polygon[0, j + 1] > y):
            share = (y - polygon[0, j]) / (polygon[0, j + 1] - polygon[0, j])
            if x < polygon[1, j] + share * (polygon[1, j + 1] - polygon[1, j]):
                inside = not inside
    return inside
