"""What the decoders of affinities share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.options import Options as BaseOptions
from morula.decoders.search_space import Space
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import joined
from morula.kernels.geometry import sizes_of
from morula.kernels.object_tables import numbered, object_means, select
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects
from morula.representations.base import OptionsType, Representation


class AffinityDecoder(ABC, Generic[OptionsType]):
    """A decoder of affinities alone, whose options say all.

    Args:
        options: what the user states.
        representations: the channel A, alone.

    Raises:
        OptionError: for other channels.
    """

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("A",),)
    name: ClassVar[str]
    """Its name in job files."""
    options_class: ClassVar[type[BaseOptions]]
    """Class of its options."""
    counted: ClassVar[tuple[str, ...]] = ()
    """Codes of the channels whose histograms `fit` reads."""

    def __init__(self, options: OptionsType | None, representations: Sequence[Representation[Any]]) -> None:
        if not self.accepts(representations):
            given = ", ".join(each.code for each in representations)
            raise OptionError(f"the decoder {self.name} reads affinities alone, but the channels are {given}. Predict A alone.")
        self.options: OptionsType = self.options_class() if options is None else options  # type: ignore[assignment]
        self.representation = representations[0]

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether these are affinities alone."""
        return [each.role for each in representations] == ["affinity"]

    @abstractmethod
    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """Nothing: the options say all."""
        del statistics
        return {}

    @abstractmethod
    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32."""


def offsets_of(representation: Any, prediction: np.ndarray) -> list[tuple[int, ...]]:
    """Offsets of the predicted affinities.

    Raises:
        DataError: when they are not as many as there are channels.
        OptionError: when they are for images of another number of axes.
    """
    steps: list[tuple[int, ...]] = representation.options.steps(prediction.ndim - 1)
    if len(steps) != len(prediction):
        raise DataError(f"the prediction has {len(prediction)} channels but there are {len(steps)} affinity offsets. Give C(Z)YX.")
    return steps


def direct(steps: Sequence[Sequence[int]], decoder: str) -> list[int]:
    """Which offsets are to direct neighbours: no more than 1 along any axis.

    Raises:
        OptionError: when there is none.
    """
    found = [channel for channel, step in enumerate(steps) if max(map(abs, step)) == 1]
    if not found:
        raise OptionError(
            f"the decoder {decoder} needs affinities of direct neighbours, but the offsets are {[list(step) for step in steps]}. "
            "Add offsets of 1, one an axis."
        )
    return found


def affinity_objects(labels: np.ndarray, prediction: np.ndarray, steps: Sequence[tuple[int, ...]], min_size: int) -> Objects:
    """Objects with ids 1..n, those of fewer than `min_size` voxels given to the neighbours that flood them.

    Confidence is the mean over an object of each voxel's highest affinity to a neighbour; intermediates are `joined`, that affinity,
    and `parted`, 1 minus the lowest.
    """
    high, parted = joined(prediction, steps)
    if min_size > 1 and labels.any():
        kept = sizes_of(labels, int(labels.max())) >= min_size
        markers, inside = np.zeros_like(labels), labels > 0
        select(labels.ravel(), labels.ravel(), kept, markers.ravel())
        del labels  # callers that do not hold it either need an image less
        labels = watershed(parted, markers, inside)
        del markers, inside
    labels, old = numbered(labels, int(labels.max()))
    confidence = np.clip(object_means(labels, high, len(old)), 0, 1)
    return Objects(labels, confidence, {"joined": high, "parted": parted})
