"""Marker-controlled watershed on predicted channels.

Objects are basins of a surface that are flooded from one seed each. Five steps lead from channels to objects::

    1 seeds     threshold the seed channels: what is surely inside an object
    2 surface   the channel that is steepest between touching objects
    3 growth    threshold the channels that say how far objects reach
    4 refine    split seeds at valleys of the depth map, remove small ones, smooth the growth mask
    5 flood     watershed of the surface from the seeds, inside the growth mask

    depth map     /\\    /\\              the product of the seed channels, each scaled to [0, 1]
                 /  \\__/  \\             a valley deeper than a share of the lower peak: two seeds
    seeds        111    222
    objects     11111  22222

Which channel does what follows from what it says (`morula.decoders.watershed_plan`), unless the user states it. The complexity is linear
in the number of voxels. Steps 1 to 5 are those of BiaPy's watershed; splitting at relative valleys replaces its fixed thresholds.

Source: Meyer, Topographic distance and watershed lines (Signal Processing 38, 1994).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, TypedDict

import numpy as np
from pydantic import Field

from morula.core.errors import OptionError
from morula.core.options import Options as BaseOptions
from morula.decoders.base import Decoder, Representations, halo
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import AFFINITY_BOUNDARY, channel_slices, evidence_by_name, image_names, input_images
from morula.decoders.watershed_plan import (
    Threshold,
    auto_threshold,
    full_scale,
    lowest_peak,
    names_of,
    plan_problem,
    planned_growth,
    planned_seeds,
    planned_surface,
    planned_valley,
    surface_choices,
    threshold_choices,
)
from morula.kernels.components import connected_components
from morula.kernels.geometry import voxel_counts
from morula.kernels.object_tables import object_maxima, object_means, renumber, select_objects
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import binomial_smooth, gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.distance import distance
from morula.labels.morphology import Radius, dilate_mask, erode, radii
from morula.labels.objects import Objects
from morula.representations.evidence import is_background, is_foreground, is_mask, is_outline

Share = Annotated[float, Field(ge=0, le=1)]
Images = Mapping[str, np.ndarray]

FARTHEST_SEED = 256.0
"""Voxels of the finest axis up to which distances from seeds are resolved, where they are the surface. A fixed range, so that blocks
are flooded in the same order as the whole."""


class Parameters(TypedDict):
    """Thresholds of the seeds and of the growth mask by image (`None`: half a voxel), and extreme values of each channel."""

    seeds: dict[str, float | None]
    growth: dict[str, float | None]
    smallest: dict[str, float]
    largest: dict[str, float]


class Morphology(BaseOptions):
    """One operation on the seed map."""

    op: Literal["erode", "dilate"]
    """Operation."""
    radius: Radius = 1
    """Radius of the ellipsoid in voxels of the finest axis, or one number per axis."""


class Options(DecoderOptions):
    """Options of the watershed decoder. What is left empty is planned from the channels."""

    kind: Literal["watershed"] = "watershed"
    """Name of the variant."""

    seeds: dict[str, Threshold] = Field({})
    """Step 1. Channels that make seeds, each with its threshold or `auto`: values above it for F, P, Db and D, below it for B, C, T, Dc and
    Dn. H, V and Z together say how near the end of an object is, with the lowest of their thresholds; A stands for its lowest affinity."""
    surface: str | None = None
    """Step 2. Channel whose values are flooded from the seeds."""
    growth: dict[str, Threshold] = Field({})
    """Step 3. Channels that limit the objects, each with its threshold or `auto`."""
    valley: Share | Literal["auto"] | None = "auto"
    """Step 4. Split seeds where the depth map (the product of the seed channels, slightly smoothed) has a valley deeper than this share of
    the lower peak; `auto` is 0.45 with a distance to the boundary among the seeds, 0.3 with a distance to the centre, else 0.25. Null:
    seeds are the connected components of the seed map."""
    smoothing: float = Field(0.0, ge=0)
    """Step 1. Standard deviation of a Gaussian that smooths the seed channels first, in voxels of the finest axis. About a fifth of an
    object's diameter helps where images are so noisy that objects are over-segmented; the valley is then shallow, 0.05 to 0.2."""
    seed_morphology: tuple[Morphology, ...] = ()
    """Step 4. Erosions and dilations of the seed map, in this order."""
    growth_erosion: Radius = 0
    """Step 4. Erode the growth mask by this radius in voxels, which removes thin artefacts together with the dilation."""
    growth_dilation: Radius = 0
    """Step 4. Then dilate it by this radius in voxels."""
    min_seed: int = Field(0, ge=0)
    """Step 4. Remove seeds with fewer voxels."""
    keep_unseeded: bool = False
    """Step 5. Components of the growth mask that no seed reaches become objects, too (not slice by slice). For clean predictions only."""
    by_slice: bool = False
    """Step 5. Flood each z plane separately, from the 3D seeds."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""


class Watershed(Decoder[Options, Parameters]):
    """Objects from any scalar channels that say how far objects reach: all but rays, flows and embeddings.

    Args:
        options: what the user states.
        representations: what the channels mean, in the order of the prediction.

    Raises:
        OptionError: when the channels do not suffice, an option names a channel that is not predicted, or a threshold is out of range.

    Examples:
        >>> from morula.representations.encode import build_channels, encode
        >>> decoder = Watershed(None, build_channels(["F", "C"]))
        >>> block = encode(np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3), ["F", "C"])
        >>> decoder.decode(block, decoder.fit(ChannelStatistics.of(block)), (1, 1)).labels[1]
        array([0, 1, 1, 1, 2, 2, 2, 0], dtype=uint16)
    """

    name = "watershed"
    options_class = Options
    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("F", "C"), ("B", "C"), ("F", "Db"), ("B", "Db"), ("F", "P", "C"), ("F", "P", "Db"), ("F", "C", "Db"), ("F", "C", "Dc"),
        ("F", "P", "C", "Db"), ("F", "C", "D"), ("F", "C", "T"), ("F", "C", "M"), ("F", "C", "Db", "Dn"),
    )  # fmt: skip

    def __init__(self, options: Options | None, representations: Representations) -> None:
        super().__init__(options, representations)
        self.channels = evidence_by_name(self.representations)
        self.counted = tuple(channel.code for channel in self.representations if channel.code in self.channels)
        seeds, growth = self._by_image(self.options.seeds, "seeds"), self._by_image(self.options.growth, "growth")
        surface = image_names(self.options.surface, self.representations)[-1] if self.options.surface else None
        if reason := plan_problem(self.channels, seeds, growth, surface):
            raise reason
        self.seeds = seeds or planned_seeds(self.channels)
        self.growth = growth or planned_growth(self.channels)
        self.valley = planned_valley(self.channels, self.seeds) if self.options.valley == "auto" else self.options.valley
        self.surface = surface or planned_surface(self.channels)
        self._distance_surface = self._floods_distance(surface)

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for scalar channels of which one says how far objects reach; long-range affinities alone are for another decoder."""
        if any(channel.long_range_affinities for channel in representations) and all(channel.affinities for channel in representations):
            return OptionError(
                "decoder.unusable_channels",
                "the watershed uses affinities of direct neighbours only",
                key="channels",
                value=", ".join(channel.code for channel in representations),
                remedy="Use mutex_watershed or agglomeration, or leave out the long-range offsets.",
            )
        return plan_problem(evidence_by_name(representations), {}, {}, None)

    def _by_image(self, stated: Mapping[str, Threshold], step: str) -> dict[str, Threshold]:
        """Thresholds by the images that the user's channels stand for; the lowest where several channels share an image."""
        thresholds: dict[str, Threshold] = {}
        for code, threshold in stated.items():
            for image in image_names(code, self.representations):
                if image == AFFINITY_BOUNDARY and step == "growth":
                    continue  # boundaries belong to the objects
                own = 1 - threshold if image == AFFINITY_BOUNDARY and threshold != "auto" else threshold
                numbers = [number for number in (thresholds.get(image, "auto"), own) if number != "auto"]
                thresholds[image] = min(numbers) if numbers else "auto"
        return thresholds

    def _floods_distance(self, stated_surface: str | None) -> bool:
        """Whether the distance from the seeds is flooded instead of a channel.

        It is where centres make the seeds and no channel says where touching objects end: all objects then grow equally fast, while a
        foreground channel is flat but for its noise.
        """
        surface = self.channels[self.surface]
        flat = is_foreground(surface) or is_background(surface) or is_mask(surface)
        return flat and stated_surface is None and any(self.channels[name].seed_evidence for name in self.seeds)

    def search_space(self) -> Space:
        """Thresholds of every step, valley, smoothing, smallest seed and surface; the current value of each first."""
        space: Space = {}
        for step, used in (("seeds", self.seeds), ("growth", self.growth)):
            varied: set[str] = set()
            for channel in self.representations:
                images = [image for image in image_names(channel.code, self.representations) if image in used]
                if images:
                    thresholds = threshold_choices(self.channels[images[0]], used[images[0]])
                    # channels that share an image share a threshold: it is varied once
                    space[f"{step}.{channel.code}"] = thresholds if images[0] not in varied else thresholds[:1]
                    varied.add(images[0])
        space["valley"] = choices(self.options.valley, ("auto", None, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75))
        space["smoothing"] = choices(self.options.smoothing, (0.0, 1.0, 2.0, 3.0, 4.0))
        space["min_seed"] = choices(self.options.min_seed, (0, 3, 10, 30))
        return space | surface_choices(self.channels, self.options.surface, {channel.code for channel in self.representations})

    def fit(self, statistics: ChannelStatistics) -> Parameters:
        """Thresholds that the options leave open, by Otsu's method within bounds, and the extreme values of each channel."""
        rows = channel_slices(self.representations, len(statistics.maximum))
        smallest = {code: float(statistics.minimum[row].min()) for code, row in rows.items()}
        largest = {code: float(statistics.maximum[row].max()) for code, row in rows.items()}
        for channel in self.representations:
            if channel.centre_offset_axis is not None:  # offsets have a sign: their scale is the largest magnitude
                largest[channel.code] = max(largest[channel.code], -smallest[channel.code])
        otsu = {code: partial(statistics.otsu, rows[code].start) for code in self.counted}

        def threshold(name: str, option: Threshold, step: Literal["seeds", "growth"]) -> float | None:
            if option != "auto":
                return float(option)
            scale = largest.get(name, 1.0)
            return auto_threshold(self.channels, name, otsu.get(name), scale, step=step, valleys=self.valley is not None)

        return {
            "seeds": {name: threshold(name, option, "seeds") for name, option in self.seeds.items()},
            "growth": {name: threshold(name, option, "growth") for name, option in self.growth.items()},
            "smallest": smallest,
            "largest": largest,
        }

    def context(self, parameters: Parameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, its neighbours, and what smoothing and morphology read.

        One ring of neighbours suffices. A voxel goes to the seed with the lowest pass to it, and the path over that pass is inside the
        seed's own basin: a seed farther away than a neighbour never matters. The same holds for splitting seeds at valleys.
        """
        filters = 4 * self.options.smoothing + 3  # Gaussian, binomial, gradient of offsets and the voxel beyond the boundary
        reach = [radii(step.radius, spacing) for step in self.options.seed_morphology]
        reach += [radii(self.options.growth_erosion, spacing), radii(self.options.growth_dilation, spacing)]
        own = halo(2 * max_diameter + filters, spacing)
        return tuple(voxels + sum(radius[axis] for radius in reach) for axis, voxels in enumerate(own))

    def decode(self, block: np.ndarray, parameters: Parameters, spacing: Sequence[float]) -> Objects:
        """Objects of predicted channels.

        The confidence is the mean foreground probability in an object, or without such a channel the highest value of the depth map in it.
        Intermediates are `seeds`, `surface` and `growth`. See `Decoder.decode` for arguments and errors.
        """
        images = input_images(self.representations, np.asarray(block, np.float32), parameters["largest"])
        growth = self._growth_mask(images, parameters["growth"], spacing)
        depth = self._depth(images, parameters["largest"]) * growth
        smoothed, smoothed_depth = images, depth
        # only seeds are found on smoothed channels: boundaries between objects and their confidence stay as predicted
        if sigma := self.options.smoothing:
            smoothed = {**images, **{name: gaussian_smooth(images[name], sigma, spacing) for name in self.seeds}}
            smoothed_depth = self._depth(smoothed, parameters["largest"]) * growth
        seeds, number = self._seeds(smoothed, parameters, growth, smoothed_depth, spacing)
        seeds = self._significant(seeds, number, depth, parameters["seeds"])
        surface, value_range = self._surface(images, seeds, parameters, spacing)
        labels, number = self._flooded(surface, value_range, seeds, number, growth)
        labels, old_ids = renumber(labels, number)
        confidence = self._confidence(labels, images, depth, len(old_ids))
        return Objects(labels, confidence, {"seeds": seeds, "surface": surface, "growth": growth})

    def _surface(
        self, images: Images, seeds: np.ndarray, parameters: Parameters, spacing: Sequence[float]
    ) -> tuple[np.ndarray, tuple[float, float]]:
        """Step 2: the surface and the range of its values in the whole image, on which all blocks agree."""
        if self._distance_surface:
            return distance(seeds == 0, spacing), (0.0, FARTHEST_SEED * min(spacing))
        # derived images have values from 0 to 1
        low, high = parameters["smallest"].get(self.surface, 0.0), parameters["largest"].get(self.surface, 1.0)
        if self.channels[self.surface].inverted:
            return images[self.surface], (low, high)
        return -images[self.surface], (-high, -low)

    def _foreground(self) -> str | None:
        """Name of the channel that predicts the foreground."""
        return next(iter(names_of(self.channels, is_foreground, is_background)), None)

    def _depth(self, images: Images, largest: Mapping[str, float]) -> np.ndarray:
        """The depth map: product of the seed channels, each as a share of its full scale.

        Where a distance is among them, it replaces the foreground: it is 0 in the background anyway, and steeper.
        """
        has_distance = any(self.channels[name].depth is not None for name in self.seeds)
        depth: np.ndarray | None = None
        for name in self.seeds:
            channel = self.channels[name]
            if has_distance and channel.foreground_probability:
                continue
            scale = np.float32(full_scale(channel, largest.get(name, 1.0)))
            share = 1 - images[name] / scale if channel.inverted else images[name] / scale
            depth = share if depth is None else np.multiply(depth, share, out=depth)
        assert depth is not None
        return depth

    def _passed(self, images: Images, thresholds: Mapping[str, float | None], spacing: Sequence[float]) -> np.ndarray:
        """Voxels that pass all thresholds."""
        mask = np.ones(next(iter(images.values())).shape, np.bool_)
        for name, threshold in thresholds.items():
            limit = np.float32(0.5 * min(spacing) if threshold is None else threshold)
            mask &= images[name] < limit if self.channels[name].inverted else images[name] > limit
        return mask

    def _growth_mask(self, images: Images, thresholds: Mapping[str, float | None], spacing: Sequence[float]) -> np.ndarray:
        """Steps 3 and 4: where objects may be."""
        only = next(iter(self.growth)) if len(self.growth) == 1 else None
        if only is not None and self.channels[only].depth == "boundary" and thresholds[only] is not None:
            # scaled distances are 0 on the outermost voxels of an object: a low threshold on smooth values, and one voxel more
            smooth = {only: binomial_smooth(images[only], spacing)}
            mask = dilate_mask(self._passed(smooth, thresholds, spacing), (1,) * len(spacing))
        else:
            mask = self._passed(images, thresholds, spacing)
        mask = erode(mask, radii(self.options.growth_erosion, spacing))
        return dilate_mask(mask, radii(self.options.growth_dilation, spacing))

    def _seeds(
        self, images: Images, parameters: Parameters, growth: np.ndarray, depth: np.ndarray, spacing: Sequence[float]
    ) -> tuple[np.ndarray, int]:
        """Steps 1 and 4: ids of the seeds and their number."""
        mask = self._passed(images, parameters["seeds"], spacing)
        for step in self.options.seed_morphology:
            operation = erode if step.op == "erode" else dilate_mask
            mask = operation(mask, radii(step.radius, spacing))
        mask &= growth
        if not self.growth and all(parameters["largest"].get(name, 1.0) < 0.5 for name in names_of(self.channels, is_outline)):
            return np.zeros(mask.shape, np.uint32), 0  # only outlines separate objects from background, and there are none
        connectivity = min(self.options.connectivity, mask.ndim)
        if self.valley is None:
            return connected_components(mask, connectivity)
        return relative_h_maxima(binomial_smooth(depth, spacing), mask, self.valley, connectivity=connectivity)

    def _significant(self, seeds: np.ndarray, number: int, depth: np.ndarray, thresholds: Mapping[str, float | None]) -> np.ndarray:
        """Step 4: the seeds that are large and deep enough."""
        kept = voxel_counts(seeds, number) >= max(self.options.min_seed, 1)
        if number:
            kept[1:] &= object_maxima(seeds, depth, number) > lowest_peak(self.channels, self.seeds, thresholds)
        if kept[1:].all():
            return seeds
        selected = np.zeros_like(seeds)
        select_objects(seeds.ravel(), seeds.ravel(), kept, selected.ravel())
        return selected

    def _flooded(
        self, surface: np.ndarray, value_range: tuple[float, float], seeds: np.ndarray, number: int, growth: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Step 5: ids of the objects and the largest id."""
        connectivity = min(self.options.connectivity, seeds.ndim)
        labels = watershed(surface, seeds, growth, connectivity=connectivity, by_slice=self.options.by_slice, value_range=value_range)
        if self.options.keep_unseeded and not self.options.by_slice and self._foreground() is not None:
            unseeded = growth & (labels == 0)
            if unseeded.any():
                components, count = connected_components(unseeded, connectivity)
                labels[unseeded] = components[unseeded] + np.uint32(number)
                number += count
        return labels, number

    def _confidence(self, labels: np.ndarray, images: Images, depth: np.ndarray, n: int) -> np.ndarray:
        """Mean foreground probability per object, else its largest depth."""
        name = self._foreground()
        if name is None:
            return np.clip(object_maxima(labels, depth, n), 0, 1)
        means = np.clip(object_means(labels, images[name], n), 0, 1)  # channels of other programs may exceed 1
        return 1 - means if self.channels[name].inverted else means
