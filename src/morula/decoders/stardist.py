"""StarDist: every probable voxel proposes a star-convex object, and non-maximum suppression keeps the best of those that overlap.

The network predicts at every voxel how far its object reaches along fixed rays, and how probable it is that the voxel is in the middle of
an object. The ends of the rays are the corners of a polygon (2D) or polyhedron (3D)::

         \\  |  /            each voxel of an object proposes nearly the same shape; the proposal with the
        -- (x) --            highest score is kept, and all that overlap it by more than a limit are removed
         /  |  \\

1. The score of a voxel is the product of the channels that speak for or against a centre.
2. Voxels with a score above the threshold are candidates.
3. `morula.kernels.star_nms` keeps candidates greedily, by exact areas in 2D and by voxels in 3D.
4. The kept stars are painted, the highest score on top.

After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypedDict

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.label_image import smallest_type
from morula.decoders.base import Decoder, Representations, halo, unusable
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import channel_slices
from morula.decoders.watershed_plan import full_scale
from morula.kernels.object_tables import renumber
from morula.kernels.star_nms import OverlapRule, suppress
from morula.kernels.star_painting import paint_stars, ray_field
from morula.kernels.star_shapes import fan_of
from morula.labels.objects import Objects
from morula.representations.evidence import (
    Evidence,
    Predicate,
    first_of,
    is_background,
    is_boundary_distance,
    is_contact,
    is_foreground,
    is_outline,
    is_seed,
    is_signed_distance,
)

CENTRES: tuple[Predicate, ...] = (is_boundary_distance, is_signed_distance, is_foreground, is_seed, is_background)
"""Channels that say where objects are, the one that is highest at centres first."""
COMPETITORS = 2
"""Generations of overlapping stars in the halo: those that can remove a star, and those that can remove them."""

Share = Annotated[float, Field(ge=0, le=1)]


class Options(DecoderOptions):
    """Options of the stardist decoder."""

    kind: Literal["stardist"] = "stardist"
    """Name of the variant."""

    threshold: Share | Literal["auto"] = "auto"
    """Score above which a voxel proposes an object. `auto`: Otsu's threshold of the first channel that says where objects are, within 0.2
    and 0.4."""
    overlap: Share = 0.3
    """Of two objects that overlap by more than this, the one with the lower score is removed."""
    overlap_of: Literal["smaller", "union"] = "smaller"
    """What the common area or volume is compared with: the smaller of the two objects, as in StarDist, or their union."""
    corners: Literal["exact", "whole"] = "exact"
    """Where polygons (2D) have their corners when they are compared: `exact`, or rounded to `whole` pixels, similar to StarDist's own
    program and slower. It matters where many small objects overlap."""
    grid: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] = 1
    """Only every n-th voxel along each axis proposes an object; one number, or one per axis."""


class Parameters(TypedDict):
    """Threshold of the score, value that stands for 1 of each channel by code, and the largest value of the rays."""

    threshold: float
    scales: dict[str, float]
    longest: float


class StarDist(Decoder[Options, Parameters]):
    """Objects from rays (R) and channels that say how probable it is that a voxel is in the middle of an object.

    The score of a voxel is the product of those channels: Db, D, F and P count as they are (distances as shares of the largest one), B, C
    and T count inverted.

    Args:
        options: what the user states.
        representations: what the channels mean, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, or one of them is of no use.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> labels = np.zeros((12, 22), np.uint32)
        >>> labels[2:10, 1:11], labels[2:10, 11:21] = 1, 2
        >>> block = encode(labels, ["Db", "R"])
        >>> decoder = StarDist(None, build_channels(["Db", "R"]))
        >>> len(decoder.decode(block, decoder.fit(ChannelStatistics.of(block)), (1, 1)))
        2
    """

    name = "stardist"
    options_class = Options
    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("Db", "R"), ("F", "R"))
    min_iou: ClassVar[float] = 0.85
    """Holds for round objects and blocks, with the default number of rays."""

    def __init__(self, options: Options | None, representations: Representations) -> None:
        super().__init__(options, representations)
        self.rays = next(channel for channel in self.representations if channel.star_rays)
        first = first_of(self.representations, *CENTRES)
        assert first is not None
        self.first = first
        self.counted = (first.code,)

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for rays and at least one channel that says where objects are."""
        if not any(channel.star_rays for channel in representations):
            return unusable(cls.name, representations, "rays are missing", "Add R, or choose another decoder.")
        if first_of(representations, *CENTRES) is None:
            return unusable(cls.name, representations, "no channel says where objects are", "Add one of Db, F, D, P or B to R.")
        surplus = next((channel.code for channel in representations if not channel.star_rays and not _scores(channel)), None)
        return None if surplus is None else unusable(cls.name, representations, f"{surplus} is not used by this decoder", "Leave it out.")

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.2, 0.3, 0.4, 0.5, 0.6)),
            "overlap": choices(self.options.overlap, (0.1, 0.2, 0.3, 0.4, 0.5)),
        }

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """The threshold of the score, and the scale of each channel."""
        rows = channel_slices(self.representations, len(statistics.maximum))
        largest = {code: float(statistics.maximum[row].max()) for code, row in rows.items()}
        scales = {channel.code: full_scale(channel, largest[channel.code]) for channel in self.representations if not channel.star_rays}
        if self.options.threshold == "auto":
            # values above 0 only: the background of a distance map is 0 and would dominate the histogram
            split = statistics.otsu(rows[self.first.code].start, above=0.0) / scales[self.first.code]
            threshold = min(max(1 - split if self.first.inverted else split, 0.2), 0.4)
        else:
            threshold = self.options.threshold
        return {"threshold": threshold, "scales": scales, "longest": largest[self.rays.code]}

    def alignment(self, ndim: int) -> tuple[int, ...]:
        """The grid: blocks must have the same candidates."""
        return (self.options.grid,) * ndim if isinstance(self.options.grid, int) else self.options.grid

    def context(self, parameters: Parameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, the stars that overlap it, and those that overlap these.

        A star reaches as far as the longest predicted ray, which may exceed the radius of every object that remains. In principle longer
        chains of overlapping stars are possible; each link needs a score between those of its neighbours.
        """
        # rays are predicted in a unit of length of their own; a halo is counted in voxels
        longest_ray = parameters["longest"] * self.rays.options.length(spacing) / min(spacing)
        return halo(max_diameter + COMPETITORS * 2 * longest_ray + 1, spacing)

    def decode(self, block: np.ndarray, parameters: Parameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels C(Z)YX.

        The confidence is the score of the star's centre. Intermediates are `score` and `centres`. See `Decoder.decode` for arguments and
        errors.
        """
        rows = channel_slices(self.representations, len(block))
        score = self._score(block, rows, parameters["scales"])
        values = block[rows[self.rays.code]]
        fan = fan_of(len(values), spacing)
        rays = ray_field(values, parameters["longest"], self.rays.options.length(spacing), spacing)
        rule = OverlapRule(float(self.options.overlap), self.options.overlap_of == "union", self.options.corners == "whole")
        candidates = self._candidates(score, parameters["threshold"])
        if not any(channel.seed_evidence or channel.depth in ("boundary", "signed") for channel in self.representations):
            # a foreground alone is equally high everywhere in an object: among equal scores the longest shortest ray marks the middle
            candidates = candidates[np.argsort(-values.min(axis=0).ravel()[candidates], kind="stable")]
        kept = suppress(score, candidates, rays, fan, spacing, rule)
        labels = np.zeros(score.shape, np.uint32)
        paint_stars(labels, kept, rays, fan, spacing)
        labels, old_ids = renumber(labels, len(kept))
        centres = np.zeros(score.shape, smallest_type(len(old_ids)))
        # a star that others cover completely has no voxel left, and no centre
        visible = kept[old_ids - 1]
        centres.ravel()[visible] = np.arange(1, len(old_ids) + 1)
        return Objects(labels, score.ravel()[visible], {"score": score, "centres": centres})

    def _score(self, block: np.ndarray, rows: Mapping[str, slice], scales: Mapping[str, float]) -> np.ndarray:
        """Product of the channels that are not rays, each as a share of its scale, (Z)YX float32."""
        score: np.ndarray | None = None
        for channel in self.representations:
            if channel.star_rays:
                continue
            share = np.clip(block[rows[channel.code].start] * np.float32(1 / scales[channel.code]), 0, 1)
            share = 1 - share if channel.inverted else share
            score = share if score is None else np.multiply(score, share, out=score)
        assert score is not None
        return score

    def _candidates(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Flat indices of the voxels that propose an object, ascending."""
        grid = self.alignment(score.ndim)
        if len(grid) != score.ndim:
            raise OptionError(
                "option.axis_count",
                f"must be one number or {score.ndim} numbers, one per axis of the image",
                key="grid",
                value=list(grid),
                remedy="Give one number for all axes.",
            )
        # compared in float32, so that a score equal to the threshold passes whatever the type of the number
        passed = score >= np.float32(threshold)
        if set(grid) != {1}:
            on_grid = np.zeros_like(passed)
            on_grid[tuple(slice(None, None, step) for step in grid)] = True
            passed &= on_grid
        return np.flatnonzero(passed)


def _scores(channel: Evidence) -> bool:
    """Whether a channel speaks for or against a centre; distances to the centre or to neighbours and masks do not enter the score."""
    return any(predicate(channel) for predicate in (*CENTRES, is_outline, is_contact))
