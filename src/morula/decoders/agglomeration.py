"""Agglomeration of affinities: over-segment with a watershed, then merge fragments whose contacts have high affinities.

The steps are those of PlantSeg, Waterz and BiaPy:

1. Seeds are the connected components of voxels whose lowest affinity is high: surely inside an object.
2. The watershed grows them to fragments over the lowest affinity, down to a second threshold.
3. Voxels that no fragment reached are attached along their strongest affinity, so that contacts are complete.
4. `morula.kernels.agglomeration.agglomerate` merges fragments, the contact with the highest score first.

After Funke et al., Large scale image segmentation with structured loss based deep learning (IEEE TPAMI 41, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from morula.decoders.affinities import AffinityDecoder, affinity_objects, checked_offsets, direct_neighbours
from morula.decoders.base import NoParameters
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.kernels.agglomeration import agglomerate
from morula.kernels.components import connected_components
from morula.kernels.mutex_watershed import attach_voxels
from morula.kernels.smoothing import binomial_smooth
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects

Share = Annotated[float, Field(ge=0, le=1)]


class Options(DecoderOptions):
    """Options of the agglomeration."""

    kind: Literal["agglomeration"] = "agglomeration"
    """Name of the variant."""

    seeds: Share = 0.9
    """Voxels whose lowest affinity is above this value are the seeds of fragments."""
    growth: Share = 0.1
    """Fragments grow over voxels whose lowest affinity is above this value."""
    threshold: Share = 0.5
    """Fragments are merged where the quantile of the affinities across their contact reaches this value. Before that, voxels that no
    fragment reached are attached by affinities above it."""
    quantile: Share = 0.5
    """Quantile of the affinities across a contact; 0.5 is the median."""
    min_contact: PositiveInt = 5
    """Smallest number of voxel pairs across a contact; smaller contacts are not merged."""
    min_size: NonNegativeInt = 8
    """Objects with fewer voxels are given to the neighbours that flood them; those without neighbours are removed."""


class Agglomeration(AffinityDecoder[Options]):
    """Objects of affinities by a watershed and hierarchical merging of its fragments.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> labels = np.zeros((9, 20), np.uint32)
        >>> labels[1:8, 1:10], labels[1:8, 10:19] = 1, 2
        >>> decoder = Agglomeration(None, build_channels(["A"]))
        >>> len(decoder.decode(encode(labels, ["A"]), {}, (1, 1)))
        2
    """

    name = "agglomeration"
    options_class = Options

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "seeds": choices(self.options.seeds, (0.5, 0.7, 0.8, 0.9, 0.95)),
            "growth": choices(self.options.growth, (0.05, 0.1, 0.3, 0.5)),
            "threshold": choices(self.options.threshold, (0.3, 0.5, 0.7, 0.8, 0.9)),
            "quantile": choices(self.options.quantile, (0.25, 0.5, 0.75)),
            "min_size": choices(self.options.min_size, (0, 8, 25, 100)),
        }

    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32; only direct neighbours are used.

        See `affinity_objects` for the confidence and intermediates; `fragments` are the ids before merging.

        Raises:
            DataError: when there are more or fewer channels than offsets.
            OptionError: when no offset is to a direct neighbour.
        """
        offsets = checked_offsets(self.representations[0], block)
        direct = direct_neighbours(offsets, self.name)
        affinities = self.representations[0].pair_affinities(block)
        affinities = affinities if len(direct) == len(offsets) else affinities[direct]
        offsets = [offsets[channel] for channel in direct]
        lowest = affinities.min(axis=0)
        seeds, number = connected_components(lowest > self.options.seeds)
        growth = lowest > self.options.growth
        # the surface is smoothed so that fragments meet in the middle of flat regions; it reuses the memory of `lowest`
        surface = binomial_smooth(np.negative(lowest, out=lowest), spacing)
        del lowest
        # the range of affinities instead of that of the block, so that all blocks are flooded in the same order
        fragments = watershed(surface, seeds, growth, value_range=(-1.0, 0.0))
        del surface, seeds, growth
        # before contacts are scored: voxels beside a contact have a low lowest affinity and would otherwise belong to no fragment
        fragments = attach_voxels(fragments, affinities, offsets, threshold=self.options.threshold)
        merge = partial(
            agglomerate,
            threshold=self.options.threshold,
            quantile=self.options.quantile,
            min_contact=self.options.min_contact,
        )
        objects = affinity_objects(merge(fragments, number, affinities, offsets), affinities, offsets, self.options.min_size)
        return Objects(objects.labels, objects.confidence, {**objects.intermediates, "fragments": fragments})
