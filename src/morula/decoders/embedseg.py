"""EmbedSeg: objects by clustering embedded voxels around sure seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from morula.core.errors import DataError, OptionError
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.embedding_clusters import cluster
from morula.kernels.object_tables import numbered
from morula.labels.objects import Objects
from morula.representations.base import Representation, respelt


class Options(DecoderOptions):
    """Options of the EmbedSeg decoder."""

    kind: Literal["embedseg"] = "embedseg"
    """Name of the variant."""

    seed_threshold: float = Field(0.5, ge=0, le=1)
    """Seediness that a voxel needs to become the seed of an object. Also called `seed_thresh`."""
    foreground_threshold: float = Field(0.5, ge=0, le=1)
    """Voxels with a seediness above it belong to objects. Also called `fg_thresh`."""
    min_mask_sum: NonNegativeInt = 0
    """No object where no more than so many voxels are foreground."""
    min_unclustered_sum: NonNegativeInt = 0
    """Stop when no more than so many voxels of the foreground are left."""
    min_object_size: NonNegativeInt | None = None
    """Smaller clusters, in voxels, are no objects. Left out: none is too small; a job takes half the size of the smallest object of its
    training labels."""

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, values: Any) -> Any:
        return respelt(values, {"seed_thresh": "seed_threshold", "fg_thresh": "foreground_threshold"})


class EmbedSeg:
    """Objects of the channel E: see `morula.kernels.embedding_clusters.cluster` and `morula.representations.embedding.Embedding`.

    After Lalit et al., EmbedSeg (Medical Image Analysis 81, 2022).

    Args:
        options: what the user states.
        representations: the channel E, alone.

    Raises:
        OptionError: for other channels.
    """

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("E",),)
    counted: ClassVar[tuple[str, ...]] = ()
    """Codes of the channels whose histograms `fit` reads."""

    def __init__(self, options: Options | None, representations: Sequence[Representation[Any]]) -> None:
        self.options = options or Options()
        if not self.accepts(representations):
            given = ", ".join(each.code for each in representations)
            raise OptionError(f"the decoder embedseg reads the channel E alone, but the channels are {given}. Predict E alone.")
        self.representation = representations[0]

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether this is the channel E alone."""
        return [each.role for each in representations] == ["embedding"]

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "seed_threshold": choices(self.options.seed_threshold, (0.3, 0.5, 0.7, 0.8, 0.9)),
            "foreground_threshold": choices(self.options.foreground_threshold, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
            "min_object_size": choices(self.options.min_object_size or 0, (0, 10, 30, 100)),
        }

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """Nothing: the options say all."""
        del statistics
        return {}

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels C(Z)YX float32 (offsets along x, y, z, bandwidths, seediness), ids in the order of the seeds.

        Confidence is the seediness of an object's seed; intermediates are `seediness` and `foreground`.

        Raises:
            DataError: for another number of channels.
        """
        del parameters
        ndim = prediction.ndim - 1
        width = self.representation.width(ndim)
        if len(prediction) != width:
            raise DataError(f"the prediction has {len(prediction)} channels but E makes {width} in {ndim}D. Give C(Z)YX.")
        prediction = np.ascontiguousarray(prediction, np.float32)
        seediness = prediction[-1]
        foreground = seediness > self.options.foreground_threshold
        labels, confidence = np.zeros(foreground.shape, np.uint16), np.zeros(0, np.float32)
        if np.count_nonzero(foreground) > self.options.min_mask_sum:
            units = self.representation.options.units(spacing).astype(np.float32)
            places = np.empty((ndim, *foreground.shape), np.float32)
            for axis in range(ndim):
                steps = np.arange(foreground.shape[axis], dtype=np.float32) * units[axis]
                np.add(prediction[ndim - 1 - axis], steps.reshape([-1 if a == axis else 1 for a in range(ndim)]), out=places[axis])
            ids, confidence = cluster(
                places.reshape(ndim, -1),
                prediction[ndim:-1].reshape(width - ndim - 1, -1)[::-1],
                seediness.ravel(),
                foreground.ravel(),
                cell=4 * float(units.min()),
                seed_threshold=self.options.seed_threshold,
                min_unclustered=self.options.min_unclustered_sum,
                min_size=self.options.min_object_size or 0,
            )
            del places
            labels, _ = numbered(ids.reshape(foreground.shape), len(confidence))
        return Objects(labels, np.clip(confidence, 0, 1), {"seediness": seediness, "foreground": foreground})
