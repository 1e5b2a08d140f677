"""What every representation answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from morula.core.options import Options
from morula.core.orientation import Array, Orientation, orientations

Role = Literal[
    "interior", "background", "contour", "touching", "centre", "distance", "signed_distance", "centre_distance", "neighbour", "offset",
    "rays", "affinity", "flow", "mask", "embedding",
]  # fmt: skip
Activation = Literal["sigmoid", "linear", "tanh", "softmax", "expected_class", "embedding"]
OptionsType = TypeVar("OptionsType", bound=Options)

REACH = 32
"""Voxels of the finest axis that are read beyond a crop where a target depends on whole objects."""


class Representation(ABC, Generic[OptionsType]):
    """One channel, or one group of channels: how it is made from labels and what it tells a decoder.

    Subclasses state `code`, `role`, `activation`, `loss` and `options_class`; scalars need nothing else than `encode`.
    """

    code: ClassVar[str]
    """Its name in job files."""
    role: ClassVar[Role]
    """What it says of a voxel: in an object, outside, on a contour or where objects touch, at a centre, how deep, how far from the centre,
    how near to a neighbour, where the centre or the end of the object lies, which neighbours are of the same object."""
    options_class: ClassVar[type[Options]]
    """Class of its options."""
    activation: Activation = "sigmoid"
    """Applied in the loss, in validation and in prediction alike."""
    loss: str = "bce"
    """Name of the loss that is used when the job states none."""
    masked: bool = False
    """Whether the loss counts only inside objects (where another channel tells the inside)."""
    alone: ClassVar[bool] = False
    """Whether each object's values follow from its own voxels, whatever lies beside them: it can be encoded without the others."""
    share: float = 1.0
    """Weight of its loss where the job states none."""

    def __init__(self, options: OptionsType | None = None) -> None:
        self.options: OptionsType = self.options_class() if options is None else options  # type: ignore[assignment]

    @abstractmethod
    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (width, (Z)YX) float32 of labels (Z)YX uint32."""

    def encode_into(self, labels: np.ndarray, spacing: Sequence[float], out: np.ndarray) -> None:
        """Write the targets into an array (width, (Z)YX) float32; one with many channels does so without an array of its own."""
        out[...] = self.encode(labels, spacing)

    def seen(self, unlabelled: np.ndarray) -> np.ndarray | None:
        """Where targets (width or 1, (Z)YX) of labelled voxels tell what was painted, not what was guessed of the `unlabelled` part.

        Channels that look along an axis or at a neighbour are seen in slices that hold it. `None` for the others. Whether a target is seen
        must not depend on its value: rays that end in a slice are seen, but they are the short ones.
        """
        return None

    def width(self, ndim: int) -> int:
        """Number of physical channels."""
        return 1

    def outputs(self, ndim: int) -> int:
        """Number of the network's outputs that it is made of: one a channel, or one a class where the channel holds class numbers."""
        return self.width(ndim)

    def unit(self, spacing: Sequence[float]) -> float:
        """Value of the channel that an output of 1 of the network stands for; losses of distances are taken in it.

        Outputs begin at about 1 and learn in steps of that size: values that are all far smaller are lost in them, far larger ones are
        reached late and outweigh the other channels.
        """
        return 1.0

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Voxels beyond a crop that can change the target inside it, along each axis."""
        return (0,) * len(spacing)

    def reorient(self, array: Array, orientation: Orientation) -> Array:
        """Channels (..., width, (Z)YX), NumPy or torch, as they are of the reoriented image."""
        return orientation.apply(array)

    def orientations(self, spacing: Sequence[float]) -> list[Orientation]:
        """Orientations under which the channel can be turned, the identity first."""
        return orientations(spacing)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options.model_dump(exclude_defaults=True).items())})"


def reach(spacing: Sequence[float]) -> tuple[int, ...]:
    """`REACH` as voxels along each axis."""
    return tuple(math.ceil(REACH * min(spacing) / length) for length in spacing)


def one_channel(values: Any) -> np.ndarray:
    """Values (Z)YX as one channel of float32."""
    return np.asarray(values, np.float32)[None]


def respelt(values: Any, spellings: Mapping[str, str]) -> Any:
    """Options with other spellings of their names (other: own) replaced; what is no mapping comes back as it is.

    Raises:
        ValueError: when both spellings are given.
    """
    if not isinstance(values, Mapping):
        return values
    for other, own in spellings.items():
        if other in values and own in values:
            raise ValueError(f"{other} is another name of {own}; give one of them")
    return {spellings.get(name, name): value for name, value in values.items()}
