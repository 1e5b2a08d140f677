"""E: spatial embeddings as of EmbedSeg: offset to the object's centre, bandwidth and seediness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from morula.core.compiled import njit
from morula.core.errors import OptionError
from morula.core.label_image import compact_ids
from morula.core.orientation import Array, Orientation, orientations
from morula.kernels.geometry import geometry
from morula.representations.base import Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel E."""

    kind: Literal["E"] = "E"
    """Name of the variant."""
    earlier_names: ClassVar[Mapping[str, str]] = {"centre_mode": "center_mode"}

    center_mode: Literal["centroid", "medoid"] = "centroid"
    """Centre of an object: the mean of its voxels, or the voxel with the least sum of distances to the others."""
    medoid_max_points: PositiveInt = 10_000
    """Number of candidates for the medoid, evenly spread over the voxels of an object; all voxels where it has fewer."""
    n_sigma: PositiveInt | None = Field(None, le=3)
    """Bandwidths: one for all axes (1), or one per axis (left out, or the number of axes)."""
    grid_size: int = Field(1024, ge=2)
    """Voxels of the finest axis per unit of offsets and bandwidths, plus one."""
    radius: PositiveFloat | None = None
    """Radius, in voxels of the finest axis, of the bandwidths at the start of training. Left out: a job uses the median radius of its
    training labels; without labels that of EmbedSeg, 5.7 voxels with a `grid_size` of 1024."""
    instance_weight: NonNegativeFloat = 1.0
    """Weight of the instance part of the loss: the Lovasz hinge of each object."""
    variance_weight: NonNegativeFloat = 10.0
    """Weight of the variance part: equal bandwidths in an object."""
    seed_weight: NonNegativeFloat = 1.0
    """Weight of the seed part: seediness equal to the membership, 0 outside."""
    foreground_weight: NonNegativeFloat = 10.0
    """Weight of voxels inside objects in the seed part."""

    @property
    def start(self) -> float:
        """Bandwidth at which the membership is 1/2 at the distance `radius`."""
        assert self.radius is not None
        # membership exp(-d**2 exp(10 sigma)) = 1/2 at d = radius / (grid_size - 1), solved for sigma
        return float(np.log(np.log(2) * (self.grid_size - 1) ** 2 / self.radius**2) / 10)

    def bandwidths(self, ndim: int) -> int:
        """Number of bandwidths.

        Raises:
            OptionError: when it is neither 1 nor the number of axes.
        """
        if self.n_sigma not in (None, 1, ndim):
            raise OptionError(
                "embedding.bandwidth_count",
                f"must be 1 or {ndim}, the number of axes",
                key="n_sigma",
                value=self.n_sigma,
                remedy="Leave it out.",
            )
        return self.n_sigma or ndim

    def units(self, spacing: Sequence[float]) -> np.ndarray:
        """Length of a voxel along each axis (array order) in the unit of the offsets."""
        return np.asarray(spacing, np.float64) / min(spacing) / (self.grid_size - 1)


class Embedding(Representation[Options]):
    """Channels for EmbedSeg: offsets to the centre along x, y (and z), bandwidths sigma in the same order, and seediness.

    A voxel at x with offset o is embedded at e = x + o. It belongs to the object with centre c and bandwidth sigma with the membership
    exp(-sum over the axes of (e - c)^2 exp(10 sigma)). Lengths are counted in units of `grid_size` - 1 voxels of the finest axis.
    Bandwidths are learned by the loss (`morula.losses.embedseg`); those encoded here are 1/4 of the object's size, so that ideal channels
    decode. After Lalit et al., EmbedSeg (Medical Image Analysis 81, 2022).

    Examples:
        >>> made = Embedding(Options(grid_size=11)).encode(np.array([[0, 1, 1, 1, 0]], np.uint32), (1, 1))
        >>> made[0, 0, 1:4], made[4]
        (array([ 0.1,  0. , -0.1], dtype=float32), array([[0., 1., 1., 1., 0.]], dtype=float32))
    """

    code = "E"
    embedding = True
    per_object = True
    options_class = Options
    activation = "embedding"
    loss = "embedseg"

    def width(self, ndim: int) -> int:
        """Offsets, bandwidths and seediness."""
        return ndim + self.options.bandwidths(ndim) + 1

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (width, (Z)YX) of labels (Z)YX."""
        ids, largest = compact_ids(labels)
        found = geometry(ids, largest)
        units = self.options.units(spacing)
        centres = np.nan_to_num(found.centroids)  # NaN for ids without a voxel, which no voxel looks up
        if self.options.center_mode == "medoid":
            for label in found.ids:
                box = found.box(label)
                centres[label] = found.starts[label] + _medoid(np.argwhere(ids[box] == label), units, self.options.medoid_max_points)
        out = np.zeros((self.width(labels.ndim), *labels.shape), np.float32)
        for axis in range(labels.ndim):
            place = np.arange(labels.shape[axis]).reshape([-1 if a == axis else 1 for a in range(labels.ndim)])
            # channels are in the order x, y, z; arrays count z, y, x
            out[labels.ndim - 1 - axis] = (centres[:, axis][ids] - place) * units[axis] * (ids > 0)
        voxels = np.maximum(found.sizes, 1) * np.prod(units)
        # a quarter of the radius of a ball with the same volume, at least three quarters of a voxel
        radius = np.maximum((voxels / (np.pi if labels.ndim == 2 else 4 / 3 * np.pi)) ** (1 / labels.ndim) / 4, 0.75 * units.min())
        sigma = np.log(np.log(2) / radius**2) / 10
        out[labels.ndim : -1] = np.where(ids > 0, sigma[ids], 0)
        out[-1] = ids > 0
        return out

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: centres depend on whole objects."""
        return whole_object_context(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Reorient the channels: offsets and bandwidths are exchanged with the axes, offsets change their sign where an axis is flipped."""
        turned = orientation.apply(array)
        ndim = orientation.ndim
        before = (slice(None),) * (turned.ndim - ndim - 1)  # type: ignore[attr-defined]
        # channel i belongs to array axis ndim - 1 - i, because channels are in the order x, y, z
        swap = [ndim - 1 - orientation.permutation[ndim - 1 - channel] for channel in range(ndim)]
        several = self.options.bandwidths(ndim) > 1
        order = swap + ([ndim + channel for channel in swap] if several else [ndim])
        result = turned[(*before, [*order, len(order)])]  # type: ignore[index]
        for axis, flip in enumerate(orientation.flips):
            if flip:
                place = (*before, ndim - 1 - axis)
                result[place] = -result[place]
        return result

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """All that keep the voxel's shape."""
        return orientations(spacing)


def _medoid(voxels: np.ndarray, units: np.ndarray, most: int) -> np.ndarray:
    """The medoid among at most `most` evenly spread voxels: the one with the smallest sum of distances to the others."""
    chosen = voxels[np.linspace(0, len(voxels) - 1, min(len(voxels), most)).round().astype(int)]
    result: np.ndarray = chosen[_least(chosen * (units / units.min()))]
    return result


@njit(cache=True, nogil=True)
def _least(points: np.ndarray) -> int:
    best, least = 0, np.inf
    for i in range(len(points)):
        total = 0.0
        for j in range(len(points)):
            square = 0.0
            for axis in range(points.shape[1]):
                square += (points[i, axis] - points[j, axis]) ** 2
            total += np.sqrt(square)
        # the tolerance makes ties independent of rounding: the first of equal voxels wins
        if total < least - 1e-9:
            best, least = i, total
    return best
