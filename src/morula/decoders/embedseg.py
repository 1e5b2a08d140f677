"""EmbedSeg: objects by clustering voxels in embedding space.

The network predicts for every voxel an offset to the centre of its object (together with the voxel's position: its embedding), how far
around that centre voxels belong to the object (the bandwidth), and how certain it is of that (the seediness)::

    image space        . a a a . b b b .        embedding space      a        b
                         -> offsets ->                              aaa      bbb

Voxels of one object meet at its centre, so that touching objects are far apart in embedding space. The voxel with the highest seediness
becomes a seed and takes all voxels embedded within its bandwidth, then the next one, and so on; see
`morula.kernels.embedding_clusters`, and `morula.representations.embedding` for the channels.

After Lalit et al., EmbedSeg (Medical Image Analysis 81, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from morula.core.errors import DataError, OptionError
from morula.decoders.base import Decoder, NoParameters, Representations, halo, unusable
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.embedding_clusters import cluster
from morula.kernels.object_tables import renumber
from morula.labels.objects import Objects


class Options(DecoderOptions):
    """Options of the EmbedSeg decoder."""

    kind: Literal["embedseg"] = "embedseg"
    """Name of the variant."""
    earlier_names: ClassVar[Mapping[str, str]] = {"seed_thresh": "seed_threshold", "fg_thresh": "foreground_threshold"}

    seed_threshold: float = Field(0.5, ge=0, le=1)
    """Seediness that a voxel needs to become the seed of an object. Also called `seed_thresh`."""
    foreground_threshold: float = Field(0.5, ge=0, le=1)
    """Voxels with a seediness above this value belong to objects. Also called `fg_thresh`."""
    min_mask_sum: NonNegativeInt = 0
    """No objects where the foreground has at most this many voxels (counted per block)."""
    min_unclustered_sum: NonNegativeInt = 0
    """Stop when at most this many voxels of the foreground are left (counted per block)."""
    min_object_size: NonNegativeInt | None = None
    """Clusters with fewer voxels are no objects. Left out: every size counts; a job uses half the size of the smallest object of its
    training labels."""


class EmbedSeg(Decoder[Options, NoParameters]):
    """Objects of an embedding.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> labels = np.zeros((12, 20), np.uint32)
        >>> labels[2:10, 1:10], labels[2:10, 10:19] = 1, 2
        >>> decoder = EmbedSeg(None, build_channels(["E"]))
        >>> len(decoder.decode(encode(labels, ["E"]), {}, (1, 1)))
        2
    """

    name = "embedseg"
    options_class = Options
    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("E",),)

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for one representation, an embedding."""
        if len(representations) == 1 and representations[0].embedding:
            return None
        return unusable(cls.name, representations, "only the channel E can be used", "Predict E alone, or choose another decoder.")

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "seed_threshold": choices(self.options.seed_threshold, (0.3, 0.5, 0.7, 0.8, 0.9)),
            "foreground_threshold": choices(self.options.foreground_threshold, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
            "min_object_size": choices(self.options.min_object_size or 0, (0, 10, 30, 100)),
        }

    def fit(self, statistics: ChannelStatistics) -> NoParameters:
        """No parameters: the options state every threshold."""
        del statistics
        return {}

    def context(self, parameters: NoParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, and two rings of neighbours.

        A cluster loses the voxels that a neighbour with a higher seediness took first; that neighbour may itself have been reduced.
        """
        return halo(3 * max_diameter + 1, spacing)

    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of the channels offsets along x, y (and z), bandwidths, seediness; ids in the order of decreasing seediness.

        The confidence is the seediness of an object's seed; intermediates are `seediness` and `foreground`.

        Raises:
            DataError: when the number of channels does not fit.
        """
        representation, ndim = self.representations[0], block.ndim - 1
        width = representation.width(ndim)
        if len(block) != width:
            raise DataError(
                "prediction.channel_count",
                f"E has {width} channels in {ndim}D",
                key="prediction",
                value=block.shape,
                remedy="Give C(Z)YX.",
            )
        block = np.ascontiguousarray(block, np.float32)
        seediness = block[-1]
        foreground = seediness > self.options.foreground_threshold
        labels, confidence = np.zeros(foreground.shape, np.uint16), np.zeros(0, np.float32)
        # an image without foreground needs no clustering
        if np.count_nonzero(foreground) > self.options.min_mask_sum:
            units = representation.options.units(spacing).astype(np.float32)
            ids, confidence = cluster(
                _embedded(block, units).reshape(ndim, -1),
                # bandwidths are predicted in the order x, y, z like the offsets; arrays count z, y, x
                block[ndim:-1].reshape(width - ndim - 1, -1)[::-1],
                seediness.ravel(),
                foreground.ravel(),
                # affects the speed only: cells of a few voxels hold few points, and a cluster touches few cells
                cell=4 * float(units.min()),
                seed_threshold=self.options.seed_threshold,
                min_unclustered=self.options.min_unclustered_sum,
                min_size=self.options.min_object_size or 0,
            )
            labels, _ = renumber(ids.reshape(foreground.shape), len(confidence))
        return Objects(labels, np.clip(confidence, 0, 1), {"seediness": seediness, "foreground": foreground})


def _embedded(block: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Where each voxel is embedded: its position plus its offset, (ndim, (Z)YX) float32 in array order."""
    shape, ndim = block.shape[1:], block.ndim - 1
    positions = np.empty((ndim, *shape), np.float32)
    # offsets are predicted along x, y (and z), as by EmbedSeg; arrays count z, y, x
    for axis in range(ndim):
        steps = np.arange(shape[axis], dtype=np.float32) * units[axis]
        np.add(block[ndim - 1 - axis], steps.reshape([-1 if a == axis else 1 for a in range(ndim)]), out=positions[axis])
    return positions
