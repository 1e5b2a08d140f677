"""Measure objects whose boxes do not fit into the memory: sums over blocks of their voxels, in one pass for all of them.

Sizes, moments, intensities, faces and outlines of an object are sums over its voxels, over pairs of neighbours or over cells of 2 voxels
along each axis. So they are taken block by block, with a margin where neighbours count, and are those of the whole object up to the
rounding of sums. Of the extra properties, which scikit-image computes, only those that follow from these sums are known; the others are
NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from morula.core.array import ArraySource
from morula.core.label_image import read_only, smallest_type
from morula.core.region import Region, blocks
from morula.core.voxel_size import VoxelSize
from morula.kernels.geometry import Geometry, geometry
from morula.measurement.columns import Columns, Sums, add_intensities, columns_of
from morula.measurement.evidence import RING, add_faces, contrasts, ellipsoid_fit, share_touching, surroundings
from morula.measurement.measures import Boxes, Measures
from morula.measurement.shape import add_moments, moments_of, outlines_in

KNOWN_EXTRA = ("area", "area_bbox", "extent", "equivalent_diameter_area", "axis_major_length", "axis_minor_length", "eccentricity")
"""Extra properties that follow from the sums."""
_NEIGHBOURS = 2  # voxels around a block in which outlines look
_LEAST = 16  # edge length of a block that is not halved further


def measure_large(
    labels: ArraySource, boxes: Boxes, members: np.ndarray, image: ArraySource | None, *, room: int, measures: Measures
) -> tuple[Columns, Columns, Columns]:
    """Measure some objects in blocks of at most `room` voxels.

    Args:
        labels: ids 1..n (Z)YX, may be lazy.
        boxes: sizes and boxes of all objects.
        members: rows of the objects that are measured, ascending.
        image: C(Z)YX, may be lazy.
        room: voxels that may be in memory at a time.
        measures: what is measured.

    Returns:
        The columns of `morula.measure` without the extra ones; the extra properties that are known, by their names in scikit-image;
        the columns of evidence.
    """
    sums = _Pass(labels, boxes, members, image, room, measures)
    for block in sums.blocks():
        sums.add(block)
    return sums.columns(), sums.extra(), sums.evidence() if measures.evidence else {}


class _Pass:
    """The sums of one pass over the blocks; row 0 is the background, row i + 1 the object `members[i]`, the last row all other objects."""

    def __init__(
        self, labels: ArraySource, boxes: Boxes, members: np.ndarray, image: ArraySource | None, room: int, measures: Measures
    ) -> None:
        self.labels, self.image, self.room, self.measures = labels, image, room, measures
        self.flat = len(labels.shape) == 3 and labels.shape[0] == 1  # measured in 2D
        self.shape = tuple(labels.shape[self.flat :])
        self.members = members
        self.size = VoxelSize.of(measures.voxel_size, len(labels.shape))
        self.spacing = self.size.spacing(len(self.shape))
        self.voxels = boxes.voxels[members]
        self.starts, self.stops = boxes.starts[members, self.flat :], boxes.stops[members, self.flat :]
        others = len(members) + 1
        self.rows = np.full(len(boxes.voxels) + 1, others, smallest_type(others))
        self.rows[0], self.rows[members + 1] = 0, np.arange(1, others)
        n, ndim, channels = others + 1, len(self.shape), 0 if image is None else image.shape[0]
        # about the centre of the box, from which no voxel is far
        self.points = np.zeros((n, ndim))
        self.points[1:others] = (self.starts + self.stops) / 2
        self.places, self.moments, self.outlines = np.zeros((n, ndim)), np.zeros((n, 7)), np.zeros(n)
        self.faces = np.zeros((2, n))
        self.inside, self.around = np.zeros((2, channels, n, 6))

    def blocks(self) -> Iterator[Region]:
        """The blocks around the objects."""
        margin = self._margin
        low, high = self.starts.min(axis=0), self.stops.max(axis=0)
        edges = (high - low).tolist()
        while math.prod(edge + 2 * margin for edge in edges) > self.room and max(edges) > _LEAST:
            longest = edges.index(max(edges))
            edges[longest] = -(-edges[longest] // 2)
        near = margin if self.measures.evidence else 0
        low, high = np.maximum(low - near, 0), np.minimum(high + near, self.shape)
        for part in blocks((high - low).tolist(), edges):
            block = part.shift(low.tolist())
            reached = (self.starts - near < block.stop) & (self.stops + near > block.start)
            if reached.all(axis=1).any():
                yield block

    @property
    def _margin(self) -> int:
        # other objects compete for the voxels around an object, so that the ring needs twice its width
        return 2 * RING[1] if self.measures.evidence else _NEIGHBOURS

    def add(self, block: Region) -> None:
        """Add the voxels of a block."""
        window = block.grow((self._margin,) * len(self.shape), within=self.shape)
        labels = self.rows[self._read(self.labels, window)]
        core = block.shift([-start for start in window.start])
        # of the other objects, only the evidence needs to know where they are
        own = np.where(labels == len(self.members) + 1, 0, labels)
        inside = np.ascontiguousarray(own[core.slices])
        if inside.any():
            found = geometry(inside, len(self.points) - 1)
            self.places += np.nan_to_num(found.centroids + block.start) * found.sizes[:, None]
            add_moments(read_only(inside), self.points - block.start, self.moments)
            self.outlines += outlines_in(own, core, len(self.points), self.spacing, self.measures.surface)
        if self.image is not None and (inside.any() or self.measures.evidence):
            self._add_image(labels, inside, core, block)
        if self.measures.evidence:
            for axis in range(labels.ndim):
                add_faces(labels[_with_plane_before(core, axis).slices], axis, self.faces)

    def _add_image(self, labels: np.ndarray, inside: np.ndarray, core: Region, block: Region) -> None:
        around = np.ascontiguousarray(surroundings(labels)[core.slices]) if self.measures.evidence else None
        assert self.image is not None
        for number in range(self.image.shape[0]):
            values = np.asarray(self._read(self.image, block, number), np.float64)
            add_intensities(read_only(inside), values, self.inside[number])
            if around is not None:
                add_intensities(read_only(around), values, self.around[number])

    def _read(self, array: ArraySource, box: Region, *channel: int) -> np.ndarray:
        return np.asarray(array[(*channel, *(0,) * self.flat, *box.slices)])

    def columns(self) -> Columns:
        """The columns of the table."""
        centroids, moments = self._centred()
        sums = Sums(
            Geometry(*map(_with_background, (self.voxels, centroids, self.starts, self.stops))),
            _with_background(moments),
            self.outlines[:-1],
            [stats[:-1] for stats in self.inside] if self.measures.intensity else [],
        )
        ids = np.concatenate([[0], self.members + 1])
        return columns_of(sums, ids, self.size, whole=self.shape, confidence=self.measures.confidence)

    def _centred(self) -> tuple[np.ndarray, np.ndarray]:
        """Centroids and second moments of the objects."""
        own = slice(1, len(self.members) + 1)
        centroids = self.places[own] / self.voxels[:, None]
        return centroids, moments_of(self.moments[own], len(self.shape), centroids - self.points[own])

    def extra(self) -> Columns:
        """Those of the extra properties that follow from the sums, by their names in scikit-image."""
        ndim, voxel = len(self.shape), math.prod(self.spacing)
        # for scikit-image, voxels are points
        spread = (self._centred()[1] - np.eye(ndim) / 12) * np.outer(self.spacing, self.spacing)
        axes = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0) * (16 if ndim == 2 else 20))
        area, box = self.voxels * voxel, (self.stops - self.starts).prod(axis=1) * voxel
        known = {
            "area": area,
            "area_bbox": box,
            "extent": area / box,
            "equivalent_diameter_area": (2 * ndim * area / math.pi) ** (1 / ndim),
            "axis_major_length": axes[:, -1],
            "axis_minor_length": axes[:, 0],
        }
        return known | ({"eccentricity": np.sqrt(1 - (axes[:, 0] / axes[:, -1]) ** 2)} if ndim == 2 else {})

    def evidence(self) -> Columns:
        """See `morula.measurement.evidence.local_evidence`."""
        own = slice(1, len(self.members) + 1)
        return {
            "touching": share_touching(self.faces)[own],
            "ellipsoid_fit": ellipsoid_fit(self.voxels, self._centred()[1]),
            "contrast": contrasts(list(self.inside), list(self.around))[own],
        }


def _with_plane_before(core: Region, axis: int) -> Region:
    """A box with the plane of voxels before it along an axis, if there is one: then each face across the axis belongs to one box."""
    return Region(tuple(max(start - (i == axis), 0) for i, start in enumerate(core.start)), core.stop)


def _with_background(rows: np.ndarray) -> np.ndarray:
    """Rows of objects with one of zeros before them, for the background."""
    return np.concatenate([np.zeros_like(rows[:1]), rows])
