"""The transforms of pytorch-3dunet as native augmentations, which are drawn once per patch and applied to raw data, labels and weights.

The original gives raw data and labels the same random numbers by seeding one generator per list. Here the random part is drawn once::

    list raw --> augmentations --draw--> warp, orientation, intensities --apply--> raw data
                                              |        |
                                              +--------+--------------> labels, weights --> targets
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from morula.core.errors import DataError
from morula.core.orientation import Orientation
from morula.data.augment.affine import Rotate, RotateOptions
from morula.data.augment.base import AnyAugmentation, AnyIntensity, AugmentationOptions, draw
from morula.data.augment.base import Intensity as Values
from morula.data.augment.elastic_noise import ElasticNoise, ElasticNoiseOptions
from morula.data.augment.intensity import Contrast, ContrastOptions, Gamma, GammaOptions
from morula.data.augment.noise import GaussianNoise, GaussianNoiseOptions
from morula.data.augment.orient import Flip, FlipOptions, Rotate90, Rotate90Options
from morula.data.normalise import MinMax, PatchNormalisation, Percentile, ZScore
from morula.dialects.pytorch3dunet import transforms as kinds
from morula.dialects.pytorch3dunet.targets import affinities, affinity, appended, boundary, renumbered, restored


@dataclass(frozen=True)
class Statistics:
    """Statistics of the intensities of a whole volume, for ``global_normalization``."""

    mean: float
    std: float
    percentile: Callable[[float], float]


# --- moves -------------------------------------------------------------------------------------------------------------------------------


class QuarterTurn(Rotate90):
    """0 to 3 rotations by 90 degrees about z, equally likely. Where the edges y and x differ, the rotated region is read."""

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""
        # a square shape, because every rotation is allowed: the patch reads the region that has its shape afterwards
        return super().draw(rng, (1, shape[-1], shape[-1]), spacing)


def augmentations(transforms: Sequence[kinds.Transform], statistics: Statistics | None = None) -> list[AnyAugmentation]:
    """All transforms of the raw list in order: those that move voxels and those that change values."""
    return [one for each in transforms for one in (*moves([each]), *values([each], statistics))]


def moves(transforms: Sequence[kinds.Transform]) -> list[AnyAugmentation]:
    """The transforms of a list that move voxels, as native augmentations; lengths are voxels."""
    found: list[AnyAugmentation] = []
    for each in transforms:
        match each:
            case kinds.RandomFlip():
                # axis_prob is the probability that an axis is not flipped
                found.append(Flip(FlipOptions(probability=1 - each.axis_prob)))
            case kinds.RandomRotate90():
                found.append(QuarterTurn(Rotate90Options(plane="yx")))
            case kinds.RandomRotate():
                about = tuple("zyx"[3 - a - b] for a, b in each.axes)  # the axis that is not in the plane
                found.append(Rotate(RotateOptions.model_validate({"probability": 1.0, "degrees": each.angle_spectrum, "about": about})))
            case kinds.ElasticDeformation():
                axes = "zyx" if each.apply_3d else "yx"
                options = ElasticNoiseOptions(alpha=each.alpha, sigma=each.sigma, axes=axes, probability=each.execution_probability)
                found.append(ElasticNoise(options))
    return found


# --- values ------------------------------------------------------------------------------------------------------------------------------


class Scaling(Values[AugmentationOptions]):
    """Normalises values; nothing is random."""

    name = "scaling"

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(AugmentationOptions(probability=1.0))
        self.function = function

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[()]:
        """See `Augmentation.draw`."""
        return ()

    def apply(self, image: np.ndarray, record: tuple[()], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return self.function(image)


class Varying(Values[AugmentationOptions]):
    """Changes values by a strength drawn uniformly between two numbers; noise uses a seed that is drawn with it."""

    name = "varying"

    def __init__(self, function: Callable[[np.ndarray, float, int], np.ndarray], between: kinds.Pair, probability: float) -> None:
        super().__init__(AugmentationOptions(probability=probability))
        self.function, self.between = function, between

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, int] | None:
        """See `Augmentation.draw`."""
        return (float(rng.uniform(*self.between)), int(rng.integers(2**63))) if self.happens(rng) else None

    def apply(self, image: np.ndarray, record: tuple[float, int], spacing: Sequence[float]) -> np.ndarray:
        """See `Intensity.apply`."""
        return self.function(image, *record)


def values(transforms: Sequence[kinds.Transform], statistics: Statistics | None = None) -> list[AnyIntensity]:
    """The transforms of a list that change values, in order, as native augmentations of float patches CZYX.

    Args:
        transforms: the list.
        statistics: of the whole volume, with ``global_normalization``.
    """
    found: list[AnyIntensity] = []
    for each in transforms:
        match each:
            case kinds.Standardize() | kinds.PercentileNormalizer() | kinds.Normalize() | kinds.ToTensor():
                found.append(Scaling(_scaled(each, statistics)))
            case kinds.RandomContrast():
                low, high = each.alpha
                # the original assumes values that were normalised to -1 ... 1
                contrast = ContrastOptions(low=low, high=high, about=each.mean, clip=(-1, 1), probability=each.execution_probability)
                found.append(Contrast(contrast))
            case kinds.RandomGammaCorrection():
                low, high = each.gamma
                # powers are defined for values from 0 on
                gamma = GammaOptions(low=low, high=high, unit_range=True, probability=each.execution_probability)
                found.append(Gamma(gamma))
            case kinds.GaussianBlur3D():
                found.append(Varying(_blurred, each.sigma, each.execution_probability))
            case kinds.AdditiveGaussianNoise():
                low, high = each.scale
                found.append(GaussianNoise(GaussianNoiseOptions(least=low, sigma=high, probability=each.execution_probability)))
            case kinds.AdditivePoissonNoise():
                found.append(Varying(_with_poisson, each.lam, each.execution_probability))
    return found


def _scaled(each: kinds.Transform, statistics: Statistics | None) -> Callable[[np.ndarray], np.ndarray]:
    """The normalisation of a patch CZYX: that of the patch itself, or by numbers from the job or the whole volume."""
    match each:
        case kinds.Standardize(mean=float(mean), std=float(std)):
            return _fixed(mean, max(std, each.eps))
        case kinds.Standardize():
            if statistics is not None:
                return _fixed(statistics.mean, max(statistics.std, each.eps))
            return _per_patch(ZScore(channels=_channels_of(each)), each.eps)
        case kinds.PercentileNormalizer():
            if statistics is not None:
                low, high = statistics.percentile(each.pmin), statistics.percentile(each.pmax)
                return _fixed(low, high - low + each.eps)
            return _per_patch(Percentile(low=each.pmin, high=each.pmax, channels=_channels_of(each)), each.eps)
        case kinds.Normalize():
            return lambda patch: _between_extremes(patch, each)
        case kinds.ToTensor(normalize=True):
            return _per_patch(MinMax(channels="together"))
    return lambda patch: patch


def _channels_of(each: kinds.Standardize | kinds.PercentileNormalizer) -> Literal["each", "together"]:
    return "each" if each.channelwise else "together"


def _fixed(offset: float, scale: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda patch: ((patch - offset) / scale).astype(np.float32)


def _per_patch(options: ZScore | Percentile | MinMax, eps: float = 1e-10) -> Callable[[np.ndarray], np.ndarray]:
    return PatchNormalisation((), (), options=options, eps=eps).apply


def _between_extremes(patch: np.ndarray, each: kinds.Normalize) -> np.ndarray:
    low = float(patch.min()) if each.min_value is None else each.min_value
    high = float(patch.max()) if each.max_value is None else each.max_value
    share = np.clip(_fixed(low, high - low + each.eps)(patch), 0, 1)
    return share if each.norm01 else 2 * share - 1


def _blurred(patch: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    # the original calls skimage.filters.gaussian, which repeats the border values
    return np.stack([gaussian_filter(channel, sigma, mode="nearest") for channel in patch])


def _with_poisson(patch: np.ndarray, mean: float, seed: int) -> np.ndarray:
    # the noise does not depend on the values, unlike that of a camera
    return patch + np.random.default_rng(seed).poisson(mean, patch.shape).astype(np.float32)


# --- labels ------------------------------------------------------------------------------------------------------------------------------


def encoded(transforms: Sequence[kinds.Transform], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels ZYX or CZYX after the transforms of a list that do not move voxels.

    Args:
        transforms: the list.
        labels: of a patch, after flips, rotations and deformations.
        rng: for random transforms.

    Raises:
        DataError: for labels with channels where a transform needs one label image.
    """
    for each in transforms:
        if isinstance(each, kinds.ToTensor | kinds.LabelToTensor):
            labels = _typed(each, labels)
        elif each.role == "values":
            volume = labels if labels.ndim == 4 else labels[None]
            for change in values([each]):
                record = change.draw(rng, volume.shape[1:], (1.0, 1.0, 1.0))
                volume = volume if record is None else change.apply(volume.astype(np.float32), record, (1.0, 1.0, 1.0))
            labels = volume if labels.ndim == 4 else volume[0]
        elif each.role == "labels":
            labels = _labelled(each, labels, rng)
    return labels


def _typed(each: kinds.ToTensor | kinds.LabelToTensor, labels: np.ndarray) -> np.ndarray:
    if isinstance(each, kinds.LabelToTensor):
        return labels.astype(np.int64)
    if each.expand_dims and labels.ndim == 3:
        labels = labels[None]
    if each.normalize:
        labels = _per_patch(MinMax(channels="together"))(labels)
    # losses need float32 or int64, and torch has the other types under several names
    names = {"float": "float32", "float64": "float32", "long": "int64", "int": "int64", "int32": "int64"}
    return labels.astype(names.get(each.dtype, each.dtype))


def _labelled(each: kinds.Transform, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if isinstance(each, kinds.RgbToLabel):
        if labels.ndim != 4 or len(labels) != 3:
            raise DataError(
                "labels.rgb_channels",
                f"RgbToLabel needs three channels, but the labels have the shape {labels.shape}",
                remedy="Leave it out.",
            )
        red, green, blue = labels.astype(np.int64)
        # the colours are the bytes of a 24-bit number
        return red * 65536 + green * 256 + blue
    # a single channel, for example after ToTensor, is one label image
    if labels.ndim == 4 and len(labels) == 1:
        labels = labels[0]
    if labels.ndim != 3:
        raise DataError(
            "labels.channels",
            f"{each.name} needs one label image, but there are {len(labels)} channels",
            remedy="Name one data set in loaders.label_internal_path, or leave the transform out.",
        )
    if isinstance(each, kinds.Relabel):
        new = renumbered(labels, connected=each.run_cc, ignore_label=each.ignore_label)
        return np.stack([new, labels]) if each.append_original else new
    channels = _channels(each, labels, rng)
    if getattr(each, "append_label", False):
        channels.append(appended(labels, getattr(each, "ignore_index", None)))
    return np.stack(channels)


def _channels(each: kinds.Transform, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The channels that a transform makes from one label image, before the labels are appended."""
    ignored = getattr(each, "ignore_index", None)
    match each:
        case kinds.StandardLabelToBoundary():
            return _boundary_channels(each, labels)
        case kinds.BlobsToMask():
            return _blob_channels(each, labels)
        case kinds.LabelToAffinities():
            channels = affinities(labels, each.offsets, each.z_offsets or each.offsets)
            if each.aggregate_affinities:
                # x, y and z of each distance
                channels = [np.maximum.reduce(channels[i : i + 3]) for i in range(0, len(channels), 3)]
            return [restored(channel, labels, ignored) for channel in channels]
        case kinds.LabelToZAffinities():
            return [restored(affinity(labels, 0, offset), labels, ignored) for offset in each.offsets]
        case kinds.RandomLabelToAffinities():
            # voxels are usually longer along z, so distances are shorter there
            offset, axis = int(rng.integers(1, each.max_offset + 1)), int(rng.integers(3))
            return [restored(affinity(labels, axis, max(1, offset // each.z_offset_scale) if axis == 0 else offset), labels, ignored)]
        case kinds.LabelToBoundaryAndAffinities():
            pairs = affinities(labels, each.xy_offsets, each.z_offsets)
            return [*_boundary_channels(each, labels), *(restored(channel, labels, ignored) for channel in pairs)]
        case kinds.LabelToMaskAndAffinities():
            pairs = affinities(labels, each.xy_offsets, each.z_offsets)
            return [(labels > each.background).astype(np.int32), *(restored(channel, labels, ignored) for channel in pairs)]
    raise AssertionError(each.name)


def _boundary_channels(each: kinds.StandardLabelToBoundary | kinds.LabelToBoundaryAndAffinities, labels: np.ndarray) -> list[np.ndarray]:
    channels = [(labels > 0).astype(np.int32)] if each.foreground else []
    return [restored(channel, labels, each.ignore_index) for channel in [*channels, boundary(labels, each.mode)]]


def _blob_channels(each: kinds.BlobsToMask, labels: np.ndarray) -> list[np.ndarray]:
    mask = (labels > 0).astype(np.int32)
    if not each.boundary:
        return [mask]
    outer = boundary(labels, "outer")
    # class 2 replaces foreground and background at the boundary
    return [np.where(outer > 0, 2, mask)] if each.cross_entropy else [mask, outer]


# --- public ------------------------------------------------------------------------------------------------------------------------------


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
    changes = draw(values(kinds.parse(transforms)), np.random.default_rng(seed), volume.shape[1:], (1.0, 1.0, 1.0))
    changed = changes.apply_intensity(volume, (1.0, 1.0, 1.0)).astype(np.float32, copy=False)
    return changed if raw.ndim == 4 else changed[0]


def transform_label(transforms: Sequence[Mapping[str, object]], label: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Apply the transforms of a list ``transformer.label`` that make targets; `build_dataset` applies those that move voxels too.

    Args:
        transforms: entries of the list, as in a job file.
        label: label image (Z, Y, X), or channels (C, Z, Y, X).
        seed: for `RandomLabelToAffinities`.

    Returns:
        The target, (C, Z, Y, X) after a transform that makes channels.

    Raises:
        UnknownNameError: for a transform that does not exist.
        DataError: for labels that a transform cannot use.

    Examples:
        >>> transform_label([{"name": "BlobsToMask"}], np.array([[[0, 3, 3]]])).tolist()
        [[[[0, 1, 1]]]]
    """
    return encoded(kinds.parse(transforms), label, np.random.default_rng(seed))
