"""Objects by following flows: voxels whose trajectories converge are one object.

The network predicts at every voxel of an object a unit vector that leads along the object to its centre. Every voxel of the foreground is
moved along the vectors until it rests. Trajectories of one object converge at its centre, however irregular its shape::

    -> -> -> O <- <-  | -> -> O <- <-        O: where trajectories end; one peak of their number per object

1. Threshold the foreground channel.
2. Follow the flow from each foreground voxel (`morula.kernels.flow_tracking`).
3. Count trajectories per end voxel, smooth the counts; peaks separated by valleys are objects (`morula.kernels.relative_h_maxima`).
4. A voxel belongs to the object at the end of its trajectory.
5. Remove objects whose predicted flow differs from the flow that their shape has.

The cost is steps x voxels. After Stringer et al., Cellpose (Nature Methods 18, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.decoders.base import Decoder, Representations, ThresholdParameters, halo, unusable
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import channel_slices
from morula.kernels.flow_tracking import count_ends, flow_errors, follow, labels_of_ends
from morula.kernels.geometry import voxel_counts
from morula.kernels.object_tables import object_means, renumber, select_objects
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import gaussian_smooth
from morula.labels.objects import Objects
from morula.representations.base import Representation
from morula.representations.evidence import first_of, is_background, is_foreground, is_signed_distance

Share = Annotated[float, Field(ge=0, le=1)]
_SIGMA = 1.0
"""Width of the Gaussian that joins ends which are a voxel or two apart."""
_FEWEST = 0.1
"""Smoothed number of trajectories from which a voxel is part of a peak."""
_RIDGE_SIGMA, _RIDGE_FEWEST = 0.7, 0.5
"""The same for flows to ridges, which are as near to each other as objects are thin."""


class Options(DecoderOptions):
    """Options of the flows decoder."""

    kind: Literal["flows"] = "flows"
    """Name of the variant."""

    threshold: float | Literal["auto"] = "auto"
    """Value of the foreground channel above which a voxel belongs to an object (below it for B). `auto`: Otsu's threshold of F or B, within
    0.3 and 0.6; 0 for D."""
    steps: int = Field(200, ge=1)
    """Largest number of steps of a trajectory; voxels at rest stop earlier."""
    valley: Share = 0.5
    """Ends of trajectories belong to two objects where the number of ends between them falls by more than this share of the lower peak.
    Where flows lead to ridges, connected ends are one object."""
    flow_error: Annotated[float, Field(ge=0)] | None = 0.4
    """Remove objects whose predicted flow differs by more than this from the flow of their shape (mean squared difference, summed over the
    axes). Null: keep all."""
    min_size: int = Field(15, ge=0)
    """Remove objects with fewer voxels."""


class Flows(Decoder[Options, ThresholdParameters]):
    """Objects from flow vectors (G) and a channel that predicts the foreground: F, B or D.

    Args:
        options: what the user states.
        representations: what the channels mean, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, one of them is of no use, or the threshold is out of range.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> labels = np.zeros((12, 22), np.uint32)
        >>> labels[2:10, 1:11], labels[2:10, 11:21] = 1, 2
        >>> block = encode(labels, ["F", "G"])
        >>> decoder = Flows(None, build_channels(["F", "G"]))
        >>> len(decoder.decode(block, decoder.fit(ChannelStatistics.of(block)), (1, 1)))
        2
    """

    name = "flows"
    options_class = Options
    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("F", "G"), ("B", "G"), ("D", "G"))

    def __init__(self, options: Options | None, representations: Representations) -> None:
        super().__init__(options, representations)
        self.flow = next(channel for channel in self.representations if channel.flow_vectors)
        self.foreground = next(channel for channel in self.representations if not channel.flow_vectors)
        threshold, probability = self.options.threshold, self.foreground.foreground_probability
        if threshold != "auto" and probability and not 0 <= threshold <= 1:
            raise OptionError(
                "decoder.threshold_range",
                f"must be from 0 to 1, the values of {self.foreground.code}",
                key="threshold",
                value=threshold,
                remedy="Give a number within, or 'auto'.",
            )
        self.counted = (self.foreground.code,) if probability else ()

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for flow vectors and one foreground channel."""
        vectors = [channel for channel in representations if channel.flow_vectors]
        foreground = _foreground(representations)
        surplus = [channel.code for channel in representations if channel is not foreground and channel not in vectors[:1]]
        if not vectors:
            return unusable(cls.name, representations, "flow vectors are missing", "Add G, or choose another decoder.")
        if foreground is None:
            return unusable(cls.name, representations, "no channel predicts which voxels belong to objects", "Add one of F, B or D to G.")
        if surplus:
            return unusable(cls.name, representations, f"{surplus[0]} is not used together with G and {foreground.code}", "Leave it out.")
        return None

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.3, 0.4, 0.5, 0.6)),
            "flow_error": choices(self.options.flow_error, (0.2, 0.4, 0.6, 0.8, None)),
            "min_size": choices(self.options.min_size, (0, 15, 50)),
        }

    def fit(self, statistics: ChannelStatistics) -> ThresholdParameters:
        """The threshold of the foreground channel."""
        if self.options.threshold != "auto":
            return {"threshold": self.options.threshold}
        if not self.foreground.foreground_probability:
            return {"threshold": 0.0}  # a signed distance changes its sign at the boundary
        row = channel_slices(self.representations, len(statistics.maximum))[self.foreground.code].start
        return {"threshold": min(max(statistics.otsu(row), 0.3), 0.6)}

    def context(self, parameters: ThresholdParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, its neighbours, and the Gaussian over the ends of trajectories."""
        return halo(2 * max_diameter + 4 * _SIGMA + 2, spacing)

    def decode(self, block: np.ndarray, parameters: ThresholdParameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels C(Z)YX.

        The confidence is the mean foreground probability, reduced by the flow error. Intermediates are `foreground` and `ends`, the number
        of trajectories that end at each voxel. See `Decoder.decode` for arguments and errors.
        """
        rows = channel_slices(self.representations, len(block))
        flow, values = block[rows[self.flow.code]], block[rows[self.foreground.code].start]
        inverted = self.foreground.inverted
        mask = values < parameters["threshold"] if inverted else values > parameters["threshold"]
        labels, ends, n = self._converged(flow, mask, spacing)
        # per object before any is removed: tables are indexed by the ids of `_converged`
        means = object_means(labels, values, n)
        means = 1 - means if inverted else means
        max_error = self.options.flow_error
        errors = np.zeros(n) if max_error is None else flow_errors(labels, flow, self.flow.encode(labels, spacing), n)
        # index 0 is the background
        kept = np.ones(n + 1, np.bool_)
        kept[1:] = (errors <= (max_error or np.inf)) & (voxel_counts(labels, n)[1:] >= self.options.min_size)
        if not kept.all():
            selected = np.zeros_like(labels)
            select_objects(labels.ravel(), labels.ravel(), kept, selected.ravel())
            labels = selected
        labels, old_ids = renumber(labels, n)
        confidence = np.clip(means[old_ids - 1] * np.clip(1 - errors[old_ids - 1], 0, 1), 0, 1).astype(np.float32)
        return Objects(labels, confidence, {"foreground": mask, "ends": ends})

    def _converged(self, flow: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray, int]:
        """Labels by the ends of trajectories, the number of trajectories that end at each voxel, and the largest id."""
        end_voxels = follow(flow, mask, spacing, self.options.steps)
        counts = np.zeros(mask.shape, np.float32)
        count_ends(end_voxels.ravel(), counts.ravel())
        ridges = self.flow.to_ridges
        smoothed = gaussian_smooth(counts, _RIDGE_SIGMA if ridges else _SIGMA, spacing)
        # the ends along a ridge are one object, however much their number varies
        fewest, valley = (_RIDGE_FEWEST, 1.0) if ridges else (_FEWEST, self.options.valley)
        # neighbours across corners, too: the ends of one object may be on a diagonal
        peaks, n = relative_h_maxima(smoothed, smoothed > fewest, valley, connectivity=mask.ndim)
        labels = np.zeros(mask.shape, np.uint32)
        labels_of_ends(end_voxels.ravel(), peaks.ravel(), labels.ravel())
        return labels, counts, n


def _foreground(representations: Representations) -> Representation | None:
    """The channel that predicts the foreground best."""
    return first_of(representations, is_foreground, is_background, is_signed_distance)
