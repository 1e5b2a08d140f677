"""G: vectors that lead along the object to its centre, as Cellpose predicts them, or to its ridge, as Omnipose does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.core.orientation import Array, Orientation
from morula.kernels.flow_fields import flow_field
from morula.labels.partial_labels import labelled_along
from morula.labels.ridge_flow import ridge_flow
from morula.representations.base import Representation, whole_object_context
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel G."""

    kind: Literal["G"] = "G"
    """Name of the variant."""

    leads_to: Literal["centre", "ridge"] = "centre"
    """`centre`: unit vectors along the object to its centre. `ridge`: the gradient of the distance to the boundary, for long and bent
    objects; it falls to 0 at the ridge."""
    mask_values: bool = False
    """Count the loss only inside objects, where another channel predicts the foreground; else the network also learns that the background
    has no flow."""


class Flow(Representation[Options]):
    """Vectors that lead along the object to its centre or ridge, one channel per axis in array order; 0 in the background.

    See `morula.kernels.flow_fields.flow_field` and `morula.labels.ridge_flow.ridge_flow`.

    Examples:
        >>> Flow().encode(np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint32), (1, 1))[:, 1]
        array([[ 0.,  0.,  0.],
               [ 1.,  0., -1.]], dtype=float32)
    """

    code = "G"
    flow_vectors = True
    per_object = True
    options_class = Options
    activation = "linear"
    loss = "mse"

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.masked = self.options.mask_values
        self.to_ridges = self.options.leads_to == "ridge"

    def width(self, ndim: int) -> int:
        """One channel per axis."""
        return ndim

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (ndim, (Z)YX) of labels (Z)YX."""
        return ridge_flow(labels, spacing) if self.to_ridges else flow_field(labels, spacing)

    def annotated_targets(self, unlabelled: np.ndarray) -> np.ndarray:
        """Each component where the voxels before and after along its axis are labelled."""
        return np.stack([labelled_along(unlabelled, axis) for axis in range(unlabelled.ndim)])

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: heat runs through whole objects."""
        return whole_object_context(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Reorient the vectors: components are exchanged with the axes and change their sign where an axis is flipped."""
        turned = orientation.apply(array)
        lead = turned.ndim - orientation.ndim - 1  # type: ignore[attr-defined]
        before = (slice(None),) * lead
        # a list as an index makes a copy, which may be written to
        result = turned[(*before, list(orientation.permutation))]  # type: ignore[index]
        # a component points the other way when its axis is flipped
        for axis, flip in enumerate(orientation.flips):
            if flip:
                result[(*before, axis)] = -result[(*before, axis)]
        return result
