"""Objects from a foreground probability alone: Voronoi-Otsu, seeded watershed and connected components, as CellSeg3D offers them.

Without boundaries or depth the only cue between touching objects is their shape: `voronoi_otsu` divides them halfway between bright
spots, `seeded_watershed` where the probability is lowest between regions of high probability, `connected_components` not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import DataError, OptionError
from morula.decoders.base import Decoder, NoParameters, OptionsType, ParametersType, Representations, halo, unusable
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.voronoi_otsu import OUTLINE, SPOT, ball_voxels, connected_cells, outline_mask, spots, typical_radius
from morula.kernels.components import connected_components
from morula.kernels.object_tables import object_means, renumber
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects
from morula.labels.size_filter import remove_small
from morula.representations.evidence import is_foreground

Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0)]
# Otsu's threshold of an image without objects cuts through noise: it stays near the middle
_LOWEST, _HIGHEST = 0.3, 0.7


class ForegroundDecoder(Decoder[OptionsType, ParametersType]):
    """A decoder of a foreground probability alone. It names no channel sets: touching objects are one in that channel."""

    @classmethod
    def problem(cls, representations: Representations) -> OptionError | None:
        """None for one representation, a foreground probability."""
        if len(representations) == 1 and is_foreground(representations[0]):
            return None
        return unusable(cls.name, representations, "only one foreground probability can be used", "Use watershed, or predict F alone.")


class VoronoiOtsuOptions(DecoderOptions):
    """Options of the decoder `voronoi_otsu`. Widths are in voxels of the finest axis; CellSeg3D uses 0.65 for both, `min_size` 1."""

    kind: Literal["voronoi_otsu"] = "voronoi_otsu"
    """Name of the variant."""

    spot_sigma: Sigma | Literal["auto"] = "auto"
    """Smoothing before spots are searched, one per object. `auto` is 0.4 of the typical radius of objects."""
    outline_sigma: Sigma | Literal["auto"] = "auto"
    """Smoothing before the threshold. `auto` is a fifth of the typical radius of objects."""
    threshold: Share | Literal["auto"] = "auto"
    """Probability above which a voxel belongs to an object; `auto` is Otsu's threshold, between 0.3 and 0.7."""
    flood: bool = False
    """Separate touching objects in the valley of the probability, smoothed as for the spots, instead of halfway between spots."""
    valley: Share = 0.0
    """Two spots are one object when the probability between them, smoothed as for the spots, falls by at most this share of the lower
    peak; 0.05 to 0.2 where large objects are over-segmented."""
    min_size: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Remove objects with fewer voxels. `auto`: those smaller than a ball of half the typical radius of objects, an eighth of its volume,
    which are noise or fragments at the border of other objects."""


class VoronoiOtsuParameters(TypedDict):
    """Threshold, widths and smallest size; `None` where `calibrate` has still to choose it. `brightest` is the top of the spot image."""

    threshold: float
    spot_sigma: float | None
    outline_sigma: float | None
    min_size: int | None
    brightest: float


class VoronoiOtsu(ForegroundDecoder[VoronoiOtsuOptions, VoronoiOtsuParameters]):
    """The spots of the smoothed probability share the foreground (clEsperanto's Voronoi-Otsu labelling).

    The block may hold a second channel: an image (0 or more) in which spots are searched instead of the probability, for example the
    microscope's image, whose brightness still rises towards the middle of objects where the probability is 1 everywhere.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = VoronoiOtsu(VoronoiOtsuOptions(spot_sigma=0.65, outline_sigma=0, min_size=1), build_channels("F"))
        >>> row = np.array([[[0, 0.8, 1, 0.8, 0.8, 1, 0.8, 0]]], np.float32)
        >>> decoder.decode(row, decoder.fit(ChannelStatistics.of(row)), (1, 1)).labels
        array([[0, 1, 1, 1, 2, 2, 2, 0]], dtype=uint16)
    """

    name = "voronoi_otsu"
    options_class = VoronoiOtsuOptions
    counted = ("F",)

    def __init__(self, options: VoronoiOtsuOptions | None, representations: Representations) -> None:
        super().__init__(options, representations)
        self.counted = (self.representations[0].code,)

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.3, 0.4, 0.5, 0.6, 0.7)),
            "spot_sigma": choices(self.options.spot_sigma, ("auto", 0.65, 1.0, 1.5, 2.0, 3.0, 4.0)),
            "outline_sigma": choices(self.options.outline_sigma, ("auto", 0.0, 0.65, 1.0, 2.0)),
            "valley": choices(self.options.valley, (0.0, 0.02, 0.05, 0.1, 0.2)),
            "flood": choices(self.options.flood, (False, True)),
            "min_size": choices(self.options.min_size, ("auto", 1, 30, 100)),
        }

    def fit(self, statistics: ChannelStatistics) -> VoronoiOtsuParameters:
        """The threshold; widths and the smallest size where the options state them."""
        options = self.options
        threshold = min(max(statistics.otsu(0), _LOWEST), _HIGHEST) if options.threshold == "auto" else float(options.threshold)
        return {
            "threshold": threshold,
            "spot_sigma": None if options.spot_sigma == "auto" else options.spot_sigma,
            "outline_sigma": None if options.outline_sigma == "auto" else options.outline_sigma,
            "min_size": None if options.min_size == "auto" else options.min_size,
            "brightest": float(statistics.maximum[-1]),
        }

    def calibrate(self, sample: np.ndarray, parameters: VoronoiOtsuParameters, spacing: Sequence[float]) -> VoronoiOtsuParameters:
        """Widths and the smallest size, from the typical radius of the objects of the sample."""
        return self._calibrated(_channels(sample)[0], parameters, spacing)[0]

    def _calibrated(
        self, probability: np.ndarray, parameters: VoronoiOtsuParameters, spacing: Sequence[float]
    ) -> tuple[VoronoiOtsuParameters, np.ndarray]:
        """Complete parameters, and the mask, which is a by-product."""
        # the width of the outline first: the radius is measured on the mask that it leads to
        outline = parameters["outline_sigma"]
        if outline is None:
            mask, outline = outline_mask(probability, spacing, parameters["threshold"])
        else:
            mask = gaussian_smooth(probability, outline, spacing) > parameters["threshold"]
        spot, least = parameters["spot_sigma"], parameters["min_size"]
        if spot is None or least is None:
            radius = typical_radius(mask, spacing)
            spot = SPOT * radius if spot is None else spot
            least = math.ceil(ball_voxels(radius / 2, spacing)) if least is None else least
        return {**parameters, "outline_sigma": outline, "spot_sigma": spot, "min_size": least}, mask

    def context(self, parameters: VoronoiOtsuParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object, its neighbours, and both Gaussians; exact with parameters from `calibrate`."""
        # widths that are not known yet follow from the radius, which is at most half the largest diameter
        spot, outline = parameters["spot_sigma"], parameters["outline_sigma"]
        widest = max(SPOT * max_diameter / 2 if spot is None else spot, OUTLINE * max_diameter / 2 if outline is None else outline)
        return halo(2 * max_diameter + 4 * widest + 2, spacing)

    def decode(self, block: np.ndarray, parameters: VoronoiOtsuParameters, spacing: Sequence[float]) -> Objects:
        """Objects of a probability, and optionally an image for the spots, C(Z)YX. Intermediates are `growth` and `seeds`."""
        probability, spot_image = _channels(block)
        parameters, mask = self._calibrated(probability, parameters, spacing)
        smoothed = gaussian_smooth(spot_image, parameters["spot_sigma"] or 0.0, spacing)
        # without a valley every regional maximum is a seed, which is clEsperanto's rule
        valley = self.options.valley
        seeds = relative_h_maxima(smoothed, mask, valley, connectivity=mask.ndim)[0] if valley else spots(smoothed, mask)
        if self.options.flood and seeds.any():
            # the brightest value of the whole image, so that blocks are flooded in the same order; 1e-6 for an image of zeros
            value_range = (-max(parameters["brightest"], 1e-6), 0.0)
            labels = watershed(-smoothed, seeds, mask, connectivity=mask.ndim, value_range=value_range)
        else:
            labels = connected_cells(seeds, mask, spacing)
        return _objects(labels, probability, parameters["min_size"] or 0, seeds, mask)


class SeededWatershedOptions(DecoderOptions):
    """Options of the decoder `seeded_watershed`."""

    kind: Literal["seeded_watershed"] = "seeded_watershed"
    """Name of the variant."""

    foreground: Share = 0.5
    """Probability above which a voxel belongs to an object."""
    seed: Share = 0.9
    """Probability above which a voxel belongs to a seed."""
    min_size: int = Field(30, ge=0)
    """Remove objects with fewer voxels."""
    min_seed: int = Field(3, ge=0)
    """Remove seeds with fewer voxels."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""

    @model_validator(mode="after")
    def _ordered(self) -> SeededWatershedOptions:
        if self.seed < self.foreground:
            raise OptionError(
                "decoder.seed_below_foreground",
                f"must be at least foreground, {self.foreground:g}: seeds are inside the foreground",
                key="seed",
                value=self.seed,
                remedy="Raise seed or lower foreground.",
            )
        return self


class SeededWatershed(ForegroundDecoder[SeededWatershedOptions, NoParameters]):
    """Seeds of high probability flood the foreground in the order of decreasing probability.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = SeededWatershed(SeededWatershedOptions(min_size=1, min_seed=1), build_channels("F"))
        >>> decoder.decode(np.array([[[0, 0.95, 0.6, 0.7, 0.95, 0]]], np.float32), {}, (1, 1)).labels
        array([[0, 1, 1, 2, 2, 0]], dtype=uint16)
    """

    name = "seeded_watershed"
    options_class = SeededWatershedOptions

    def search_space(self) -> Space:
        """Values to try for each option, the current one first; every seed threshold is above every foreground threshold."""
        options = self.options
        # pairs that break the rule seed >= foreground would only produce errors in the search
        seeds = [options.seed, *(seed for seed in (0.6, 0.7, 0.8, 0.9, 0.95) if seed >= options.foreground)]
        foregrounds = [value for value in (0.3, 0.4, 0.5, 0.6, 0.7) if value <= min(seeds)]
        return {
            "foreground": choices(options.foreground, foregrounds),
            "seed": choices(options.seed, seeds),
            "min_size": choices(options.min_size, (0, 30, 100)),
            "min_seed": choices(options.min_seed, (0, 3, 10)),
            "connectivity": choices(options.connectivity, (1, 2, 3)),
        }

    def fit(self, statistics: ChannelStatistics) -> NoParameters:
        """No parameters: the options state every threshold."""
        del statistics
        return {}

    def context(self, parameters: NoParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object and its neighbours; see `morula.decoders.watershed.Watershed.context`."""
        return halo(2 * max_diameter + 1, spacing)

    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of a probability 1(Z)YX. Intermediates are `growth` and `seeds`."""
        probability, options = _single(block), self.options
        # 3, across corners, has no meaning in 2D
        connectivity = min(options.connectivity, probability.ndim)
        mask = probability > options.foreground
        seeds = remove_small(connected_components(probability > options.seed, connectivity)[0], options.min_seed)
        labels = watershed(-probability, seeds, mask, connectivity=connectivity, value_range=(-1.0, 0.0))
        return _objects(labels, probability, options.min_size, seeds, mask)


class ConnectedComponentsOptions(DecoderOptions):
    """Options of the decoder `connected_components`."""

    kind: Literal["connected_components"] = "connected_components"
    """Name of the variant."""

    threshold: Share = 0.8
    """Probability above which a voxel belongs to an object."""
    min_size: int = Field(3, ge=0)
    """Remove objects with fewer voxels."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""


class ConnectedComponents(ForegroundDecoder[ConnectedComponentsOptions, NoParameters]):
    """Connected components of the thresholded probability.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = ConnectedComponents(ConnectedComponentsOptions(min_size=1), build_channels("F"))
        >>> decoder.decode(np.array([[[0, 0.93, 0, 1, 0.7]]], np.float32), {}, (1, 1)).labels
        array([[0, 1, 0, 2, 0]], dtype=uint16)
    """

    name = "connected_components"
    options_class = ConnectedComponentsOptions

    def search_space(self) -> Space:
        """Values to try for each option, the current one first."""
        return {
            "threshold": choices(self.options.threshold, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
            "min_size": choices(self.options.min_size, (0, 3, 30, 100)),
            "connectivity": choices(self.options.connectivity, (1, 2, 3)),
        }

    def fit(self, statistics: ChannelStatistics) -> NoParameters:
        """No parameters: the options state the threshold."""
        del statistics
        return {}

    def context(self, parameters: NoParameters, spacing: Sequence[float], max_diameter: float) -> tuple[int, ...]:
        """The object and one voxel of background around it."""
        return halo(max_diameter + 1, spacing)

    def decode(self, block: np.ndarray, parameters: NoParameters, spacing: Sequence[float]) -> Objects:
        """Objects of a probability 1(Z)YX. Intermediates are `growth` and `seeds`, the objects before small ones are removed."""
        probability, options = _single(block), self.options
        mask = probability > options.threshold
        components, _ = connected_components(mask, min(options.connectivity, probability.ndim))
        return _objects(components, probability, options.min_size, components, mask)


def _channels(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability, and the image for the spots: the second channel where there is one."""
    if len(block) == 2:
        return np.ascontiguousarray(block[0], np.float32), np.ascontiguousarray(block[1], np.float32)
    probability = _single(block)
    return probability, probability


def _single(block: np.ndarray) -> np.ndarray:
    """The only channel."""
    if len(block) != 1:
        raise DataError(
            "prediction.channel_count",
            "these objects are made of one channel, the foreground probability",
            key="prediction",
            value=block.shape,
            remedy="Give the foreground alone.",
        )
    return np.ascontiguousarray(block[0], np.float32)


def _objects(labels: np.ndarray, probability: np.ndarray, min_size: int, seeds: np.ndarray, mask: np.ndarray) -> Objects:
    """Renumbered objects of at least this size; their confidence is the mean probability."""
    kept, old_ids = renumber(remove_small(labels, min_size), int(labels.max(initial=0)))
    return Objects(kept, np.clip(object_means(kept, probability, len(old_ids)), 0, 1), {"seeds": seeds, "growth": mask})
