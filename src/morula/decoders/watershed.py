"""Marker-controlled watershed on predicted channels.

The five steps of the document: seed creation, topographic surface, growth mask, refinement of seeds and growth mask, watershed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.options import Options as BaseOptions
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import PARTED, plane_of, plane_roles, planes, rows_of
from morula.decoders.watershed_plan import (
    AGAINST,
    DISTANCES,
    SURFACES,
    Threshold,
    auto_threshold,
    check_plan,
    codes,
    lowest_peak,
    planned_growth,
    planned_seeds,
    planned_surface,
    planned_valley,
    threshold_choices,
    top,
)
from morula.kernels.components import connected_components
from morula.kernels.geometry import sizes_of
from morula.kernels.object_tables import numbered, object_maxima, object_means, select
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import binomial_smooth, gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.distance import distance
from morula.labels.morphology import Radius, dilate_mask, erode, radii
from morula.labels.objects import Objects
from morula.representations.base import Representation

Share = Annotated[float, Field(ge=0, le=1)]


class Morphology(BaseOptions):
    """One operation on the seed map."""

    op: Literal["erode", "dilate"]
    """What is done."""
    radius: Radius = 1
    """Radius of the ellipsoid, in voxels of the finest axis, or one number an axis."""


class Options(DecoderOptions):
    """Options of the watershed decoder. What is left empty is planned from the channels."""

    kind: Literal["watershed"] = "watershed"
    """Name of the variant."""

    seeds: dict[str, Threshold] = Field({})
    """Step 1. Channels that make seeds, each with its threshold or `auto`: above it for F, P, Db and D, below it for B, C, T, Dc and Dn.
    H, V and Z stand together for how near an object's end is, by the lowest of their thresholds; A for its lowest affinity."""
    surface: str | None = None
    """Step 2. Channel whose values are flooded from the seeds."""
    growth: dict[str, Threshold] = Field({})
    """Step 3. Channels that limit the objects, each with its threshold or `auto`."""
    valley: Share | Literal["auto"] | None = "auto"
    """Step 4. Part seeds where the depth map (the product of the seed channels, slightly smoothed) has a valley deeper than this share of
    the lower peak; `auto` is 0.45 with a distance to the boundary among the seeds, 0.3 with one to the centre, else 0.25. Null: seeds are
    the connected pieces of the seed map."""
    smoothing: float = Field(0.0, ge=0)
    """Step 1. Standard deviation of a Gaussian that smooths the channels of the seeds first, in voxels of the finest axis. About a fifth
    of an object's diameter helps where images are so noisy that objects fall to pieces; the valley is then shallow, 0.05 to 0.2."""
    seed_morphology: tuple[Morphology, ...] = ()
    """Step 4. Erosions and dilations of the seed map, in this order."""
    growth_erosion: Radius = 0
    """Step 4. Erode the growth mask by so many voxels, ..."""
    growth_dilation: Radius = 0
    """... then dilate it by so many: thin artefacts go."""
    min_seed: int = Field(0, ge=0)
    """Step 4. Drop seeds of fewer voxels."""
    keep_unseeded: bool = False
    """Step 5. Pieces of the growth mask that no seed reaches become objects, too (not slice by slice). For clean predictions alone."""
    by_slice: bool = False
    """Step 5. Flood each z plane by itself, from the 3D seeds."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""


class Watershed:
    """Objects from any of the channels that says where objects are: all but rays and flows.

    Args:
        options: what the user states.
        representations: the channels, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, or an option names a channel that is not there.
    """

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("F", "C"), ("B", "C"), ("F", "Db"), ("B", "Db"), ("F", "P", "C"), ("F", "P", "Db"), ("F", "C", "Db"), ("F", "C", "Dc"),
        ("F", "P", "C", "Db"), ("F", "C", "D"), ("F", "C", "T"), ("F", "C", "M"), ("F", "C", "Db", "Dn"),
    )  # fmt: skip
    """Sets of which decoding gives back exactly what was encoded, on objects thicker than the contour; others are accepted, too."""

    def __init__(self, options: Options | None, representations: Sequence[Representation[Any]]) -> None:
        self.options = options or Options()
        self.representations = tuple(representations)
        self.channels = plane_roles(self.representations)
        self.counted = tuple(each.code for each in self.representations if each.code in self.channels)
        """Codes of the channels whose histograms `fit` reads."""
        stated = self.options
        seeds, growth = self._by_plane(stated.seeds, "seeds"), self._by_plane(stated.growth, "growth")
        surface = plane_of(stated.surface, self.representations)[-1] if stated.surface else None
        check_plan(self.channels, seeds, growth, surface)
        self.seeds = seeds or planned_seeds(self.channels)
        self.growth = growth or planned_growth(self.channels)
        self.valley = planned_valley(self.channels, self.seeds) if self.options.valley == "auto" else self.options.valley
        self.surface = surface or planned_surface(self.channels)

    def _by_plane(self, stated: Mapping[str, Threshold], step: str) -> dict[str, Threshold]:
        """Thresholds by the planes that the user's channels stand for; the lowest where several share one."""
        found: dict[str, Threshold] = {}
        for code, threshold in stated.items():
            for plane in plane_of(code, self.representations):
                if plane == PARTED and step == "growth":
                    continue  # contours belong to the objects
                own = 1 - threshold if plane == PARTED and threshold != "auto" else threshold
                numbers = [each for each in (found.get(plane, "auto"), own) if each != "auto"]
                found[plane] = min(numbers) if numbers else "auto"
        return found

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether objects can be made of these channels; not of long-range affinities, which it does not read."""
        if any(each.role == "affinity" and each.options.long_range for each in representations):
            return False
        try:
            check_plan(plane_roles(representations), {}, {}, None)
        except OptionError:
            return False
        return True

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first: thresholds of every step, valley, smallest seed, surface."""
        space: Space = {}
        for step, used in (("seeds", self.seeds), ("growth", self.growth)):
            seen: set[str] = set()
            for each in self.representations:
                planes = [plane for plane in plane_of(each.code, self.representations) if plane in used]
                if planes:
                    tried = threshold_choices(self.channels[planes[0]], used[planes[0]])
                    space[f"{step}.{each.code}"] = tried if planes[0] not in seen else tried[:1]
                    seen.add(planes[0])
        space["valley"] = choices(self.options.valley, ("auto", None, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75))
        space["smoothing"] = choices(self.options.smoothing, (0.0, 1.0, 2.0, 3.0, 4.0))
        space["min_seed"] = choices(self.options.min_seed, (0, 3, 10, 30))
        own = {each.code for each in self.representations}
        space["surface"] = choices(self.options.surface, (None, *(code for code in codes(self.channels, *SURFACES) if code in own)))
        return space

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """Thresholds from statistics of the whole prediction; blocks are then decoded with them. JSON-able."""
        rows = rows_of(self.representations, len(statistics.maximum))
        largest = {code: float(statistics.maximum[row].max()) for code, row in rows.items()}
        for each in self.representations:
            if each.role == "offset":
                largest[each.code] = max(largest[each.code], -float(statistics.minimum[rows[each.code]].min()))
        otsu = {code: partial(statistics.otsu, rows[code].start) for code in self.counted}
        parted = self.valley is not None

        def threshold(code: str, given: Threshold, step: Literal["seeds", "growth"]) -> float | None:
            if given != "auto":
                return float(given)
            return auto_threshold(self.channels, code, otsu.get(code), largest.get(code, 1.0), step=step, parted=parted)

        seeds = {code: threshold(code, given, "seeds") for code, given in self.seeds.items()}
        growth = {code: threshold(code, given, "growth") for code, given in self.growth.items()}
        return {"seeds": seeds, "growth": growth, "largest": largest}

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels.

        Args:
            prediction: channels C(Z)YX float32, through their activation.
            parameters: from `fit`.
            spacing: edge lengths of a voxel, in array order.

        Returns:
            Objects with ids 1..n. Confidence is the mean probability of the inside (F, or 1 - B) in the object; where no such channel
            is there, the highest value of the depth map in it. Intermediates are `seeds`, `surface` and `growth`.

        Raises:
            DataError: for another number of channels.
        """
        found = planes(self.representations, np.asarray(prediction, np.float32), parameters["largest"])
        growth = self._growth_mask(found, parameters["growth"], spacing)
        depth = self._depth(found, parameters["largest"]) * growth
        clear, landscape = found, depth
        if sigma := self.options.smoothing:
            clear = {**found, **{code: gaussian_smooth(found[code], sigma, spacing) for code in self.seeds}}
            landscape = self._depth(clear, parameters["largest"]) * growth
        seeds, number = self._seeds(clear, parameters["seeds"], growth, landscape, spacing)
        seeds = self._worthy(seeds, number, depth, parameters["seeds"])
        surface = self._surface(found, seeds, spacing)
        labels, number = self._flooded(surface, seeds, number, growth)
        labels, old = numbered(labels, number)
        return Objects(labels, self._confidence(labels, found, depth, len(old)), {"seeds": seeds, "surface": surface, "growth": growth})

    def _surface(self, planes: Mapping[str, np.ndarray], seeds: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Step 2. Where centres make the seeds and nothing says where touching objects end, the distance from the seeds stands for it: all
        grow equally fast, while the channel of the inside is flat but for its noise."""
        role = self.channels[self.surface].role
        centres = any(self.channels[code].role == "centre" for code in self.seeds)
        if centres and not self.options.surface and role in ("interior", "background", "mask"):
            return distance(seeds == 0, spacing)
        return planes[self.surface] if role in AGAINST else -planes[self.surface]

    def _inside(self) -> str | None:
        """The channel that tells inside from outside."""
        return next(iter(codes(self.channels, "interior", "background")), None)

    def _depth(self, planes: Mapping[str, np.ndarray], largest: Mapping[str, float]) -> np.ndarray:
        """The depth map: product of the seed channels as shares of 1. Where a distance is among them, it stands for the inside."""
        distances = [code for code in self.seeds if self.channels[code].role in DISTANCES]
        depth: np.ndarray | None = None
        for code in self.seeds:
            channel = self.channels[code]
            if distances and channel.role in ("interior", "background"):
                continue
            one = np.float32(top(channel, largest.get(code, 1.0)))
            share = 1 - planes[code] / one if channel.role in AGAINST else planes[code] / one
            depth = share if depth is None else np.multiply(depth, share, out=depth)
        assert depth is not None
        return depth

    def _passed(self, planes: Mapping[str, np.ndarray], thresholds: Mapping[str, float | None], spacing: Sequence[float]) -> np.ndarray:
        """Voxels that pass all thresholds."""
        mask = np.ones(next(iter(planes.values())).shape, np.bool_)
        for code, threshold in thresholds.items():
            limit = np.float32(0.5 * min(spacing) if threshold is None else threshold)
            mask &= planes[code] < limit if self.channels[code].role in AGAINST else planes[code] > limit
        return mask

    def _growth_mask(
        self, planes: Mapping[str, np.ndarray], thresholds: Mapping[str, float | None], spacing: Sequence[float]
    ) -> np.ndarray:
        """Steps 3 and 4."""
        only = next(iter(self.growth)) if len(self.growth) == 1 else None
        if only is not None and self.channels[only].role == "distance" and thresholds[only] is not None:
            # scaled distances are 0 on an object's outermost voxels: a low threshold on smooth values, and one voxel more
            mask = dilate_mask(self._passed({only: binomial_smooth(planes[only], spacing)}, thresholds, spacing), (1,) * len(spacing))
        else:
            mask = self._passed(planes, thresholds, spacing)
        mask = erode(mask, radii(self.options.growth_erosion, spacing))
        return dilate_mask(mask, radii(self.options.growth_dilation, spacing))

    def _seeds(
        self,
        planes: Mapping[str, np.ndarray],
        thresholds: Mapping[str, float | None],
        growth: np.ndarray,
        depth: np.ndarray,
        spacing: Sequence[float],
    ) -> tuple[np.ndarray, int]:
        """Steps 1 and 4: ids of the seeds and their number."""
        mask = self._passed(planes, thresholds, spacing)
        for each in self.options.seed_morphology:
            change = erode if each.op == "erode" else dilate_mask
            mask = change(mask, radii(each.radius, spacing))
        mask &= growth
        if not self.growth and all(planes[code].max() < 0.5 for code in codes(self.channels, "contour")):
            return np.zeros(mask.shape, np.uint32), 0  # contours alone tell objects from background, and there are none
        connectivity = min(self.options.connectivity, mask.ndim)
        if self.valley is None:
            return connected_components(mask, connectivity)
        return relative_h_maxima(binomial_smooth(depth, spacing), mask, self.valley, connectivity=connectivity)

    def _worthy(self, seeds: np.ndarray, number: int, depth: np.ndarray, thresholds: Mapping[str, float | None]) -> np.ndarray:
        """Step 4: the seeds 1..number that are large enough and reach deep enough."""
        kept = sizes_of(seeds, number) >= max(self.options.min_seed, 1)
        if number:
            kept[1:] &= object_maxima(seeds, depth, number) > lowest_peak(self.channels, self.seeds, thresholds)
        if kept[1:].all():
            return seeds
        chosen = np.zeros_like(seeds)
        select(seeds.ravel(), seeds.ravel(), kept, chosen.ravel())
        return chosen

    def _flooded(self, surface: np.ndarray, seeds: np.ndarray, number: int, growth: np.ndarray) -> tuple[np.ndarray, int]:
        """Step 5: ids of the objects and the largest."""
        connectivity = min(self.options.connectivity, seeds.ndim)
        labels = watershed(surface, seeds, growth, connectivity=connectivity, by_slice=self.options.by_slice)
        if self.options.keep_unseeded and not self.options.by_slice and self._inside() is not None:
            left = growth & (labels == 0)
            if left.any():
                more, count = connected_components(left, connectivity)
                labels[left] = more[left] + np.uint32(number)
                number += count
        return labels, number

    def _confidence(self, labels: np.ndarray, planes: Mapping[str, np.ndarray], depth: np.ndarray, n: int) -> np.ndarray:
        code = self._inside()
        if code is None:
            return np.clip(object_maxima(labels, depth, n), 0, 1)
        means = np.clip(object_means(labels, planes[code], n), 0, 1)  # channels from elsewhere may overshoot
        return means if self.channels[code].role == "interior" else 1 - means
