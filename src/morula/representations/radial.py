"""R: distances to the boundary of the object along rays, as StarDist predicts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat

from morula.core.label_image import compact_ids
from morula.core.orientation import Array, Orientation, orientations
from morula.kernels.star_rays import directions, ray_lengths
from morula.representations.base import Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel R."""

    kind: Literal["R"] = "R"
    """Name of the variant."""

    nrays: int | None = Field(None, ge=3)
    """Number of rays; 32 in 2D and 96 in 3D where left out."""
    norm: bool = True
    """Divide the distances by `scale`; otherwise they are lengths in the unit of the voxel size."""
    scale: PositiveFloat = 32.0
    """Length that a value of 1 stands for where `norm` is on, in voxels of the finest axis; decoding multiplies by it again."""
    unit: PositiveFloat = 4.0
    """Length that a network output of 1 stands for, in voxels of the finest axis: a fraction of most ray lengths. A larger unit is learned
    faster where the median object is much larger."""
    mask_values: bool = True
    """Count the loss only inside objects, where another channel predicts the foreground."""

    def count(self, ndim: int) -> int:
        """Number of rays."""
        return self.nrays or (32 if ndim == 2 else 96)

    def length(self, spacing: Sequence[float]) -> float:
        """Length that stands for 1."""
        return float(self.scale * min(spacing)) if self.norm else 1.0


class RadialDistances(Representation[Options]):
    """Distance from each voxel of an object to the object's boundary along several rays, one channel per ray; 0 in the background.

    Directions are those of `morula.kernels.star_rays.directions`; the voxel size is obeyed.

    Examples:
        >>> RadialDistances(Options(nrays=4, norm=False)).encode(np.array([[0, 1, 1, 1, 0]], np.uint32), (1, 1))[:, 0, 1]
        array([2.5, 0.5, 0.5, 0.5], dtype=float32)
    """

    code = "R"
    star_rays = True
    per_object = True
    options_class = Options
    activation = "linear"
    loss = "l1"
    loss_weight = 0.25
    """With a higher weight the probability of objects is learned late."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.masked = self.options.mask_values

    def width(self, ndim: int) -> int:
        """Number of rays."""
        return self.options.count(ndim)

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (rays, (Z)YX) of labels (Z)YX."""
        out = np.empty((self.options.count(labels.ndim), *labels.shape), np.float32)
        self.encode_into(labels, spacing, out)
        return out

    def encode_into(self, labels: np.ndarray, spacing: Sequence[float], out: np.ndarray) -> None:
        """Write the targets into an array (rays, (Z)YX)."""
        ids, _ = compact_ids(labels)
        ray_lengths(ids, self.options.count(labels.ndim), spacing, self.options.length(spacing), out=out)

    def unit(self, spacing: Sequence[float]) -> float:
        """`unit` voxels of the finest axis, scaled as the channel is."""
        return self.options.unit * min(spacing) / self.options.length(spacing)

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: rays cross whole objects."""
        return whole_object_context(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Reorient the channels; each ray takes the values of the ray that is rotated onto it."""
        sources = _sources(self.options.count(orientation.ndim), orientation)
        turned = orientation.apply(array)
        lead = turned.ndim - orientation.ndim - 1  # type: ignore[attr-defined]
        return turned[(slice(None),) * lead + (sources,)]  # type: ignore[index]

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """Orientations that map the rays onto each other: all 8 in 2D for multiples of 4 rays; only the identity in 3D."""
        count = self.options.count(len(spacing))
        return [orientation for orientation in orientations(spacing) if len(set(_sources(count, orientation))) == count]


def _sources(count: int, orientation: Orientation) -> list[int]:
    """For each ray the one that is rotated onto it; all 0 where the rays do not map onto each other."""
    rays = directions(count, orientation.ndim)
    # an orientation is allowed when it maps the set of rays onto itself
    turned = np.array([orientation.reorient_vector(tuple(ray)) for ray in rays])
    distance = ((rays[:, None] - turned[None]) ** 2).sum(axis=2)
    found = distance.argmin(axis=1)
    # directions are unit vectors in float64: rays that map onto each other differ by rounding only
    return found.tolist() if (distance.min(axis=1) < 1e-12).all() else [0] * count
