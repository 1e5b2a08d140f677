"""P: the centre of each object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.core.label_image import as_volume, compact_ids, read_only, rows_to_3d
from morula.kernels.geometry import Geometry, geometry
from morula.labels.centroids import inner_centroids
from morula.labels.morphology import Radius, ellipsoid, erode, radii, stamp
from morula.labels.skeleton import skeleton
from morula.representations.base import Representation, one_channel, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel P."""

    kind: Literal["P"] = "P"
    """Name of the variant."""

    type: Literal["centroid", "skeleton"] = "centroid"
    """Mark the voxel at the object's centroid (the nearest one inside it), or its skeleton."""
    skeleton_mode: Literal["full", "main"] = "full"
    """The whole skeleton, or only its longest path."""
    dilation: Radius = 1
    """Grow the marks by this many voxels of the finest axis, or by one number per axis; a mark never leaves its object."""
    erosion: Radius = 0
    """Then erode each mark by this many voxels."""


class Centre(Representation[Options]):
    """1 at the centre or skeleton of each object, 0 elsewhere.

    Examples:
        >>> Centre(Options(dilation=0)).encode(np.array([[1, 1, 1, 2, 2]], np.uint32), (1, 1))
        array([[[0., 1., 0., 0., 1.]]], dtype=float32)
    """

    code = "P"
    seed_evidence = True
    rebalance = "rarer"
    per_object = True
    options_class = Options

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        ids, largest = compact_ids(labels)
        table = geometry(ids, largest)
        if self.options.type == "skeleton":
            marks = _skeletons(ids, table, spacing, self.options.skeleton_mode)
        else:
            marks = inner_centroids(ids, table, spacing)
        radius = radii(self.options.dilation, spacing)
        # marks are stamped per object: a dilation of the whole image would grow marks into neighbours
        offsets = np.argwhere(ellipsoid(radius)) - np.asarray(radius)
        out = np.zeros(labels.shape, np.float32)
        stamp(as_volume(read_only(ids)), rows_to_3d(marks), rows_to_3d(offsets), as_volume(out))
        # eroded per object, since marks of touching objects may touch
        erosion = radii(self.options.erosion, spacing)
        return one_channel(erode(np.where(out > 0, ids, np.uint32(0)), erosion) > 0) if any(erosion) else out[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: the centre depends on the whole object."""
        return whole_object_context(spacing)


def _skeletons(labels: np.ndarray, table: Geometry, spacing: Sequence[float], mode: Literal["full", "main"]) -> np.ndarray:
    """Voxels of the skeletons of all objects, (n, ndim)."""
    voxels = [np.argwhere(skeleton(labels[table.box(label)] == label, spacing, mode)) + table.starts[label] for label in table.ids]
    # the empty array keeps the shape where there is no object
    return np.concatenate([np.zeros((0, labels.ndim), np.int64), *voxels])
