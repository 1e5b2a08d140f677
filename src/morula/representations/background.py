"""B: the outside of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.labels.morphology import Radius, dilate_mask, erode, radii
from morula.representations.base import Representation, one_channel
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel B."""

    kind: Literal["B"] = "B"
    """Name of the variant."""

    erosion: Radius = 0
    """Erode the background by this many voxels of the finest axis, or by one number per axis: uncertain voxels at its rim are removed."""
    dilation: Radius = 0
    """Dilate the background by this many voxels, before the erosion: thin bridges between objects become background."""


class Background(Representation[Options]):
    """1 outside objects, 0 inside. Erosion and dilation act on the background, by ellipsoids.

    Examples:
        >>> Background(Options(dilation=1)).encode(np.array([[0, 0, 1, 1]], np.uint32), (1, 1))
        array([[[1., 1., 1., 0.]]], dtype=float32)
    """

    code = "B"
    foreground_probability = True
    inverted = True
    options_class = Options

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        # in this order the background closes over thin bridges between objects; the other order would open it instead
        mask = dilate_mask(labels == 0, radii(self.options.dilation, spacing))
        return one_channel(erode(mask, radii(self.options.erosion, spacing)))

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Erosion and dilation together, along each axis."""
        return tuple(map(sum, zip(radii(self.options.erosion, spacing), radii(self.options.dilation, spacing), strict=True)))
