"""The random transforms of pytorch-3dunet as native augmentations: drawn into a record once, then applied to raw, label and weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.orientation import Orientation
from morula.data.augment.affine import Rotate, RotateOptions
from morula.data.augment.base import Augmentation, AugmentationOptions, Reorienting, Spatial
from morula.data.augment.base import Intensity as Values
from morula.data.augment.orient import Flip, FlipOptions
from morula.data.augment.warp import Warp
from morula.dialects.pytorch3dunet import transforms as kinds
from morula.dialects.pytorch3dunet.targets import affinities, affinity, appended, boundary, renumbered, restored

_NEGLIGIBLE = 1e-4  # share of a wave that the Gaussian leaves, below which it is not drawn


@dataclass(frozen=True)
class Statistics:
    """Intensities of a whole volume, for ``global_normalization``."""

    mean: float
    std: float
    percentile: Callable[[float], float]


# --- moves -------------------------------------------------------------------------------------------------------------------------------


class QuarterTurn(Reorienting[AugmentationOptions]):
    """0 to 3 quarter turns about z, all alike."""

    name = "RandomRotate90"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""
        turned = Orientation.identity(3)
        for _ in range(int(rng.integers(4))):
            turned = turned.then(Orientation((0, 2, 1), (False, False, True)))
        return None if turned.is_identity else turned


@dataclass(frozen=True, eq=False)
class SmoothedNoise:
    """A displacement of each voxel of a patch, voxels, (3, Z, Y, X) float32."""

    vectors: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """The longest displacement along each axis."""
        return np.abs(self.vectors).reshape(3, -1).max(axis=1)

    def field(self, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
        """The displacement; `shape` is the one that it was drawn for."""
        assert tuple(shape) == self.vectors.shape[1:]
        return self.vectors


def smoothed_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float, alpha: float) -> np.ndarray:
    """White noise of standard deviation `alpha` after a Gaussian filter with mirrored borders, float32.

    The filter leaves cosine waves as they are but for a factor, so the few waves that it does not remove are drawn instead of all
    voxels: the same distribution at a cost that does not grow with `sigma`.
    """
    bases = []
    for n in shape:
        count = min(n, int(np.ceil(n / (np.pi * sigma) * np.sqrt(-2 * np.log(_NEGLIGIBLE)))) + 1)
        wave = np.arange(count)
        basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, wave) / n) * np.sqrt(np.where(wave, 2, 1) / n)
        bases.append((basis * np.exp(-((np.pi * sigma * wave / n) ** 2) / 2)).astype(np.float32))
    field = rng.standard_normal([basis.shape[1] for basis in bases], np.float32) * np.float32(alpha)
    for basis in bases:  # each time the first axis is turned into voxels and goes last
        field = np.tensordot(field, basis, axes=(0, 1))
    return np.ascontiguousarray(field)


class Elastic(Spatial[AugmentationOptions]):
    """Displacement by smoothed noise, in voxels."""

    name = "ElasticDeformation"

    def __init__(self, options: kinds.ElasticDeformation) -> None:
        super().__init__(AugmentationOptions(probability=options.execution_probability))
        self.given = options

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Warp | None:
        """See `Augmentation.draw`."""
        if not self.happens(rng):
            return None
        vectors = np.zeros((3, *shape), np.float32)
        for axis in range(0 if self.given.apply_3d else 1, 3):
            vectors[axis] = smoothed_noise(rng, shape, self.given.sigma, self.given.alpha)
        return Warp(np.eye(3), np.zeros(3), (SmoothedNoise(vectors),))


def moves(transforms: Sequence[kinds.Transform]) -> list[Augmentation[Any]]:
    """The transforms of a list that move voxels, as native augmentations; lengths are voxels."""
    found: list[Augmentation[Any]] = []
    for each in transforms:
        match each:
            case kinds.RandomFlip():
                found.append(Flip(FlipOptions(probability=1 - each.axis_prob)))
            case kinds.RandomRotate90():
                found.append(QuarterTurn(AugmentationOptions()))
            case kinds.RandomRotate():
                about = tuple("zyx"[3 - a - b] for a, b in each.axes)  # the axis that is in neither
                options = {"probability": 1.0, "degrees": each.angle_spectrum, "about": about}
                found.append(Rotate(RotateOptions.model_validate(options)))
            case kinds.ElasticDeformation():
                found.append(Elastic(each))
    return found


# --- values ------------------------------------------------------------------------------------------------------------------------------


class Scaling(Values[AugmentationOptions]):
    """Brings values to scale; nothing is random."""

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
    """Changes values by a strength drawn evenly between two numbers; noise follows a seed drawn with it."""

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


def values(transforms: Sequence[kinds.Transform], statistics: Statistics | None = None) -> list[Values[Any]]:
    """The transforms of a list that change values, in order, as native augmentations of float patches CZYX.

    Args:
        transforms: the list.
        statistics: of the whole volume, where ``global_normalization`` is on.
    """
    found: list[Values[Any]] = []
    for each in transforms:
        match each:
            case kinds.Standardize() | kinds.PercentileNormalizer() | kinds.Normalize() | kinds.ToTensor():
                found.append(Scaling(_scaled(each, statistics)))
            case kinds.RandomContrast():
                found.append(Varying(_contrasted(each.mean), each.alpha, each.execution_probability))
            case kinds.RandomGammaCorrection():
                found.append(Varying(_raised, each.gamma, each.execution_probability))
            case kinds.GaussianBlur3D():
                found.append(Varying(_blurred, each.sigma, each.execution_probability))
            case kinds.AdditiveGaussianNoise():
                found.append(Varying(_with_gaussian, each.scale, each.execution_probability))
            case kinds.AdditivePoissonNoise():
                found.append(Varying(_with_poisson, each.lam, each.execution_probability))
    return found


def _scaled(each: kinds.Transform, statistics: Statistics | None) -> Callable[[np.ndarray], np.ndarray]:
    """What brings a patch CZYX to scale."""
    match each:
        case kinds.Standardize():
            return lambda patch: _standardized(patch, each, statistics)
        case kinds.PercentileNormalizer():
            return lambda patch: _between_percentiles(patch, each, statistics)
        case kinds.Normalize():
            return lambda patch: _between_extremes(patch, each)
        case kinds.ToTensor(normalize=True):
            return lambda patch: _linear(patch, patch.min(), patch.max() - patch.min() + 1e-10)
    return lambda patch: patch


def _linear(patch: np.ndarray, offset: Any, scale: Any) -> np.ndarray:
    return ((patch - np.asarray(offset, np.float64)) / np.asarray(scale, np.float64)).astype(np.float32)


def _axes(patch: np.ndarray, channelwise: bool) -> tuple[int, ...]:
    return tuple(range(int(channelwise), patch.ndim))


def _standardized(patch: np.ndarray, each: kinds.Standardize, statistics: Statistics | None) -> np.ndarray:
    mean: Any = each.mean
    std: Any = each.std
    if mean is None:
        if statistics is not None:
            mean, std = statistics.mean, statistics.std
        else:
            axes = _axes(patch, each.channelwise)
            mean, std = patch.mean(axes, np.float64, keepdims=True), patch.std(axes, np.float64, keepdims=True)
    return _linear(patch, mean, np.maximum(std, each.eps))


def _between_percentiles(patch: np.ndarray, each: kinds.PercentileNormalizer, statistics: Statistics | None) -> np.ndarray:
    low: Any
    high: Any
    if statistics is not None:
        low, high = statistics.percentile(each.pmin), statistics.percentile(each.pmax)
    else:
        low, high = np.percentile(patch, [each.pmin, each.pmax], axis=_axes(patch, each.channelwise), keepdims=True)
    return _linear(patch, low, high - low + each.eps)


def _between_extremes(patch: np.ndarray, each: kinds.Normalize) -> np.ndarray:
    low = float(patch.min()) if each.min_value is None else each.min_value
    high = float(patch.max()) if each.max_value is None else each.max_value
    share = np.clip(_linear(patch, low, high - low + each.eps), 0, 1)
    return share if each.norm01 else 2 * share - 1


def _contrasted(mean: float) -> Callable[[np.ndarray, float, int], np.ndarray]:
    return lambda patch, factor, seed: np.clip(np.float32(mean) + np.float32(factor) * (patch - np.float32(mean)), -1, 1)


def _raised(patch: np.ndarray, gamma: float, seed: int) -> np.ndarray:
    low, high = patch.min(), patch.max()
    share = (patch - low) / (high - low) if high > low else np.clip(patch, 0, 1)
    return share ** np.float32(gamma)


def _blurred(patch: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(channel, sigma, mode="nearest") for channel in patch])


def _with_gaussian(patch: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    return patch + np.float32(sigma) * np.random.default_rng(seed).standard_normal(patch.shape, np.float32)


def _with_poisson(patch: np.ndarray, mean: float, seed: int) -> np.ndarray:
    return patch + np.random.default_rng(seed).poisson(mean, patch.shape).astype(np.float32)


# --- labels ------------------------------------------------------------------------------------------------------------------------------


def encoded(transforms: Sequence[kinds.Transform], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels ZYX or CZYX after the transforms of a list that do not move voxels, in order.

    Args:
        transforms: the list.
        labels: of a patch that was moved already.
        rng: of what is random in them.

    Raises:
        DataError: for labels with channels where one label image is expected.
    """
    for each in transforms:
        role = kinds.TRANSFORMS[each.name].role
        if isinstance(each, kinds.ToTensor | kinds.LabelToTensor):
            labels = _typed(each, labels)
        elif role == "values":
            volume = labels if labels.ndim == 4 else labels[None]
            for change in values([each]):
                record = change.draw(rng, volume.shape[1:], (1.0, 1.0, 1.0))
                volume = volume if record is None else change.apply(volume.astype(np.float32), record, (1.0, 1.0, 1.0))
            labels = volume if labels.ndim == 4 else volume[0]
        elif role == "labels":
            labels = _labelled(each, labels, rng)
    return labels


def _typed(each: kinds.ToTensor | kinds.LabelToTensor, labels: np.ndarray) -> np.ndarray:
    if isinstance(each, kinds.LabelToTensor):
        return labels.astype(np.int64)
    if each.expand_dims and labels.ndim == 3:
        labels = labels[None]
    if each.normalize:
        labels = _linear(labels, labels.min(), labels.max() - labels.min() + 1e-10)
    names = {"float": "float32", "float64": "float32", "long": "int64", "int": "int64", "int32": "int64"}
    return labels.astype(names.get(each.dtype, each.dtype))


def _labelled(each: kinds.Transform, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if isinstance(each, kinds.RgbToLabel):
        if labels.ndim != 4 or len(labels) != 3:
            raise DataError(f"RgbToLabel takes three channels but was given labels of shape {labels.shape}. Leave it out.")
        red, green, blue = labels.astype(np.int64)
        return red * 65536 + green * 256 + blue
    if labels.ndim == 4 and len(labels) == 1:
        labels = labels[0]
    if labels.ndim != 3:
        raise DataError(
            f"{each.name} takes one label image but was given {len(labels)} channels. "
            "Name one data set in loaders.label_internal_path, or leave the transform out."
        )
    if isinstance(each, kinds.Relabel):
        fresh = renumbered(labels, connected=each.run_cc, ignore_label=each.ignore_label)
        return np.stack([fresh, labels]) if each.append_original else fresh
    channels = _channels(each, labels, rng)
    if getattr(each, "append_label", False):
        channels.append(appended(labels, getattr(each, "ignore_index", None)))
    return np.stack(channels)


def _channels(each: kinds.Transform, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """What a transform makes of one label image, before the labels are appended."""
    ignored = getattr(each, "ignore_index", None)
    match each:
        case kinds.StandardLabelToBoundary():
            return _boundary_channels(each, labels)
        case kinds.BlobsToMask():
            return _blob_channels(each, labels)
        case kinds.LabelToAffinities():
            channels = affinities(labels, each.offsets, each.z_offsets or each.offsets)
            if each.aggregate_affinities:
                channels = [np.maximum.reduce(channels[i : i + 3]) for i in range(0, len(channels), 3)]
            return [restored(channel, labels, ignored) for channel in channels]
        case kinds.LabelToZAffinities():
            return [restored(affinity(labels, 0, offset), labels, ignored) for offset in each.offsets]
        case kinds.RandomLabelToAffinities():
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
    return [np.where(outer > 0, 2, mask)] if each.cross_entropy else [mask, outer]
