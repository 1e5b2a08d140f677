"""Db: distance to the boundary of the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from morula.core.errors import OptionError
from morula.core.label_image import compact_ids
from morula.labels.distance import distance, normalise
from morula.representations.base import Representation, whole_object_context
from morula.representations.evidence import Activation
from morula.representations.options import RepresentationOptions

Values = Literal["norm", "raw", "discretize"]
DEPTHS = 10
"""Classes of discretised distances, without the background."""


class Options(RepresentationOptions):
    """Options of the channel Db."""

    kind: Literal["Db"] = "Db"
    """Name of the variant."""
    earlier_names: ClassVar[Mapping[str, str]] = {"act": "activation"}

    norm: bool = True
    """Scale the distances of each object to [0, 1]; otherwise they are lengths in the unit of the voxel size."""
    val_type: Values | None = None
    """Replaces `norm`: `norm`, `raw`, or `discretize` (0 outside, classes 1 to 10 inside, by tenths of the scaled distance; the network
    predicts them by cross-entropy, and their mean under its probabilities is the channel)."""
    mask_values: bool = True
    """Count the loss only inside objects, where another channel predicts the foreground."""
    activation: Literal["sigmoid", "linear"] | None = None
    """Last layer of the network for this channel; left out, `sigmoid` for scaled distances, softmax
    over the classes for discretised ones and `linear` for lengths. Also called `act`."""

    @model_validator(mode="after")
    def _agree(self) -> Options:
        if self.val_type == "norm" and not self.norm:
            raise OptionError(
                "channel.contradiction", "contradicts norm False", key="val_type", value="norm", remedy="Leave one of them out."
            )
        if self.activation == "sigmoid" and self.values != "norm":
            raise OptionError(
                "channel.activation",
                "has values from 0 to 1, but the distances are not scaled",
                key="activation",
                value="sigmoid",
                remedy="Use 'linear' or norm True.",
            )
        return self

    @property
    def values(self) -> Values:
        """What the channel holds."""
        return self.val_type or ("norm" if self.norm else "raw")

    @property
    def holds_classes(self) -> bool:
        """Discretised distances, unless another activation is stated."""
        return self.values == "discretize" and self.activation is None

    @property
    def top(self) -> float | None:
        """Value at the depth that stands for 1; `None` for lengths."""
        return {"norm": 1.0, "discretize": float(DEPTHS), "raw": None}[self.values]


class DistanceToBoundary(Representation[Options]):
    """Euclidean distance of each voxel to the nearest voxel outside its object, 0 in the background.

    Distances respect the voxel size. Scaled (`norm`), each object runs from 0 at its outermost voxels to 1 at its deepest; an object whose
    voxels are all equally deep is 1 throughout. The border of the image is no boundary.

    Examples:
        >>> DistanceToBoundary(Options(norm=False)).encode(np.array([[0, 1, 1, 1, 0]], np.uint32), (1, 0.5))
        array([[[0. , 0.5, 1. , 0.5, 0. ]]], dtype=float32)
    """

    code = "Db"
    depth = "boundary"
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        own: dict[Values, Activation] = {"norm": "sigmoid", "discretize": "expected_class", "raw": "linear"}
        self.activation = self.options.activation or own[self.options.values]
        self.full_scale = 1.0 if self.activation == "sigmoid" else self.options.top
        self.loss = "ce" if self.activation == "expected_class" else "l1"
        self.masked = self.options.mask_values

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        values = distance(labels, spacing)
        if self.options.values == "raw":
            return values[None]
        ids, largest = compact_ids(labels)
        # per object, so that small and large objects have the same peak
        values = normalise(values, ids, largest, constant=1.0)
        if self.options.values == "discretize":
            # the deepest voxels, exactly 1, belong to the last class and not to an eleventh
            values = np.where(labels > 0, np.clip(np.floor(values / np.float32(1 / DEPTHS)), 0, DEPTHS - 1) + 1, 0).astype(np.float32)
        return values[None]

    def outputs(self, ndim: int) -> int:
        """One, or the background and ten classes."""
        return DEPTHS + 1 if self.activation == "expected_class" else 1

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """How far other voxels matter: depth and scale depend on whole objects."""
        return whole_object_context(spacing)
