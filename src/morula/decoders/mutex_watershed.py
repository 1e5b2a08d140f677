"""Mutex watershed on affinities: near ones attract, long-range ones repel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from morula.core.errors import OptionError
from morula.decoders.affinities import AffinityDecoder, affinity_objects, direct, offsets_of
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.kernels.mutex_watershed import mutex_watershed
from morula.labels.objects import Objects


class Options(DecoderOptions):
    """Options of the mutex watershed."""

    kind: Literal["mutex_watershed"] = "mutex_watershed"
    """Name of the variant."""

    threshold: float = Field(0.5, ge=0, lt=1)
    """Direct neighbours with an affinity above it attract each other; a voxel that attracts none is background. Lower it where objects
    fill the image."""
    strides: PositiveInt | tuple[PositiveInt, ...] = 1
    """Use long-range affinities at every so many voxels only, one number or one an axis: faster, and less ready to split."""
    noise: float = Field(0.0, ge=0, le=1)
    """Add up to so much to the weight of each long-range affinity, so that equal ones come in random order."""
    seed: NonNegativeInt = 0
    """Seed of the noise."""
    min_size: NonNegativeInt = 8
    """Smaller objects, in voxels, go to the neighbours that flood them first; those without neighbours are dropped."""


class MutexWatershed(AffinityDecoder[Options]):
    """Objects of affinities, without seeds: see `morula.kernels.mutex_watershed.mutex_watershed`."""

    name = "mutex_watershed"
    options_class = Options

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "threshold": choices(self.options.threshold, (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)),
            "strides": choices(self.options.strides, (1, 2, 4)),
            "min_size": choices(self.options.min_size, (0, 8, 25, 100)),
        }

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted affinities C(Z)YX float32; see `affinity_objects` for confidence and intermediates.

        Raises:
            DataError: for another number of channels.
            OptionError: for strides of another number of axes, or where no offset is to direct neighbours.
        """
        del parameters, spacing
        steps = offsets_of(self.representation, prediction)
        direct(steps, "mutex_watershed")
        strides = self.options.strides if isinstance(self.options.strides, tuple) else (self.options.strides,)
        if len(strides) not in (1, prediction.ndim - 1):
            raise OptionError(f"strides {list(strides)} has {len(strides)} numbers but the image {prediction.ndim - 1} axes.")
        chosen = self.options
        return affinity_objects(
            mutex_watershed(prediction, steps, threshold=chosen.threshold, strides=strides, noise=chosen.noise, seed=chosen.seed),
            prediction,
            steps,
            chosen.min_size,
        )
