"""The interface of representations: what a network predicts about objects, computed from labels.

A representation turns a label image into training targets (`encode`), states how the network predicts them (activation, loss, outputs),
how they change when the image is flipped or rotated (`reorient`), and, as `Evidence`, what they say about objects.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from morula.core.options import Options
from morula.core.orientation import Array, Orientation, orientations
from morula.representations.evidence import Evidence

OptionsType = TypeVar("OptionsType", bound=Options)

REACH = 32
"""Voxels of the finest axis that are read beyond a crop where a target depends on whole objects."""


class Representation(Evidence, ABC, Generic[OptionsType]):
    """One channel, or one group of channels: how it is computed from labels and what it says about objects.

    Subclasses set `code`, `options_class`, `activation`, `loss` and the properties of `Evidence` that apply; a scalar channel implements
    `encode` and nothing else.
    """

    options_class: ClassVar[type[Options]]
    """Class of its options."""
    loss: str = "bce"
    """Loss that is used unless the job names another."""
    masked: bool = False
    """Whether the loss counts only inside objects (where another channel predicts the foreground)."""
    per_object: ClassVar[bool] = False
    """Whether the values of an object depend on its own voxels only, so that it can be encoded without its neighbours."""
    loss_weight: float = 1.0
    """Weight of the loss unless the job states another."""

    def __init__(self, options: OptionsType | None = None) -> None:
        self.options: OptionsType = self.options_class() if options is None else options  # type: ignore[assignment]

    @abstractmethod
    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (width, (Z)YX) float32 of labels (Z)YX uint32."""

    def encode_into(self, labels: np.ndarray, spacing: Sequence[float], out: np.ndarray) -> None:
        """Write the targets into an array (width, (Z)YX) float32; representations with many channels do so without a second array."""
        # a copy of one channel is cheap; representations with many channels override this
        out[...] = self.encode(labels, spacing)

    def annotated_targets(self, unlabelled: np.ndarray) -> np.ndarray | None:
        """Where targets (width or 1, (Z)YX) of labelled voxels follow from annotations, not from extrapolation into the `unlabelled` part.

        Channels that compare neighbours or point along an axis are known in slices that contain that axis. `None` for all others. It must
        not depend on the value of a target: of rays only the short ones end inside an annotated slice, which would bias training.
        """
        return None

    def width(self, ndim: int) -> int:
        """Number of physical channels."""
        return 1

    def affinity_offsets(self, ndim: int) -> list[tuple[int, ...]] | None:
        """Offset (array order) of each channel's pair of voxels where the channels are `affinities`, else `None`.

        Raises:
            OptionError: when the offsets are for images with another number of axes.
        """
        return None

    def pair_affinities(self, prediction: np.ndarray) -> np.ndarray:
        """Predicted channels C(Z)YX that are `affinities` as the probabilities that each voxel and the one at the offset of the channel
        belong to the same object, 0 where that leaves the image."""
        return prediction

    def outputs(self, ndim: int) -> int:
        """Number of network outputs: one per channel, or one per class where the channel is the mean class."""
        return self.width(ndim)

    def unit(self, spacing: Sequence[float]) -> float:
        """Value of the channel that a network output of 1 stands for; the unit of losses of distances.

        Outputs of an untrained network are about 1. Targets that are much smaller are lost in noise, much larger ones are learned late and
        dominate the loss.
        """
        return 1.0

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Voxels beyond a crop that can change the target inside it, along each axis."""
        return (0,) * len(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Channels (..., width, (Z)YX), NumPy or torch, of the reoriented image."""
        return orientation.apply(array)

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """Orientations that the channel can be reoriented to, the identity first."""
        return orientations(spacing)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options.model_dump(exclude_defaults=True).items())})"


def whole_object_context(spacing: Sequence[float]) -> tuple[int, ...]:
    """`REACH` as voxels along each axis."""
    return tuple(math.ceil(REACH * min(spacing) / length) for length in spacing)


def one_channel(values: ArrayLike) -> np.ndarray:
    """Values (Z)YX as one channel of float32."""
    return np.asarray(values, np.float32)[None]
