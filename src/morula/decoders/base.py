"""The interface of decoders: predicted channels become objects.

A decoder works in three steps, so that a volume can be decoded block by block with the same thresholds everywhere::

    parameters = decoder.fit(statistics)                    # thresholds, from histograms of the whole prediction
    parameters = decoder.calibrate(sample, parameters, ...) # typical sizes, only where the decoder needs them
    objects = decoder.decode(block, parameters, spacing)    # once per block, or once for everything

Two laws hold (`morula.testing.decoder_contracts` tests them):

* Decoding encoded labels gives the labels back, as a partition, for the sets of channels that the decoder names.
* Decoding in blocks gives the same partition as decoding the whole. A block is read with a halo of `context` voxels, and an object
  belongs to the block that holds its first voxel::

      +---------------------+
      | halo                |     An object whose first voxel is in the core is read whole, together with
      |    +---------+      |     everything that can change it. Objects cut by the outer border are decoded
      |    | core    |      |     wrongly, but their first voxel is outside the core, so that another block
      |    |   (ooooo|oo)   |     provides them.
      |    +---------+      |
      +---------------------+
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, final

import numpy as np

from morula.core.errors import OptionError
from morula.core.options import Options
from morula.decoders.search_space import Space
from morula.decoders.statistics import ChannelStatistics
from morula.labels.objects import Objects
from morula.representations.base import Representation

OptionsType = TypeVar("OptionsType", bound=Options)
ParametersType = TypeVar("ParametersType", bound=Mapping[str, Any])
Representations = Sequence[Representation[Any]]


class NoParameters(TypedDict):
    """Parameters of a decoder whose options state every threshold."""


class ThresholdParameters(TypedDict):
    """Parameters of a decoder with one threshold."""

    threshold: float


class Decoder(ABC, Generic[OptionsType, ParametersType]):
    """Turns predicted channels into objects.

    Subclasses set `name` and `options_class` and implement `problem`, `search_space`, `decode` and `context`; those that choose thresholds
    from the data implement `fit` and set `counted`.

    Args:
        options: the decoder's options; defaults where `None`.
        representations: what the channels mean, in the order of the prediction.

    Raises:
        OptionError: with the code ``decoder.unusable_channels`` where `accepts` is false.

    Examples:
        >>> from morula.decoders.decode import build_decoder
        >>> from morula.representations.encode import build_channels, encode
        >>> decoder = build_decoder(build_channels(["F", "C"]), "watershed")
        >>> block = encode(np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3), ["F", "C"])
        >>> objects = decoder.decode(block, decoder.fit(ChannelStatistics.of(block)), (1, 1))
        >>> len(objects)
        2
    """

    name: ClassVar[str]
    """Name in job files."""
    options_class: ClassVar[type[Options]]
    """Class of the options."""
    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sets of channel codes of which decoding gives back exactly what was encoded; other sets may be accepted, too."""
    min_iou: ClassVar[float] = 1.0
    """Intersection over union that decoded objects reach at least with the encoded ones; below 1 where every object is a fixed kind of
    shape, such as a star-convex polygon."""
    counted: tuple[str, ...] = ()
    """Codes of the channels whose histograms `fit` reads."""

    def __init__(self, options: OptionsType | None, representations: Representations) -> None:
        # before anything else: `__init__` of a decoder may then rely on the channels that it needs
        if reason := self.problem(representations):
            raise reason
        self.options: OptionsType = self.options_class() if options is None else options  # type: ignore[assignment]
        self.representations: tuple[Representation[Any], ...] = tuple(representations)

    @classmethod
    @abstractmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """The error that explains why no objects can be made of these channels, or `None` where they can."""

    @classmethod
    @final
    def accepts(cls, representations: Representations) -> bool:
        """Whether objects can be made of these channels."""
        return cls.problem(representations) is None

    @abstractmethod
    def fit(self, statistics: ChannelStatistics) -> ParametersType:
        """Choose the thresholds that the options leave open.

        Args:
            statistics: of the whole prediction, with histograms of the channels in `counted`.

        Returns:
            A mapping of plain numbers that can be written as JSON.
        """

    def calibrate(self, sample: np.ndarray, parameters: ParametersType, spacing: Sequence[float]) -> ParametersType:
        """Complete the parameters with what depends on the shape of objects, such as their typical radius.

        Needed before decoding in blocks, so that every block uses the same sizes; `decode` calls it itself for what is still open.

        Args:
            sample: channels C(Z)YX of the whole image or of a representative part.
            parameters: from `fit`.
            spacing: edge lengths of a voxel.
        """
        return parameters

    @abstractmethod
    def decode(self, block: np.ndarray, parameters: ParametersType, spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels.

        Args:
            block: channels C(Z)YX float32, through their activation.
            parameters: from `fit`.
            spacing: edge lengths of a voxel, in array order.

        Returns:
            Labels with ids 1..n, a confidence from 0 to 1 per object, and intermediate images by name.

        Raises:
            DataError: when the number of channels does not fit the representations.
            OptionError: when an option has another number of axes than the image.
        """

    @abstractmethod
    def context(self, parameters: ParametersType, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """Halo in voxels per axis with which decoding in blocks gives the same objects as decoding the whole.

        The halo holds the object itself and everything that can change it: smoothing, and neighbours that compete for its voxels.
        The diameter is an argument because no histogram contains it: it comes from training labels, from the user, or from decoding a
        sample.

        Args:
            parameters: from `fit`.
            spacing: edge lengths of a voxel.
            max_diameter: largest extent of an object along any axis, in voxels of the finest axis. Larger objects may differ between
                blocks and have to be merged across them.
        """

    def alignment(self, ndim: int) -> tuple[int, ...]:
        """Numbers of voxels per axis of which the first voxel of a block has to be a multiple; 1 unless an option samples the image."""
        return (1,) * ndim

    @abstractmethod
    def search_space(self) -> Space:
        """Values to try for each option, by its dotted name, the current one first."""


def halo(voxels: float, spacing: Sequence[float]) -> tuple[int, ...]:
    """A length in voxels of the finest axis as whole voxels per axis, rounded up.

    Examples:
        >>> halo(10, (2.0, 0.5, 0.5))
        (3, 10, 10)
    """
    # 1e-9: 3 * 0.1 / 0.1 is slightly above 3 in floating point, and must not need a fourth voxel
    return tuple(math.ceil(voxels * min(spacing) / length - 1e-9) for length in spacing)


def codes_of(representations: Representations) -> str:
    """Codes of the channels for messages, comma-separated."""
    return ", ".join(representation.code for representation in representations)


def unusable(decoder: str, representations: Representations, rule: str, remedy: str) -> OptionError:
    """The error of a decoder that makes no objects of these channels."""
    return OptionError(
        "decoder.unusable_channels", f"{rule} (decoder {decoder})", key="channels", value=codes_of(representations), remedy=remedy
    )
