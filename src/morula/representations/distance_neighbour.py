"""Dn: proximity of other objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy
from pydantic import NonNegativeInt, PositiveFloat

from morula.core.label_image import compact_ids
from morula.kernels.object_tables import object_maxima
from morula.labels.neighbour_distance import distance_to_others
from morula.representations.base import REACH, Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel Dn."""

    kind: Literal["Dn"] = "Dn"
    """Name of the variant."""

    closing_size: NonNegativeInt = 0
    """Side of a grey closing that smooths the map, in voxels of the finest axis; 0 for none."""
    norm: bool = True
    """Scale by the largest distance in each object, so that values lie in [0, 1]; otherwise proximity is a length: 32 voxels
    of the finest axis minus the distance to the neighbour."""
    mask_values: bool = True
    """Count the loss only inside objects, where another channel predicts the foreground."""
    decline_power: PositiveFloat = 3.0
    """Power to which the proximity is raised: the higher, the steeper it declines away from the neighbour."""


class DistanceToNeighbour(Representation[Options]):
    """Proximity of each voxel of an object to the nearest other object: high beside a neighbour, 0 far from neighbours and in the
    background.

    The distance to the nearest voxel of another object, d, is taken as 1 - d / (largest d in the object) and raised to a power. The voxel
    size is obeyed. A neighbour farther than 32 voxels of the finest axis counts as that far; an object without neighbours is 0 throughout.
    After Scherr et al., Cell segmentation and tracking using CNN-based distance predictions (PLoS ONE 15, 2020).

    Examples:
        >>> labels = np.array([[1, 1, 1, 1, 2, 2]], np.uint32)
        >>> DistanceToNeighbour(Options(decline_power=1)).encode(labels, (1, 1))
        array([[[0.  , 0.25, 0.5 , 0.75, 0.5 , 0.  ]]], dtype=float32)
    """

    code = "Dn"
    boundary_evidence = "proximity"
    inverted = True
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.activation = "sigmoid" if self.options.norm else "linear"
        self.full_scale = 1.0 if self.options.norm else None
        self.loss = "l1"
        self.masked = self.options.mask_values

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        finest = min(spacing)
        limit = np.float32(REACH * finest)
        ids, largest = compact_ids(labels)
        values = distance_to_others(ids, spacing, float(limit))
        if self.options.norm:
            # the largest distance per object; the floor avoids a division by 0
            table = np.concatenate([np.ones(1, np.float32), np.maximum(object_maxima(ids, values, largest), np.float32(1e-6))])
            values /= table[ids]
            np.subtract(1, values, out=values)
        else:
            np.subtract(limit, values, out=values)
        values[ids == 0] = 0
        if self.options.closing_size > 1:
            sides = [max(1, round(self.options.closing_size * finest / length)) for length in spacing]
            # the closing fills grooves between objects, but must not spread into the background
            values = np.where(ids > 0, scipy.ndimage.grey_closing(values, size=sides), np.float32(0))
        # rounding may leave tiny negative values, whose power would be NaN
        np.maximum(values, 0, out=values)
        return np.power(values, np.float32(self.options.decline_power))[None]

    def unit(self, spacing: Sequence[float]) -> float:
        """1, or where proximity is a length the largest one, raised to the power."""
        return 1.0 if self.options.norm else float((REACH * min(spacing)) ** self.options.decline_power)

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: the object and its neighbours, twice the reach, and the closing."""
        return tuple(2 * n + self.options.closing_size for n in whole_object_context(spacing))
