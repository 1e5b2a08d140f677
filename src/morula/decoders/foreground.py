"""Objects from a foreground probability alone: Voronoi-Otsu, seeded watershed and connected components, as CellSeg3D offers them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import DataError, OptionError
from morula.core.options import Options as BaseOptions
from morula.decoders.options import DecoderOptions
from morula.decoders.search_space import Space, choices
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.voronoi_otsu import SPOT, ball_voxels, outlined, spots, typical_radius, voronoi
from morula.kernels.components import connected_components
from morula.kernels.object_tables import numbered, object_means
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import gaussian_smooth
from morula.kernels.watershed import watershed
from morula.labels.objects import Objects
from morula.labels.size_filter import remove_small
from morula.representations.base import Representation

Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0)]
_LOWEST, _HIGHEST = 0.3, 0.7  # Otsu's threshold of an image without objects cuts through noise: it stays near the middle


class VoronoiOtsuOptions(DecoderOptions):
    """Options of the decoder `voronoi_otsu`. Widths are in voxels of the finest axis; CellSeg3D uses 0.65 for both, `min_size` 1."""

    kind: Literal["voronoi_otsu"] = "voronoi_otsu"
    """Name of the variant."""

    spot_sigma: Sigma | Literal["auto"] = "auto"
    """Smoothing before spots are looked for, one an object. `auto` is 0.4 of the typical radius of objects."""
    outline_sigma: Sigma | Literal["auto"] = "auto"
    """Smoothing before the threshold. `auto` is a fifth of the typical radius of objects."""
    threshold: Share | Literal["auto"] = "auto"
    """Probability from which a voxel belongs to an object; `auto` is Otsu's, between 0.3 and 0.7."""
    flood: bool = False
    """Where objects touch they meet in the valley of the probability, smoothed as for the spots, instead of halfway between spots."""
    valley: Share = 0.0
    """Spots are one object when the probability between them, smoothed as for the spots, falls by no more than this share of the lower
    peak; 0.05 to 0.2 where large objects fall to pieces."""
    min_size: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Drop objects of fewer voxels. `auto`: those smaller than a ball of half the typical radius of objects, an eighth of its volume, are
    noise and scraps at the border of others."""


class SeededWatershedOptions(DecoderOptions):
    """Options of the decoder `seeded_watershed`."""

    kind: Literal["seeded_watershed"] = "seeded_watershed"
    """Name of the variant."""

    foreground: Share = 0.5
    """Probability above which a voxel belongs to an object."""
    seed: Share = 0.9
    """Probability above which it belongs to a seed."""
    min_size: int = Field(30, ge=0)
    """Drop objects of fewer voxels."""
    min_seed: int = Field(3, ge=0)
    """Drop seeds of fewer voxels."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""

    @model_validator(mode="after")
    def _ordered(self) -> SeededWatershedOptions:
        if self.seed < self.foreground:
            raise ValueError(f"seed is {self.seed:g} and foreground is {self.foreground:g}; seeds lie in the foreground: raise seed")
        return self


class ConnectedComponentsOptions(DecoderOptions):
    """Options of the decoder `connected_components`."""

    kind: Literal["connected_components"] = "connected_components"
    """Name of the variant."""

    threshold: Share = 0.8
    """Probability above which a voxel belongs to an object."""
    min_size: int = Field(3, ge=0)
    """Drop objects of fewer voxels."""
    connectivity: int = Field(1, ge=1, le=3)
    """Neighbours of a voxel: 1 across faces, 2 also across edges, 3 also across corners."""


class _OfForeground:
    """A decoder that looks at the channel F alone."""

    channel_sets: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sets of which decoding gives back exactly what was encoded: none, since objects that touch are one in F."""
    options_class: ClassVar[type[BaseOptions]]
    counted: ClassVar[tuple[str, ...]] = ()
    """Codes of the channels whose histograms `fit` reads."""

    def __init__(self, options: Any, representations: Sequence[Representation[Any]]) -> None:
        if not self.accepts(representations):
            given = ", ".join(each.code for each in representations)
            raise OptionError(f"this decoder makes objects of the channel F alone but the prediction has {given}. Use watershed.")
        self.options: Any = options or self.options_class()

    @staticmethod
    def accepts(representations: Sequence[Representation[Any]]) -> bool:
        """Whether there is one channel, of the inside."""
        return len(representations) == 1 and representations[0].role == "interior"

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """Nothing: all thresholds are stated."""
        del statistics
        return {}


class VoronoiOtsu(_OfForeground):
    """Spots of the smoothed probability share the foreground among them, each voxel to the nearest (clEsperanto's Voronoi-Otsu labelling).

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = VoronoiOtsu(VoronoiOtsuOptions(spot_sigma=0.65, outline_sigma=0, min_size=1), build_channels("F"))
        >>> row = np.array([[[0, 0.8, 1, 0.8, 0.8, 1, 0.8, 0]]], np.float32)
        >>> decoder.decode(row, decoder.fit(ChannelStatistics.of(row)), (1, 1)).labels
        array([[0, 1, 1, 1, 2, 2, 2, 0]], dtype=uint16)
    """

    options_class = VoronoiOtsuOptions
    counted = ("F",)

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "threshold": choices(self.options.threshold, ("auto", 0.3, 0.4, 0.5, 0.6, 0.7)),
            "spot_sigma": choices(self.options.spot_sigma, ("auto", 0.65, 1.0, 1.5, 2.0, 3.0, 4.0)),
            "outline_sigma": choices(self.options.outline_sigma, ("auto", 0.0, 0.65, 1.0, 2.0)),
            "valley": choices(self.options.valley, (0.0, 0.02, 0.05, 0.1, 0.2)),
            "flood": choices(self.options.flood, (False, True)),
            "min_size": choices(self.options.min_size, ("auto", 1, 30, 100)),
        }

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """The threshold, from the whole prediction."""
        stated = self.options.threshold
        return {"threshold": min(max(statistics.otsu(0), _LOWEST), _HIGHEST) if stated == "auto" else float(stated)}

    def decode(
        self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float], *, landscape: np.ndarray | None = None
    ) -> Objects:
        """Objects of a probability 1(Z)YX. Intermediates are `growth` and `seeds`.

        `landscape` (Z)YX, 0 or more, is what spots are looked for in instead of the probability, for example the image.
        """
        probability, options = _single(prediction), self.options
        limit, outline = parameters["threshold"], options.outline_sigma
        mask = outlined(probability, spacing, limit) if outline == "auto" else gaussian_smooth(probability, outline, spacing) > limit
        radius = typical_radius(mask, spacing)
        landscape = gaussian_smooth(
            probability if landscape is None else landscape, SPOT * radius if options.spot_sigma == "auto" else options.spot_sigma, spacing
        )
        seeds = relative_h_maxima(landscape, mask, options.valley, connectivity=mask.ndim)[0] if options.valley else spots(landscape, mask)
        flooded = options.flood and bool(seeds.any())
        labels = watershed(-landscape, seeds, mask, connectivity=mask.ndim) if flooded else voronoi(seeds, mask, spacing)
        least = ball_voxels(radius / 2, spacing) if options.min_size == "auto" else options.min_size
        return _objects(labels, probability, math.ceil(least), seeds, mask)


class SeededWatershed(_OfForeground):
    """Seeds of high probability flood the foreground down the probability.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = SeededWatershed(SeededWatershedOptions(min_size=1, min_seed=1), build_channels("F"))
        >>> decoder.decode(np.array([[[0, 0.95, 0.6, 0.7, 0.95, 0]]], np.float32), {}, (1, 1)).labels
        array([[0, 1, 1, 2, 2, 0]], dtype=uint16)
    """

    options_class = SeededWatershedOptions

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first; all seeds lie in all foregrounds."""
        options = self.options
        seeds = choices(options.seed, [each for each in (0.6, 0.7, 0.8, 0.9, 0.95) if each >= options.foreground])
        return {
            "foreground": choices(options.foreground, [each for each in (0.3, 0.4, 0.5, 0.6, 0.7) if each <= min(seeds)]),
            "seed": seeds,
            "min_size": choices(options.min_size, (0, 30, 100)),
            "min_seed": choices(options.min_seed, (0, 3, 10)),
            "connectivity": choices(options.connectivity, (1, 2, 3)),
        }

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of a probability 1(Z)YX. Intermediates are `growth` and `seeds`."""
        probability, options = _single(prediction), self.options
        connectivity = min(options.connectivity, probability.ndim)
        mask = probability > options.foreground
        seeds = remove_small(connected_components(probability > options.seed, connectivity)[0], options.min_seed)
        return _objects(watershed(-probability, seeds, mask, connectivity=connectivity), probability, options.min_size, seeds, mask)


class ConnectedComponents(_OfForeground):
    """Connected pieces of the thresholded probability.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> decoder = ConnectedComponents(ConnectedComponentsOptions(min_size=1), build_channels("F"))
        >>> decoder.decode(np.array([[[0, 0.93, 0, 1, 0.7]]], np.float32), {}, (1, 1)).labels
        array([[0, 1, 0, 2, 0]], dtype=uint16)
    """

    options_class = ConnectedComponentsOptions

    def search_space(self) -> Space:
        """Values worth trying of the options, the one in force first."""
        return {
            "threshold": choices(self.options.threshold, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
            "min_size": choices(self.options.min_size, (0, 3, 30, 100)),
            "connectivity": choices(self.options.connectivity, (1, 2, 3)),
        }

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any], spacing: Sequence[float]) -> Objects:
        """Objects of a probability 1(Z)YX. Intermediates are `growth` and `seeds`, the objects before small ones are dropped."""
        probability, options = _single(prediction), self.options
        mask = probability > options.threshold
        found, _ = connected_components(mask, min(options.connectivity, probability.ndim))
        return _objects(found, probability, options.min_size, found, mask)


def _single(prediction: np.ndarray) -> np.ndarray:
    if len(prediction) != 1:
        raise DataError(f"the prediction has {len(prediction)} channels but these objects are made of one. Give the foreground alone.")
    return np.ascontiguousarray(prediction[0], np.float32)


def _objects(labels: np.ndarray, probability: np.ndarray, min_size: int, seeds: np.ndarray, mask: np.ndarray) -> Objects:
    """Numbered objects of at least this size; their confidence is the mean probability."""
    kept, old = numbered(remove_small(labels, min_size), int(labels.max(initial=0)))
    return Objects(kept, np.clip(object_means(kept, probability, len(old)), 0, 1), {"seeds": seeds, "growth": mask})
