"""Dc: distance to the centre of the object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import edt
import numpy as np

from morula.core.compiled import njit
from morula.core.label_image import as_volume, compact_ids, read_only
from morula.kernels.geometry import Geometry, geometry
from morula.labels.distance import normalise
from morula.labels.skeleton import skeleton
from morula.representations.base import Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel Dc."""

    kind: Literal["Dc"] = "Dc"
    """Name of the variant."""

    type: Literal["centroid", "skeleton"] = "centroid"
    """Distance to the object's centroid, or to the nearest voxel of its skeleton."""
    norm: bool = True
    """Scale the distances of each object to [0, 1]; otherwise they are lengths in the unit of the voxel size."""
    mask_values: bool = True
    """Count the loss only inside objects, where another channel predicts the foreground."""


class DistanceToCentre(Representation[Options]):
    """Euclidean distance of each voxel to the centroid or skeleton of its object, 0 in the background. Distances respect the voxel size.

    Examples:
        >>> DistanceToCentre(Options(norm=False)).encode(np.array([[0, 1, 1, 1, 0]], np.uint32), (1, 0.5))
        array([[[0. , 0.5, 0. , 0.5, 0. ]]], dtype=float32)
    """

    code = "Dc"
    depth = "centre"
    inverted = True
    per_object = True
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.activation = "sigmoid" if self.options.norm else "linear"
        self.full_scale = 1.0 if self.options.norm else None
        self.loss = "l1"
        self.masked = self.options.mask_values

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        ids, largest = compact_ids(labels)
        found = geometry(ids, largest)
        values = np.zeros(labels.shape, np.float32)
        if self.options.type == "skeleton":
            _to_skeleton(ids, found, spacing, values)
        else:
            centres, lengths = np.zeros((largest + 1, 3)), np.ones(3)
            centres[:, 3 - labels.ndim :], lengths[3 - labels.ndim :] = found.centroids, spacing
            _to_point(as_volume(read_only(ids)), centres, lengths, as_volume(values))
        if self.options.norm:
            # an object of one voxel is all centre: its distance is 0, not 1
            values = normalise(values, ids, largest, constant=0.0)
        return values[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: centre and scale depend on whole objects."""
        return whole_object_context(spacing)


def _to_skeleton(labels: np.ndarray, found: Geometry, spacing: Sequence[float], out: np.ndarray) -> None:
    for label in found.ids:
        box = found.box(label)
        # per object: a skeleton of touching objects would run through both
        inside = labels[box] == label
        away = edt.edt(~skeleton(inside, spacing, "full"), anisotropy=tuple(spacing), black_border=False)
        out[box][inside] = away[inside]


@njit(cache=True, nogil=True)
def _to_point(ids: np.ndarray, centres: np.ndarray, spacing: np.ndarray, out: np.ndarray) -> None:
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                label = ids[z, y, x]
                if label != 0:
                    a = (z - centres[label, 0]) * spacing[0]
                    b = (y - centres[label, 1]) * spacing[1]
                    c = (x - centres[label, 2]) * spacing[2]
                    out[z, y, x] = np.sqrt(a * a + b * b + c * c)
