"""Mutex watershed on affinities: direct neighbours attract each other, long-range pairs repel each other.

No seeds and no thresholds between objects are needed: two voxels end in one object unless a repulsion that is stronger than the weakest
attraction between them forbids it. `morula.kernels.mutex_watershed` explains the algorithm.

After Wolf et al., The Mutex Watershed: Efficient, Parameter-Free Image Partitioning (ECCV 2018, https://arxiv.org/abs/1904.12654).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from morula.core.errors import OptionError
from morula.decoders.affinities import AffinityDecoder, affinity_objects, checked_offsets, direct_neighbours
from morula.decoders.base import NoParameters
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.kernels.mutex_watershed import mutex_watershed
from morula.labels.objects import Objects


class Options(DecoderOptions):
    """Options of the mutex watershed."""

    kind: Literal["mutex_watershed"] = "mutex_watershed"
    """Name of the variant."""

    threshold: float = Field(0.5, ge=0, lt=1)
    """Direct neighbours with an affinity above this value attract each other; a voxel that attracts no other is background. Lower it where
    objects fill the image."""
    strides: PositiveInt | tuple[PositiveInt, ...] = 1
    """Use long-range affinities only at every n-th voxel, one number or one per axis: faster, and fewer splits."""
    noise: float = Field(0.0, ge=0, le=1)
    """Largest random number that is added to the weight of each long-range affinity, so that equal weights are processed in random order.
    The numbers differ between blocks."""
    seed: NonNegativeInt = 0
    """Seed of the random numbers."""
    min_size: NonNegativeInt = 8
    """Objects with fewer voxels are given to the neighbours that flood them; those without neighbours are removed."""


class MutexWatershed(AffinityDecoder[Options]):
    """Objects of affinities without seeds.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> labels = np.array([[1, 1, 1, 1, 2, 2, 2, 2]] * 4)
        >>> channels = {"A": {"reach": (1, 3)}}
        >>> decoder = MutexWatershed(None, build_channels(channels))
        >>> decoder.decode(encode(labels, channels), {}, (1, 1)).labels[0]
        array([1, 1, 1, 1, 2, 2, 2, 2], dtype=uint16)
    """

    name = "mutex_watershed"
    options_class = Options

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "threshold": choices(self.options.threshold, (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)),
            "strides": choices(self.options.strides, (1, 2, 4)),
            "min_size": choices(self.options.min_size, (0, 8, 25, 100)),
        }

    def alignment(self, ndim: int) -> tuple[int, ...]:
        """The strides: blocks must sample the same long-range pairs."""
        strides = self.options.strides if isinstance(self.options.strides, tuple) else (self.options.strides,)
        return strides * ndim if len(strides) == 1 else strides

    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32; see `affinity_objects` for the confidence and intermediates.

        Raises:
            DataError: when there are more or fewer channels than offsets.
            OptionError: when the strides have another number of axes, or no offset is to a direct neighbour.
        """
        offsets = checked_offsets(self.representations[0], block)
        # long-range pairs alone repel everything: no voxel would belong to an object
        direct_neighbours(offsets, self.name)
        ndim = block.ndim - 1
        strides = self.alignment(ndim)
        if len(strides) != ndim:
            raise OptionError(
                "option.axis_count",
                f"must be one number or {ndim} numbers, one per axis of the image",
                key="strides",
                value=list(strides),
                remedy="Give one number for all axes.",
            )
        # all offsets at once: attraction and repulsion compete in one order of weights
        options, block = self.options, self.representations[0].pair_affinities(block)
        labels = mutex_watershed(block, offsets, threshold=options.threshold, strides=strides, noise=options.noise, seed=options.seed)
        return affinity_objects(labels, block, offsets, options.min_size)
