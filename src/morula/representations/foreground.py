"""F: the inside of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.labels.morphology import CONTESTED, Radius, dilate, dilate_mask, erode, radii
from morula.representations.base import Representation, one_channel
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel F."""

    kind: Literal["F"] = "F"
    """Name of the variant."""

    erosion: Radius = 0
    """Erode each object by this many voxels of the finest axis, or by one number per axis; touching objects are separated."""
    dilation: Radius = 0
    """Dilate each object into the background by this many voxels, before the erosion."""


class Foreground(Representation[Options]):
    """1 inside objects, 0 elsewhere.

    Each object is dilated into the background and then eroded, by ellipsoids and independently of its neighbours: an erosion also removes
    the voxels next to a touching object.

    Examples:
        >>> Foreground(Options(erosion=1)).encode(np.array([[1, 1, 2, 2]], np.uint32), (1, 1))
        array([[[1., 0., 0., 1.]]], dtype=float32)
    """

    code = "F"
    foreground_probability = True
    options_class = Options

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        erosion, dilation = radii(self.options.erosion, spacing), radii(self.options.dilation, spacing)
        if any(erosion):
            # contested voxels belong to two objects: they separate these in the erosion, and are background
            labels = dilate(labels, dilation, contested=int(CONTESTED))
            labels = erode(labels, erosion)
            return one_channel((labels != 0) & (labels != CONTESTED))
        return one_channel(dilate_mask(labels != 0, dilation))

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Erosion and dilation together, along each axis."""
        return tuple(map(sum, zip(radii(self.options.erosion, spacing), radii(self.options.dilation, spacing), strict=True)))
