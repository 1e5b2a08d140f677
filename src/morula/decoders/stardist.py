"""Star-convex objects: every probable voxel proposes the shape that its rays draw, and the best of those that overlap stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.label_image import smallest_type
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import rows_of
from morula.decoders.watershed_plan import top
from morula.kernels.object_tables import numbered
from morula.kernels.star_nms import Rule, field_of, paint_stars, suppress
from morula.kernels.star_shapes import fan_of
from morula.labels.objects import Objects
from morula.representations.base import Representation

FOR = ("distance", "signed_distance", "interior", "centre")
"""Roles whose high values speak for a star's centre, the best first."""
AGAINST = ("background", "contour", "touching")
"""Roles whose low values do."""

Share = Annotated[float, Field(ge=0, le=1)]


class Options(DecoderOptions):
    """Options of the stardist decoder."""

    kind: Literal["stardist"] = "stardist"
    """Name of the variant."""

    threshold: Share | Literal["auto"] = "auto"
    """Score from which a voxel proposes an object. `auto`: Otsu's threshold of the first channel that speaks for objects, within 0.2 and
    0.4."""
    overlap: Share = 0.3
    """Of two objects that overlap by more than this, the one with the lower score goes."""
    overlap_of: Literal["smaller", "union"] = "smaller"
    """What the common part is compared with: the smaller of the two objects, as StarDist does, or their union."""
    corners: Literal["exact", "whole"] = "exact"
    """Where polygons (2D) have their corners when they are compared: `exact`, or cut to `whole` pixels, much as in StarDist's own program,
    which takes longer. It matters where many small objects overlap."""
    grid: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] = 1
    """Only every so many-th voxel along each axis proposes an object; one number, or one an axis."""


class StarDist:
    """Objects from the channel R and channels that tell how probable it is that a voxel lies in the middle of an object.

    The score of a voxel is the product of what those channels say: Db, D, F and P speak for it (distances in parts of the longest), B, C
    and T against it. Polygons of the rays (polyhedra in 3D) overlap by true areas (by voxels); the labels are painted in the order of the
    score, the highest on top, and the score is the confidence. After Schmidt et al. (MICCAI 2018) and Weigert et al. (WACV 2020).

    Args:
        options: what the user states.
        representations: the channels, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, or one of them is of no use here.
    """

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (("Db", "R"), ("F", "R"))
    """Sets of which decoding gives back the objects that were encoded, as near as stars come to them."""
    nearness: ClassVar[float] = 0.85
    """Intersection over union with objects that are round or blocks, at least, with as many rays as R has by itself."""

    def __init__(self, options: Options | None, representations: Sequence[Representation[Any]]) -> None:
        self.options = options or Options()
        self.representations = tuple(representations)
        _check(self.representations)
        self.rays = next(each for each in self.representations if each.role == "rays")
        self.first = next(each for role in (*FOR, AGAINST[0]) for each in self.representations if each.role == role)
        self.counted = (self.first.code,)
        """Codes of the channels whose histograms `fit` reads."""

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether objects can be made of these channels."""
        try:
            _check(representations)
        except OptionError:
            return False
        return True

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.2, 0.3, 0.4, 0.5, 0.6)),
            "overlap": choices(self.options.overlap, (0.1, 0.2, 0.3, 0.4, 0.5)),
        }

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """The threshold, and what stands for 1 in each channel, from statistics of the whole prediction. JSON-able."""
        rows = rows_of(self.representations, len(statistics.maximum))
        largest = {code: float(statistics.maximum[row].max()) for code, row in rows.items()}
        tops = {each.code: top(each, largest[each.code]) for each in self.representations if each.role != "rays"}
        threshold = self.options.threshold
        if threshold == "auto":
            split = statistics.otsu(rows[self.first.code].start, above=0.0) / tops[self.first.code]
            threshold = min(max(1 - split if self.first.role in AGAINST else split, 0.2), 0.4)
        return {"threshold": threshold, "tops": tops, "longest": largest[self.rays.code]}

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels C(Z)YX.

        Args:
            prediction: channels C(Z)YX float32.
            parameters: from `fit`.
            spacing: edge lengths of a voxel.

        Raises:
            DataError: when the prediction does not fit the channels.
            OptionError: when the grid does not fit the axes.
        """
        rows = rows_of(self.representations, len(prediction))
        score = self._score(prediction, rows, parameters["tops"])
        values = prediction[rows[self.rays.code]]
        fan = fan_of(len(values), spacing)
        field = field_of(values, parameters["longest"], self.rays.options.length(spacing), spacing)
        rule = Rule(float(self.options.overlap), self.options.overlap_of == "union", self.options.corners == "whole")
        candidates = self._candidates(score, parameters["threshold"])
        if not any(each.role in ("distance", "signed_distance", "centre") for each in self.representations):
            # the inside alone does not tell the middle: among equal scores those whose shortest ray is longest come first
            candidates = candidates[np.argsort(-values.min(axis=0).ravel()[candidates], kind="stable")]
        kept = suppress(score, candidates, field, fan, spacing, rule)
        labels = np.zeros(score.shape, np.uint32)
        paint_stars(labels, kept, field, fan, spacing)
        found, old = numbered(labels, len(kept))
        centres = np.zeros(score.shape, smallest_type(len(old)))
        seen = kept[old - 1]
        centres.ravel()[seen] = np.arange(1, len(old) + 1)
        return Objects(found, score.ravel()[seen], {"score": score, "centres": centres})

    def _score(self, prediction: np.ndarray, rows: Mapping[str, slice], tops: Mapping[str, float]) -> np.ndarray:
        score: np.ndarray | None = None
        for each in self.representations:
            if each.role == "rays":
                continue
            share = np.clip(prediction[rows[each.code].start] * np.float32(1 / tops[each.code]), 0, 1)
            share = 1 - share if each.role in AGAINST else share
            score = share if score is None else np.multiply(score, share, out=score)
        assert score is not None
        return score

    def _candidates(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Flat indices of the voxels that propose an object, ascending."""
        grid = (self.options.grid,) * score.ndim if isinstance(self.options.grid, int) else self.options.grid
        if len(grid) != score.ndim:
            raise OptionError(
                f"decoder stardist: grid {list(grid)} has {len(grid)} numbers but the image {score.ndim} axes. Give one an axis."
            )
        passed = score >= np.float32(threshold)
        if set(grid) != {1}:
            on_grid = np.zeros_like(passed)
            on_grid[tuple(slice(None, None, step) for step in grid)] = True
            passed &= on_grid
        return np.flatnonzero(passed)


def _check(representations: Sequence[Representation[Any]]) -> None:
    """Raise an `OptionError` unless there are rays, a channel that tells where objects are, and none besides that is of no use."""
    roles = {each.code: each.role for each in representations}
    if "rays" not in roles.values():
        raise OptionError(f"stardist needs the channel R but the channels are {', '.join(roles)}. Add R, or choose another decoder.")
    if not set(roles.values()) & {*FOR, AGAINST[0]}:
        raise OptionError(f"the channels {', '.join(roles)} do not say where objects are. Add one of Db, F, D, P or B to R.")
    for code, role in roles.items():
        if role not in ("rays", *FOR, *AGAINST):
            raise OptionError(f"stardist makes no use of the channel {code}. Leave it out.")
