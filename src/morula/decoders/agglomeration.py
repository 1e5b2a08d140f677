"""Agglomeration of affinities: watershed fragments, joined where the affinities across their contact are high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from morula.decoders.affinities import AffinityDecoder, affinity_objects, direct, offsets_of
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.kernels.agglomeration import agglomerate
from morula.kernels.components import connected_components
from morula.kernels.mutex_watershed import attach
from morula.kernels.smoothing import binomial_smooth
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects

Share = Annotated[float, Field(ge=0, le=1)]


class Options(DecoderOptions):
    """Options of the agglomeration."""

    kind: Literal["agglomeration"] = "agglomeration"
    """Name of the variant."""

    seeds: Share = 0.9
    """Fragments grow from voxels whose lowest affinity is above it, ..."""
    growth: Share = 0.1
    """... to those where it is above this."""
    threshold: Share = 0.5
    """Fragments are joined where the quantile of the affinities across their contact reaches it. Before, voxels that were not reached are
    attached to them by affinities above it."""
    quantile: Share = 0.5
    """Quantile of the affinities across a contact; 0.5 is the median."""
    min_contact: PositiveInt = 5
    """Pairs of voxels that a contact needs."""
    min_size: NonNegativeInt = 8
    """Smaller objects, in voxels, go to the neighbours that flood them first; those without neighbours are dropped."""


class Agglomeration(AffinityDecoder[Options]):
    """Objects of affinities: the lowest affinity of each voxel is flooded from seeds, the fragments are joined by `agglomerate`."""

    name = "agglomeration"
    options_class = Options

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "seeds": choices(self.options.seeds, (0.5, 0.7, 0.8, 0.9, 0.95)),
            "growth": choices(self.options.growth, (0.05, 0.1, 0.3, 0.5)),
            "threshold": choices(self.options.threshold, (0.3, 0.5, 0.7, 0.8, 0.9)),
            "quantile": choices(self.options.quantile, (0.25, 0.5, 0.75)),
            "min_size": choices(self.options.min_size, (0, 8, 25, 100)),
        }

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32, of which those of direct neighbours are read.

        See `affinity_objects` for confidence and intermediates; `fragments` are the ids before they were joined.

        Raises:
            DataError: for another number of channels.
            OptionError: where no offset is to direct neighbours.
        """
        del parameters
        steps = offsets_of(self.representation, prediction)
        chosen = direct(steps, "agglomeration")
        near, offsets = prediction if len(chosen) == len(steps) else prediction[chosen], [steps[channel] for channel in chosen]
        lowest = near.min(axis=0)
        seeds, number = connected_components(lowest > self.options.seeds)
        growth = lowest > self.options.growth
        surface = binomial_smooth(np.negative(lowest, out=lowest), spacing)
        del lowest
        fragments = watershed(surface, seeds, growth)
        del surface, seeds, growth
        # before contacts are judged: else the voxels along them, whose lowest affinity is that across, would be in no fragment
        fragments = attach(fragments, near, offsets, threshold=self.options.threshold)
        joining = partial(
            agglomerate,
            threshold=self.options.threshold,
            quantile=self.options.quantile,
            min_contact=self.options.min_contact,
        )
        found = affinity_objects(joining(fragments, number, near, offsets), near, offsets, self.options.min_size)
        return Objects(found.labels, found.confidence, {**found.intermediates, "fragments": fragments})
