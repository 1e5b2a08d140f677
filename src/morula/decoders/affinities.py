"""What the decoders of affinities share: their channels, the offsets of these, and the step from ids to objects.

An affinity is the probability that a voxel and the one at an offset belong to the same object. The highest affinity of a voxel to its
direct neighbours says whether it belongs to an object at all; the lowest one is small beside a boundary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.decoders.base import Decoder, NoParameters, OptionsType, Representations, halo, unusable
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.geometry import voxel_counts
from morula.kernels.object_tables import object_means, renumber, select_objects
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects
from morula.representations.base import Representation

NEIGHBOURHOODS = 3
"""Rings of neighbouring objects in the halo. Which fragments are merged first depends on neighbours of neighbours, less and less."""


class AffinityDecoder(Decoder[OptionsType, NoParameters]):
    """A decoder of affinities alone, whose options state every threshold."""

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("A",),)

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for one representation whose channels are affinities."""
        if len(representations) == 1 and representations[0].affinities:
            return None
        return unusable(cls.name, representations, "only affinities can be used", "Predict A alone, or choose another decoder.")

    def fit(self, statistics: ChannelStatistics) -> NoParameters:
        """No parameters: the options state every threshold."""
        del statistics
        return {}

    def context(self, parameters: NoParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, three rings of neighbours, and the longest offset.

        Objects that are separated by background are exact with any number of rings. In dense tissue the order of merges propagates from
        neighbour to neighbour: three rings leave a difference only where several contacts are almost equally strong.
        """
        # where no offsets exist for this number of axes, `decode` reports it; until then direct neighbours define the halo
        offsets = self.representations[0].affinity_offsets(len(spacing)) or [(1,) * len(spacing)]
        longest = [max(abs(offset[axis]) for offset in offsets) for axis in range(len(spacing))]
        rings = halo((1 + NEIGHBOURHOODS) * max_diameter + 1, spacing)
        return tuple(ring + offset for ring, offset in zip(rings, longest, strict=True))

    @abstractmethod
    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32."""


def checked_offsets(representation: Representation, prediction: np.ndarray) -> list[tuple[int, ...]]:
    """Offsets of the predicted affinities, one per channel.

    Raises:
        DataError: when there are more or fewer channels than offsets.
        OptionError: when the offsets are for images with another number of axes.
    """
    offsets = representation.affinity_offsets(prediction.ndim - 1) or []
    if len(offsets) != len(prediction):
        raise DataError(
            "prediction.channel_count",
            f"the prediction must have one channel per affinity offset, {len(offsets)} in all",
            key="prediction",
            value=prediction.shape,
            remedy="Give C(Z)YX.",
        )
    return offsets


def direct_neighbours(offsets: Sequence[Sequence[int]], decoder: str) -> list[int]:
    """Indices of the offsets to direct neighbours: at most 1 along every axis.

    Raises:
        OptionError: when there is none.
    """
    direct = [channel for channel, offset in enumerate(offsets) if max(map(abs, offset)) == 1]
    if not direct:
        raise OptionError(
            "decoder.no_direct_neighbours",
            f"{decoder} needs affinities of direct neighbours",
            key="offsets",
            value=[list(offset) for offset in offsets],
            remedy="Add offsets of 1, one per axis.",
        )
    return direct


def affinity_extremes(affinities: np.ndarray, offsets: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Highest affinity of each voxel to a direct neighbour, and 1 minus the lowest one.

    Only pairs with both voxels in the image count. Where no offset is to a direct neighbour, all offsets count.

    Args:
        affinities: channels C(Z)YX float32.
        offsets: one per channel, in array order.

    Returns:
        Two images (Z)YX float32: the first is high inside objects, the second beside boundaries.

    Examples:
        >>> highest, boundary = affinity_extremes(np.array([[[0, 1, 0.25]]], np.float32), [(0, -1)])
        >>> highest, boundary
        (array([[1.  , 1.  , 0.25]], dtype=float32), array([[0.  , 0.75, 0.75]], dtype=float32))
    """
    shape = affinities.shape[1:]
    # a voxel without any pair in the image is background, and has no boundary beside it
    highest, lowest = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    direct = [i for i, offset in enumerate(offsets) if max(map(abs, offset)) == 1] or list(range(len(offsets)))
    for i in direct:
        first = tuple(slice(max(0, -step), n - max(0, step)) for step, n in zip(offsets[i], shape, strict=True))
        second = tuple(slice(max(0, step), n - max(0, -step)) for step, n in zip(offsets[i], shape, strict=True))
        pairs = affinities[i][first]
        # a pair concerns both of its voxels, though only one of them stores it
        for voxels in (first, second):
            np.maximum(highest[voxels], pairs, out=highest[voxels])
            np.minimum(lowest[voxels], pairs, out=lowest[voxels])
    return highest, 1 - lowest


def affinity_objects(labels: np.ndarray, affinities: np.ndarray, offsets: Sequence[tuple[int, ...]], min_size: int) -> Objects:
    """Objects with ids 1..n; the voxels of objects smaller than `min_size` are flooded by their neighbours.

    The confidence is the mean over an object of the highest affinity of each voxel. Intermediates are `highest_affinity` and
    `affinity_boundary`; see `affinity_extremes`.
    """
    highest, boundary = affinity_extremes(affinities, offsets)
    if min_size > 1 and labels.any():
        kept = voxel_counts(labels, int(labels.max())) >= min_size
        markers, mask = np.zeros_like(labels), labels > 0
        select_objects(labels.ravel(), labels.ravel(), kept, markers.ravel())
        del labels  # frees an image where the caller does not hold it either
        # a fixed range, so that blocks are flooded in the same order as the whole
        labels = watershed(boundary, markers, mask, value_range=(0.0, 1.0))
        del markers, mask
    labels, old_ids = renumber(labels, int(labels.max()))
    confidence = np.clip(object_means(labels, highest, len(old_ids)), 0, 1)
    return Objects(labels, confidence, {"highest_affinity": highest, "affinity_boundary": boundary})
