"""H, V and Z: offset to the centre of the object along x, y and z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from morula.core.compiled import njit
from morula.core.errors import OptionError
from morula.core.label_image import as_volume, compact_ids, read_only
from morula.core.orientation import Array, Orientation, orientations
from morula.kernels.geometry import geometry
from morula.labels.partial_labels import labelled_along
from morula.representations.base import Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channels H, V and Z."""

    earlier_names: ClassVar[Mapping[str, str]] = {"act": "activation"}

    norm: bool = True
    """Scale the offsets of each object to [-1, 1], each side of the centre by its own largest; else they are lengths in the unit of the
    voxel size."""
    mask_values: bool = True
    """Count the loss only inside objects, where another channel predicts the foreground."""
    activation: Literal["linear", "tanh"] = "linear"
    """Last layer of the network for this channel. Also called `act`."""

    @model_validator(mode="after")
    def _range(self) -> Options:
        if self.activation == "tanh" and not self.norm:
            raise OptionError(
                "channel.activation",
                "has values from -1 to 1, but norm False needs lengths",
                key="activation",
                value="tanh",
                remedy="Use 'linear' or norm True.",
            )
        return self


class HorizontalOptions(Options):
    """Options of the channel H."""

    kind: Literal["H"] = "H"
    """Name of the variant."""


class VerticalOptions(Options):
    """Options of the channel V."""

    kind: Literal["V"] = "V"
    """Name of the variant."""


class DepthOptions(Options):
    """Options of the channel Z."""

    kind: Literal["Z"] = "Z"
    """Name of the variant."""


class Offset(Representation[Options]):
    """Offset from each voxel of an object to its centroid along one axis: 0 at the centre, positive where the centre has a higher
    coordinate, so that the channels together point to the centre; 0 in the background.

    After Graham et al., HoVer-Net (Medical Image Analysis 58, 2019), with the opposite sign.

    Examples:
        >>> Horizontal(Options(norm=False)).encode(np.array([[0, 1, 1, 1, 0]], np.uint32), (1, 0.5))
        array([[[ 0. ,  0.5,  0. , -0.5,  0. ]]], dtype=float32)
    """

    axis: ClassVar[int]
    """Axis along which it points, counted from the last."""
    per_object = True
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.activation = self.options.activation
        self.centre_offset_axis = self.axis
        self.normalised_offset = self.options.norm
        self.loss = "l1"
        self.masked = self.options.mask_values

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX. Z is 0 in 2D."""
        out = np.zeros(labels.shape, np.float32)
        if -self.axis <= labels.ndim:  # a job for 3D images may be used in 2D, where nothing is offset along z
            ids, largest = compact_ids(labels)
            centres = geometry(ids, largest).centroids[:, self.axis]
            norm = self.options.norm
            scale, volume = 1.0 if norm else float(spacing[self.axis]), as_volume(read_only(ids))
            _to_centre(volume, np.nan_to_num(centres), 3 + self.axis, scale, norm, as_volume(out))
        return out[None]

    def annotated_targets(self, unlabelled: np.ndarray) -> np.ndarray | None:
        """Where the voxels before and after along the axis are labelled."""
        return labelled_along(unlabelled, self.axis)[None] if -self.axis <= unlabelled.ndim else None

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: centre and scale depend on whole objects."""
        return whole_object_context(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Reorient the channel; its sign changes where its axis is flipped."""
        turned = orientation.apply(array)
        flipped = -self.axis <= orientation.ndim and orientation.flips[self.axis]
        return -turned if flipped else turned  # type: ignore[operator]

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """Orientations that keep its axis. Channels of other axes can be exchanged with it: `morula.representations.reorient`."""
        ndim = len(spacing)
        # alone, the channel cannot become that of another axis
        return [
            orientation
            for orientation in orientations(spacing)
            if -self.axis > ndim or orientation.permutation[self.axis] == ndim + self.axis
        ]


class Horizontal(Offset):
    """H: offset along x."""

    code = "H"
    axis = -1
    options_class = HorizontalOptions


class Vertical(Offset):
    """V: offset along y."""

    code = "V"
    axis = -2
    options_class = VerticalOptions


class Depth(Offset):
    """Z: offset along z."""

    code = "Z"
    axis = -3
    options_class = DepthOptions


@njit(cache=True, nogil=True)
def _to_centre(ids: np.ndarray, centres: np.ndarray, axis: int, length: float, norm: bool, out: np.ndarray) -> None:
    nz, ny, nx = ids.shape
    # a centroid is a quotient of sums: offsets below the rounding error count as 0
    low, high = np.full(centres.size, 1e-6), np.full(centres.size, 1e-6)
    # first the largest offset per side of each object, then the scaled values
    for turn in range(2):
        for z in range(nz):
            for y in range(ny):
                for x in range(nx):
                    label = ids[z, y, x]
                    if label == 0:
                        continue
                    way = centres[label] - (z if axis == 0 else (y if axis == 1 else x))
                    if abs(way) < 1e-6:
                        continue
                    if turn == 0:
                        low[label], high[label] = max(low[label], -way), max(high[label], way)
                    elif norm:
                        out[z, y, x] = way / (high[label] if way > 0 else low[label])
                    else:
                        out[z, y, x] = way * length
