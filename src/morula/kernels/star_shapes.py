"""Star-convex polygons and polyhedra: a centre, and how far the shape reaches along each of several rays.

The rays divide space into cones: one per pair of neighbouring rays in 2D, one per triangle of the convex hull of the rays in 3D::

          r1                 A point p in the cone of r0 and r1 is a sum of its rays, p = a r0 + b r1.
         /  . p              The surface is flat between the ends of the rays (lengths d0 and d1), so that
        /  .                 p is inside where  a / d0 + b / d1 <= 1.  This sum is called the gauge of p;
       c ------- r0          it is linear in p: one scalar product with a normal vector per cone.

A table gives the cone of every voxel around a centre, so that testing a voxel takes one look-up and one scalar product.

After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import OptionError
from morula.kernels.star_rays import directions


class Fan(NamedTuple):
    """The cones of the rays of `morula.kernels.star_rays.directions`, in voxels, for three axes (z is 0 in 2D).

    `ray_steps` (rays, 3): the step in voxels along each ray for a length of 1; `cones` (cones, ndim): the rays at the edges of each;
    `across` (cones, ndim): the neighbouring cone opposite to each edge; `inverse` (cones, ndim, 3): maps a point to its shares of the
    edges; `volumes` (cones,): area or volume of each cone up to the length 1.
    """

    ray_steps: np.ndarray
    cones: np.ndarray
    across: np.ndarray
    inverse: np.ndarray
    volumes: np.ndarray


def fan_of(count: int, spacing: Sequence[float]) -> Fan:
    """Cones of a number of rays, for voxels of this spacing; lengths are in the unit of the spacing.

    Raises:
        OptionError: when the rays do not surround the centre (3D).

    Examples:
        >>> fan = fan_of(4, (1, 1))
        >>> fan.cones.tolist(), fan.volumes.tolist()
        ([[0, 1], [1, 2], [2, 3], [3, 0]], [0.5, 0.5, 0.5, 0.5])
    """
    ndim = len(spacing)
    rays = directions(count, ndim)
    if ndim == 2:
        first = np.arange(count)
        cones = np.stack([first, (first + 1) % count], axis=1)
    else:
        from scipy.spatial import ConvexHull

        # a face of the hull within 0.1 of the centre, or beyond it: rays would leave a direction almost uncovered
        hull = ConvexHull(rays) if count > 3 else None
        if hull is None or hull.equations[:, -1].max() > -0.1:
            raise OptionError(
                "rays.too_few",
                "these rays do not surround a point in 3D",
                key="nrays",
                value=count,
                remedy="Use 6 or more; 96 is customary.",
            )
        # Qhull's order of the triangles and their corners may change between versions
        cones = np.sort(hull.simplices, axis=1)
        cones = cones[np.lexsort(cones.T[::-1])]
    steps = rays / np.asarray(spacing, float)
    edges = steps[cones]
    inverse = np.zeros((len(cones), ndim, 3))
    inverse[:, :, 3 - ndim :] = np.linalg.inv(edges.transpose(0, 2, 1))
    ray_steps = np.zeros((count, 3))
    ray_steps[:, 3 - ndim :] = steps
    volumes = np.abs(np.linalg.det(edges)) / math.factorial(ndim)
    return Fan(ray_steps, cones.astype(np.int64), _across(cones), inverse, volumes)


def _across(cones: np.ndarray) -> np.ndarray:
    # a wall, shared by two cones, is what remains of their edges without the opposite one
    walls: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for cone, edges in enumerate(cones.tolist()):
        for edge, wall in enumerate(itertools.combinations(edges, len(edges) - 1)):
            walls.setdefault(tuple(sorted(wall)), []).append((cone, len(edges) - 1 - edge))
    across = np.empty(cones.shape, np.int64)
    for (one, opposite_one), (two, opposite_two) in walls.values():
        across[one, opposite_one], across[two, opposite_two] = two, one
    return across


def cone_table(fan: Fan, reach: np.ndarray) -> np.ndarray:
    """The cone of each voxel that is at most `reach` voxels away from a centre along each axis, an array of 2 reach + 1 voxels uint16."""
    table = np.zeros(tuple(2 * int(r) + 1 for r in reach), np.uint16)
    _fill_table(fan.inverse, fan.across, table)
    return table


@njit(cache=True, nogil=True)
def _fill_table(inverse: np.ndarray, across: np.ndarray, table: np.ndarray) -> None:
    """Fill the table: the search starts in the cone of the previous voxel and walks to neighbouring cones, which takes a step or none."""
    rz, ry, rx = table.shape[0] // 2, table.shape[1] // 2, table.shape[2] // 2
    count, ndim = across.shape
    cone = 0
    for z in range(table.shape[0]):
        for y in range(table.shape[1]):
            for x in range(table.shape[2]):
                for step in range(2 * count):
                    # a walk that turns in circles ends in trying all cones
                    current = cone if step < count else step - count
                    crossed, lowest = 0, 0.0
                    for edge in range(ndim):
                        row = inverse[current, edge]
                        share = row[0] * (z - rz) + row[1] * (y - ry) + row[2] * (x - rx)
                        if share < lowest:
                            crossed, lowest = edge, share
                    # no share is negative: the voxel is in this cone; the tolerance is for voxels on the wall between two
                    if lowest > -1e-9:
                        cone = current
                        break
                    cone = across[current, crossed]
                table[z, y, x] = cone


@njit(cache=True, nogil=True)
def star_volume(lengths: np.ndarray, cones: np.ndarray, volumes: np.ndarray) -> float:
    """Area (2D) or volume (3D) in voxels."""
    total = 0.0
    if cones.shape[1] == 2:
        for cone in range(len(cones)):
            total += volumes[cone] * lengths[cones[cone, 0]] * lengths[cones[cone, 1]]
    else:
        for cone in range(len(cones)):
            total += volumes[cone] * lengths[cones[cone, 0]] * lengths[cones[cone, 1]] * lengths[cones[cone, 2]]
    return total


@njit(cache=True, nogil=True)
def gauge(lengths: np.ndarray, cones: np.ndarray, inverse: np.ndarray, out: np.ndarray) -> None:
    """Normal vector of each cone: its scalar product with a point is the gauge, 1 on the surface. Written to `out` (3, cones)."""
    near = 1 / lengths
    for cone in range(len(cones)):
        z, y, x = 0.0, 0.0, 0.0
        for edge in range(cones.shape[1]):
            share = near[cones[cone, edge]]
            z += inverse[cone, edge, 0] * share
            y += inverse[cone, edge, 1] * share
            x += inverse[cone, edge, 2] * share
        out[0, cone], out[1, cone], out[2, cone] = z, y, x


@njit(cache=True, nogil=True)
def star_box(centre: np.ndarray, lengths: np.ndarray, ray_steps: np.ndarray, reach: np.ndarray, box: np.ndarray) -> None:
    """Box (3, 2) of the voxels that can be inside, start <= index < stop; at most `reach` away from the centre."""
    for axis in range(3):
        low, high = 0.0, 0.0
        for ray in range(len(lengths)):
            end = lengths[ray] * ray_steps[ray, axis]
            low, high = min(low, end), max(high, end)
        box[axis, 0] = centre[axis] + max(math.ceil(low), -reach[axis])
        box[axis, 1] = centre[axis] + min(math.floor(high), reach[axis]) + 1


@njit(cache=True, nogil=True)
def paint(labels: np.ndarray, label: int, centre: np.ndarray, box: np.ndarray, normals: np.ndarray, table: np.ndarray) -> None:
    """Write the label into the unlabelled voxels inside a star with this centre, box and normals."""
    mz, my, mx = table.shape[0] // 2 - centre[0], table.shape[1] // 2 - centre[1], table.shape[2] // 2 - centre[2]
    for z in range(max(box[0, 0], 0), min(box[0, 1], labels.shape[0])):
        for y in range(max(box[1, 0], 0), min(box[1, 1], labels.shape[1])):
            for x in range(max(box[2, 0], 0), min(box[2, 1], labels.shape[2])):
                if labels[z, y, x] == 0:
                    cone = table[z + mz, y + my, x + mx]
                    place = normals[0, cone] * (z - centre[0]) + normals[1, cone] * (y - centre[1]) + normals[2, cone] * (x - centre[2])
                    if place <= 1:
                        labels[z, y, x] = label
