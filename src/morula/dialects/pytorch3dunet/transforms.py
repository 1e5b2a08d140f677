"""The transforms of pytorch-3dunet under their names in job files, as native augmentations. Needs no torch.

The original gives raw data and labels the same random numbers by seeding one generator per list. Here the random part is drawn once::

    list raw --> augmentations --draw--> warp, orientation, intensities --apply--> raw data
                                              |        |
                                              +--------+--------------> labels, weights --> targets
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.ndimage import gaussian_filter

from morula.core.errors import OptionError, UnknownNameError
from morula.data.augment.affine import Rotate, RotateOptions
from morula.data.augment.base import AnyAugmentation, AnyIntensity, AugmentationOptions, Intensity, draw
from morula.data.augment.elastic_noise import ElasticNoise, ElasticNoiseOptions
from morula.data.augment.intensity import Contrast, ContrastOptions, Gamma, GammaOptions
from morula.data.augment.noise import GaussianNoise, GaussianNoiseOptions
from morula.data.augment.orient import Flip, FlipOptions, Rotate90, Rotate90Options
from morula.data.normalise import MinMax, PatchNormalisation, Percentile, ZScore
from morula.dialects.pytorch3dunet.keys import Section, table

Pair: TypeAlias = tuple[float, float]
Role = Literal["spatial", "crop", "values", "labels"]
Scale: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A normalisation of a patch CZYX."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of the intensities of a whole volume, for ``global_normalization``."""

    mean: float
    std: float
    percentile: Callable[[float], float]


class Transform(Section):
    """Keys of every transform.

    Attributes:
        role: whether it moves voxels, crops, changes values, or makes targets from labels.
        scaling: the normalisation of a patch, by the statistics of the whole volume where there are some.
        augmentation: the native augmentation, where it is random.
    """

    role: ClassVar[Role] = "values"
    scaling: ClassVar[Callable[[Transform, Statistics | None], Scale] | None] = None
    augmentation: ClassVar[Callable[[Transform], AnyAugmentation] | None] = None

    def __reduce__(self) -> tuple[object, ...]:  # classes that a table makes have no module to be imported from
        return parsed, (self.model_dump(),)


# --- normalisation -----------------------------------------------------------------------------------------------------------------------


def _fixed(offset: float, scale: float) -> Scale:
    return lambda patch: ((patch - offset) / scale).astype(np.float32)


def _per_patch(options: ZScore | Percentile | MinMax, eps: float = 1e-10) -> Scale:
    return PatchNormalisation((), (), options=options, eps=eps).apply


def _together(each: Transform) -> Literal["each", "together"]:
    return "each" if each.channelwise else "together"


def _standardized(each: Transform, statistics: Statistics | None) -> Scale:
    if each.mean is not None:
        return _fixed(each.mean, max(each.std, each.eps))
    if statistics is not None:
        return _fixed(statistics.mean, max(statistics.std, each.eps))
    return _per_patch(ZScore(channels=_together(each)), each.eps)


def _between_percentiles(each: Transform, statistics: Statistics | None) -> Scale:
    if statistics is None:
        return _per_patch(Percentile(low=each.pmin, high=each.pmax, channels=_together(each)), each.eps)
    low, high = statistics.percentile(each.pmin), statistics.percentile(each.pmax)
    return _fixed(low, high - low + each.eps)


def _between_extremes(each: Transform, statistics: Statistics | None) -> Scale:
    def scale(patch: np.ndarray) -> np.ndarray:
        low = float(patch.min()) if each.min_value is None else each.min_value
        high = float(patch.max()) if each.max_value is None else each.max_value
        share = np.clip(_fixed(low, high - low + each.eps)(patch), 0, 1)
        return share if each.norm01 else 2 * share - 1

    return scale


def _to_tensor(each: Transform, statistics: Statistics | None) -> Scale:
    return _per_patch(MinMax(channels="together")) if each.normalize else lambda patch: patch


# --- random changes ----------------------------------------------------------------------------------------------------------------------


class Scaling(Intensity[AugmentationOptions]):
    """Normalises values; nothing is random."""

    name = "scaling"

    def __init__(self, function: Scale) -> None:
        super().__init__(AugmentationOptions(probability=1.0))
        self.function = function

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[()]:
        """See `Augmentation.draw`."""
        return ()

    def apply(self, image: np.ndarray, record: tuple[()], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return self.function(image)


class Varying(Intensity[AugmentationOptions]):
    """Changes values by a strength drawn uniformly between two numbers; noise uses a seed that is drawn with it."""

    name = "varying"

    def __init__(self, function: Callable[[np.ndarray, float, int], np.ndarray], between: Pair, probability: float) -> None:
        super().__init__(AugmentationOptions(probability=probability))
        self.function, self.between = function, between

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, int] | None:
        """See `Augmentation.draw`."""
        return (float(rng.uniform(*self.between)), int(rng.integers(2**63))) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: tuple[float, int], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return self.function(image, *record)


def _blurred(patch: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    # the original calls skimage.filters.gaussian, which repeats the border values
    return np.stack([gaussian_filter(channel, sigma, mode="nearest") for channel in patch])


def _with_poisson(patch: np.ndarray, mean: float, seed: int) -> np.ndarray:
    # the noise does not depend on the values, unlike that of a camera
    return patch + np.random.default_rng(seed).poisson(mean, patch.shape).astype(np.float32)


def _flip(each: Transform) -> Flip:
    # axis_prob is the probability that an axis is not flipped
    return Flip(FlipOptions(probability=1 - each.axis_prob))


def _quarter_turn(each: Transform) -> Rotate90:
    return Rotate90(Rotate90Options(plane="yx", rectangles=True))


def _rotation(each: Transform) -> Rotate:
    about = tuple("zyx"[3 - a - b] for a, b in each.axes)  # the axis that is not in the plane
    return Rotate(RotateOptions.model_validate({"probability": 1.0, "degrees": each.angle_spectrum, "about": about}))


def _elastic(each: Transform) -> ElasticNoise:
    axes = "zyx" if each.apply_3d else "yx"
    return ElasticNoise(ElasticNoiseOptions(alpha=each.alpha, sigma=each.sigma, axes=axes, probability=each.execution_probability))


def _contrast(each: Transform) -> Contrast:
    low, high = each.alpha
    # the original assumes values that were normalised to -1 ... 1
    return Contrast(ContrastOptions(low=low, high=high, about=each.mean, clip=(-1, 1), probability=each.execution_probability))


def _gamma(each: Transform) -> Gamma:
    low, high = each.gamma
    # powers are defined for values from 0 on
    return Gamma(GammaOptions(low=low, high=high, unit_range=True, probability=each.execution_probability))


def _gaussian_noise(each: Transform) -> GaussianNoise:
    low, high = each.scale
    return GaussianNoise(GaussianNoiseOptions(least=low, sigma=high, probability=each.execution_probability))


def _blur(each: Transform) -> Varying:
    return Varying(_blurred, each.sigma, each.execution_probability)


def _poisson_noise(each: Transform) -> Varying:
    return Varying(_with_poisson, each.lam, each.execution_probability)


# --- rules -------------------------------------------------------------------------------------------------------------------------------


def _mean_with_std(each: Section) -> None:
    if (each.mean is None) != (each.std is None):
        raise OptionError("transform.mean_and_std", "mean and std are used together", remedy="Give both or none.")


def _percentiles_ordered(each: Section) -> None:
    if each.pmin >= each.pmax:
        raise OptionError("transform.percentiles", f"pmin must be below pmax, but they are {each.pmin:g} and {each.pmax:g}")


def _limits_ordered(each: Section) -> None:
    low, high = each.min_value, each.max_value
    if low is not None and high is not None and low >= high:
        raise OptionError("transform.limits", f"min_value must be below max_value, but they are {low:g} and {high:g}")


def _planes(each: Section) -> None:
    if any(a == b for a, b in each.axes):
        rule = "a plane has two different axes (0 is z, 1 is y, 2 is x), for example [2, 1]"
        raise OptionError("transform.axes", rule, key="axes")


def _offsets_in_pairs(each: Section) -> None:
    if each.z_offsets is not None and len(each.z_offsets) != len(each.offsets):
        rule = f"there must be as many offsets as z_offsets, not {len(each.offsets)} and {len(each.z_offsets)}"
        raise OptionError("transform.offsets", rule)
    if len(set(each.offsets)) != len(each.offsets):
        raise OptionError("transform.offsets", "offsets must be different from each other")


def _recoverable(each: Section) -> None:
    if each.ignore_label is not None and not each.append_original:
        rule = "ignore_label needs append_original: true; otherwise ignored voxels look like background"
        raise OptionError("transform.relabel", rule)


TRANSFORMS = table(
    "transform",
    {
        "Standardize": {"scaling": _standardized, "rules": (_mean_with_std,)},
        "PercentileNormalizer": {"scaling": _between_percentiles, "rules": (_percentiles_ordered,)},
        "Normalize": {"scaling": _between_extremes, "rules": (_limits_ordered,)},
        "ToTensor": {"scaling": _to_tensor},
        "RandomFlip": {"augmentation": _flip},
        "RandomRotate90": {"augmentation": _quarter_turn},
        "RandomRotate": {"augmentation": _rotation, "rules": (_planes,)},
        "ElasticDeformation": {"augmentation": _elastic},
        "RandomContrast": {"augmentation": _contrast},
        "RandomGammaCorrection": {"augmentation": _gamma},
        "GaussianBlur3D": {"augmentation": _blur},
        "AdditiveGaussianNoise": {"augmentation": _gaussian_noise},
        "AdditivePoissonNoise": {"augmentation": _poisson_noise},
        "LabelToAffinities": {"rules": (_offsets_in_pairs,)},
        "Relabel": {"rules": (_recoverable,)},
    },
    base=Transform,
)


# --- lists -------------------------------------------------------------------------------------------------------------------------------


class Lists(NamedTuple):
    """The transforms of a phase."""

    raw: tuple[Transform, ...] = ()
    label: tuple[Transform, ...] = ()
    weight: tuple[Transform, ...] = ()


def differences(lists: Lists) -> list[str]:
    """Lists of labels or weights whose spatial transforms differ from those of the raw data, which are applied to all of them."""
    raw = _moves(lists.raw)
    return [
        f"the list {name} moves patches by {_named(_moves(transforms))}, but the list raw by {_named(raw)}; the latter is applied to both. "
        "Write the same in both."
        for name, transforms in (("label", lists.label), ("weight", lists.weight))
        if transforms and _moves(transforms) != raw
    ]


def _moves(transforms: Sequence[Transform]) -> list[dict[str, object]]:
    # raw data and labels rightly differ in their interpolation
    interpolation = {"order", "spline_order", "mode"}
    return [transform.model_dump(exclude=interpolation) for transform in transforms if transform.role in ("spatial", "crop")]


def _named(moves: Sequence[Mapping[str, object]]) -> str:
    texts = [f"{move['name']} { ({key: value for key, value in move.items() if key != 'name'}) }".removesuffix(" {}") for move in moves]
    return ", ".join(texts) or "nothing"


def spline_order(transforms: Sequence[Transform], default: int) -> int:
    """Order of the interpolation: the highest in the list, because all moves are composed and interpolated once.

    Examples:
        >>> turn, bend = parse([{"name": "RandomRotate"}, {"name": "ElasticDeformation", "spline_order": 3}])
        >>> spline_order([turn, bend], 1), spline_order([turn], 1), spline_order([turn], 0)
        (3, 1, 0)
    """
    # RandomRotate and ElasticDeformation name their order differently
    orders = [getattr(transform, "order", getattr(transform, "spline_order", None)) for transform in transforms]
    return max((order for order in orders if order is not None), default=default)


def parsed(entry: Mapping[str, object]) -> Transform:
    """The transform of an entry of a list; keys that nothing reads are left out."""
    kind = TRANSFORMS[str(entry["name"])]
    found = kind.model_validate({key: value for key, value in entry.items() if key in kind.model_fields})
    assert isinstance(found, Transform)
    return found


def parse(entries: Sequence[Mapping[str, object]]) -> tuple[Transform, ...]:
    """The transforms of a list.

    Raises:
        UnknownNameError: for a name that does not exist.

    Examples:
        >>> parse([{"name": "RandomFlip"}])[0].axis_prob
        0.5
    """
    for entry in entries:
        name = entry.get("name")
        if name not in TRANSFORMS:
            rule = f"must be one of {', '.join(TRANSFORMS)}"
            raise UnknownNameError("transform.unknown", rule, key="name", value=name, remedy=TRANSFORMS.nearest(name))
    return tuple(parsed(entry) for entry in entries)


def parse_lists(transformer: Section) -> Lists:
    """The transforms of a phase, which were checked with the job."""
    return Lists(*(tuple(parsed(each) for each in entries) for entries in (transformer.raw, transformer.label, transformer.weight)))


def augmentations(transforms: Sequence[Transform], statistics: Statistics | None = None) -> list[AnyAugmentation]:
    """The transforms of a list that move voxels or change values, in order, as native augmentations; lengths are voxels.

    Args:
        transforms: the list.
        statistics: of the whole volume, with ``global_normalization``.
    """
    found: list[AnyAugmentation] = []
    for each in transforms:
        if each.scaling is not None:
            found.append(Scaling(each.scaling(statistics)))
        elif each.augmentation is not None:
            found.append(each.augmentation())
    return found


def values(transforms: Sequence[Transform], statistics: Statistics | None = None) -> list[AnyIntensity]:
    """Those of `augmentations` that change values."""
    return [each for each in augmentations(transforms, statistics) if isinstance(each, Intensity)]


def transform_raw(transforms: Sequence[Mapping[str, object]], raw: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Apply the transforms of a list ``transformer.raw`` that change values; `build_dataset` applies those that move voxels too.

    Args:
        transforms: entries of the list, as in a job file.
        raw: patch (Z, Y, X) or (C, Z, Y, X).
        seed: for the random transforms.

    Returns:
        The patch as float32 of the same shape.

    Raises:
        UnknownNameError: for a transform that does not exist.

    Examples:
        >>> transform_raw([{"name": "Normalize", "norm01": True}], np.array([[[2, 4, 6]]])).tolist()
        [[[0.0, 0.5, 1.0]]]
    """
    volume = (raw if raw.ndim == 4 else raw[None]).astype(np.float32)
    changes = draw(values(parse(transforms)), np.random.default_rng(seed), volume.shape[1:], (1.0, 1.0, 1.0))
    changed = changes.apply_intensity(volume, (1.0, 1.0, 1.0)).astype(np.float32, copy=False)
    return changed if raw.ndim == 4 else changed[0]
