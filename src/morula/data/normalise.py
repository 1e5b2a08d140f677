"""Intensities on a common scale. The record of the normalisation is stored with the model and applied to every new image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.options import Options as Base
from morula.data.intensity import LIMIT, Distribution, distributions


class _Measured(Base):
    per: Literal["image", "data_set", "patch"] = "image"
    """What the scale is measured on: each image, the training images together, or each patch (in prediction each tile), as pytorch-3dunet
    does by default; the same voxel then has different values in different patches."""
    channels: Literal["each", "together"] = "each"
    """One scale per channel, or one for all channels."""
    voxels: Literal["sample", "all"] = "sample"
    """Voxels that are measured: of images above 16 million voxels, blocks that are spread over them, or all. Percentiles of floats and of
    integers above 16 bits are those of at most 4 million values in either case."""
    eps: float = Field(1e-10, ge=0)
    """Added to the difference of two values of a patch (with `zscore`: smallest standard deviation), against a division by 0."""


class Percentile(_Measured):
    """Map a low and a high percentile to 0 and 1. Robust against hot pixels and debris; the default."""

    kind: Literal["percentile"] = "percentile"
    """Map two percentiles to 0 and 1."""
    low: float = Field(1.0, ge=0, lt=100)
    """Percentile that is mapped to 0."""
    high: float = Field(99.8, gt=0, le=100)
    """Percentile that is mapped to 1 (or to `top`)."""
    clip: bool = False
    """Clip values below 0 and above 1 (or `top`)."""
    top: float = Field(1.0, gt=0)
    """Value to which the high percentile is mapped."""

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise OptionError("normalisation.percentiles", f"low must be below high ({self.high:g})", key="low", value=self.low)
        return self


class ZScore(_Measured):
    """Mean 0 and standard deviation 1."""

    kind: Literal["zscore"] = "zscore"
    """Mean 0 and standard deviation 1."""
    clip: tuple[float, float] | None = None
    """Lower and upper limit, in standard deviations; none when left out."""


class MinMax(_Measured):
    """Map the smallest value to 0 and the largest to 1."""

    kind: Literal["minmax"] = "minmax"
    """Map the smallest value to 0 and the largest to 1."""
    range: tuple[float, float] = (0.0, 1.0)
    """What the smallest and the largest value become, where not 0 and 1."""
    low: float | None = None
    """Number that takes the place of the smallest value; values below are clipped."""
    high: float | None = None
    """Number that takes the place of the largest value; values above are clipped."""

    @model_validator(mode="after")
    def _ordered(self) -> MinMax:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise OptionError("normalisation.limits", f"low must be below high ({self.high:g})", key="low", value=self.low)
        return self

    @property
    def clip(self) -> tuple[float, float] | None:
        """Limits of the result."""
        return None if self.low is None and self.high is None else self.range


class Fixed(Base):
    """``(value - offset) / scale`` with given numbers, the same for every image."""

    kind: Literal["fixed"] = "fixed"
    """(value - offset) / scale with given numbers."""
    offset: float | tuple[float, ...] = 0.0
    """Number that is subtracted: one, or one per channel."""
    scale: float | tuple[float, ...] = 1.0
    """Number by which the difference is divided: one, or one per channel; not 0."""
    clip: tuple[float, float] | None = None
    """Lower and upper limit of the result; none when left out."""

    @model_validator(mode="after")
    def _divisible(self) -> Fixed:
        if 0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise OptionError("normalisation.scale", "must not be 0, because values are divided by it", key="scale", value=self.scale)
        return self


Options: TypeAlias = Annotated[Percentile | ZScore | MinMax | Fixed, Field(discriminator="kind")]


@dataclass(frozen=True)
class Normalisation:
    """``(value - offset) / scale``, one pair per channel, then clipped to `clip` where given. `as_dict` is stored in the model's JSON.

    Examples:
        >>> record = Normalisation((10.0,), (5.0,), clip=(0.0, 1.0))
        >>> record.apply(np.array([[[5, 10, 12, 20]]], np.uint8))
        array([[[0. , 0. , 0.4, 1. ]]], dtype=float32)
        >>> Normalisation.from_dict(record.as_dict()) == record
        True
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: tuple[float, float] | None = None

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The normalised array C(Z)YX, float32.

        Raises:
            DataError: when the number of channels is not that of the record.
        """
        if len(array) != len(self.offset):
            raise DataError(
                "normalisation.channels",
                f"the image must have {len(self.offset)} channel(s), as in training",
                value=len(array),
                remedy="Give images with the same channels as in training.",
            )
        # integers above 16 bits and float64 are subtracted before they are rounded to float32: large offsets would lose the differences
        exact = array.dtype.itemsize <= 2 or array.dtype == np.float32
        shape = (len(array),) + (1,) * (array.ndim - 1)
        offset, factor = (np.array(v).reshape(shape) for v in (self.offset, [1 / s for s in self.scale]))
        if exact:
            result = array.astype(np.float32)
            result -= offset.astype(np.float32)
            result *= factor.astype(np.float32)
        else:
            result = ((array - offset) * factor).astype(np.float32)
        return result if self.clip is None else np.clip(result, *self.clip, out=result)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """The inverse: an array C(Z)YX in the units of the image, float32. Clipped values stay clipped.

        Examples:
            >>> Normalisation((10.0,), (5.0,)).undo(np.array([[[0.4]]], np.float32))
            array([[[12.]]], dtype=float32)
        """
        shape = (-1, *[1] * (array.ndim - 1))
        scale, offset = (np.asarray(values, np.float64).reshape(shape) for values in (self.scale, self.offset))
        return np.asarray(array * scale + offset, np.float32)

    def with_channels(self, number: int) -> Normalisation:
        """The record for images of another number of channels; channels that it lacks are on the scale of the first.

        Examples:
            >>> Normalisation((10.0, 0.0), (5.0, 1.0)).with_channels(3)
            Normalisation(offset=(10.0, 0.0, 10.0), scale=(5.0, 1.0, 5.0), clip=None)
        """
        more = number - len(self.offset)
        return replace(self, offset=(*self.offset, *self.offset[:1] * more)[:number], scale=(*self.scale, *self.scale[:1] * more)[:number])

    def as_dict(self) -> dict[str, object]:
        """The record as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalisation:
        """The record from JSON, where tuples have become lists."""
        clip = values.get("clip")
        return cls(tuple(values["offset"]), tuple(values["scale"]), None if clip is None else (clip[0], clip[1]))


@dataclass(frozen=True)
class PatchNormalisation(Normalisation):
    """Brings every array that it is given to scale by the intensities of this array alone.

    Examples:
        >>> record = PatchNormalisation((), (), options=MinMax(per="patch"))
        >>> record.apply(np.array([[[5, 10, 15]]], np.uint8)), record.apply(np.array([[[0, 1]]], np.uint8))
        (array([[[0. , 0.5, 1. ]]], dtype=float32), array([[[0., 1.]]], dtype=float32))
    """

    options: Percentile | ZScore | MinMax = field(default_factory=ZScore)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The array C(Z)YX brought to scale, float32."""
        axes = tuple(range(int(self.options.channels == "each"), array.ndim))
        clip = None
        offset: np.ndarray
        scale: np.ndarray
        match self.options:
            case ZScore():
                offset, scale = array.mean(axes, np.float64, keepdims=True), array.std(axes, np.float64, keepdims=True)
                scale, clip = np.maximum(scale, self.options.eps), self.options.clip
            case Percentile():
                offset, high = np.percentile(array, [self.options.low, self.options.high], axis=axes, keepdims=True)
                scale = (high - offset + self.options.eps) / self.options.top
                clip = (0.0, self.options.top) if self.options.clip else None
            case MinMax():
                low, high = self.options.range
                ends = ((np.min, self.options.low), (np.max, self.options.high))
                offset, top = (np.asarray(measure(array, axes, keepdims=True) if end is None else end, np.float64) for measure, end in ends)
                scale = (top - offset + self.options.eps) / (high - low)
                offset, clip = offset - low * scale, self.options.clip
        result = ((array - offset) / scale).astype(np.float32)
        return result if clip is None else np.clip(result, *clip, out=result)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Not possible: each patch has a scale of its own.

        Raises:
            OptionError: always.
        """
        remedy = "Use per: image or per: data_set."
        raise OptionError("normalisation.not_invertible", "cannot be undone", key="sampling.normalise.per", value="patch", remedy=remedy)


@dataclass(frozen=True)
class Renormalisation(PatchNormalisation):
    """Brings every array to scale twice: by the first record, then by its own intensities.

    Examples:
        >>> record = Renormalisation((), (), options=MinMax(per="patch"), first=Normalisation((0.0,), (1.0,), clip=(0, 10)))
        >>> record.apply(np.array([[[5, 10, 15]]], np.uint8))
        array([[[0., 1., 1.]]], dtype=float32)
    """

    first: Normalisation = field(default_factory=lambda: Normalisation((), ()))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The array C(Z)YX brought to scale, float32."""
        return super().apply(self.first.apply(array))


def renormalised(first: Normalisation, again: Options | None) -> Normalisation:
    """The first normalisation, followed by that of each array by its own intensities where there is one."""
    return first if again is None or isinstance(again, Fixed) else Renormalisation((), (), options=again, first=first)


def _offset_and_scale(distribution: Distribution, options: Percentile | ZScore | MinMax) -> tuple[float, float]:
    match options:
        case Percentile():
            offset = distribution.percentile(options.low)
            scale = distribution.percentile(options.high) - offset
        case ZScore():
            offset, scale = distribution.mean, distribution.std
        case MinMax():
            offset = distribution.low if options.low is None else options.low
            scale = (distribution.high if options.high is None else options.high) - offset
    # a smaller scale is rounding noise of a constant image
    if scale > 1e-9 * max(abs(offset), 1e-20):
        return offset, scale
    # both percentiles are in the background (few bright voxels on black): use the full range
    spread = distribution.high - distribution.low
    return offset, spread if spread > 0 else 1.0


def _record(parts: list[Distribution], options: Percentile | ZScore | MinMax) -> Normalisation:
    if options.channels == "together":
        parts = [Distribution.merge(parts)] * len(parts)
    pairs = [_offset_and_scale(part, options) for part in parts]
    if isinstance(options, MinMax) and options.range != (0.0, 1.0):
        low, high = options.range
        pairs = [(offset - low * scale / (high - low), scale / (high - low)) for offset, scale in pairs]
    clip: tuple[float, float] | None = None
    top = 1.0
    if isinstance(options, Percentile):
        top = options.top
        clip = (0.0, top) if options.clip else None
    else:
        clip = options.clip
    return Normalisation(tuple(o for o, _ in pairs), tuple(s / top for _, s in pairs), clip)


def _fixed(options: Fixed, n_channels: int) -> Normalisation:
    def per_channel(value: float | tuple[float, ...], name: str) -> tuple[float, ...]:
        values = value if isinstance(value, tuple) else (value,) * n_channels
        if len(values) != n_channels:
            raise DataError(
                "normalisation.channels", f"must be one number per channel, and the image has {n_channels}", key=name, value=values
            )
        return values

    return Normalisation(per_channel(options.offset, "offset"), per_channel(options.scale, "scale"), options.clip)


def stated(options: Options, n_channels: int) -> Normalisation | None:
    """The normalisation that follows from the options alone: by given numbers, or of each patch; `None` where images are to be measured.

    Raises:
        DataError: for another number of channels than the options have numbers for.
    """
    if isinstance(options, Fixed):
        return _fixed(options, n_channels)
    return PatchNormalisation((), (), options=options) if options.per == "patch" else None


def statistics(image: Image, options: Options) -> Normalisation:
    """The normalisation of one image.

    At most about 2**24 voxels per channel are read, unless the options say `all`. A constant image gets the scale 1, never NaN.

    Raises:
        DataError: for an empty image or values that are not finite.

    Examples:
        >>> statistics(Image(np.arange(101.0).reshape(1, 101), "YX"), Percentile(low=10, high=90))
        Normalisation(offset=(10.0,), scale=(80.0,), clip=None)
    """
    found = stated(options, image.n_channels)
    if found is not None:
        return found
    assert not isinstance(options, Fixed)
    return _record(distributions(image, LIMIT if options.voxels == "sample" else None), options)


def data_set_statistics(images: Sequence[Image], options: Options) -> Normalisation:
    """The normalisation of a data set: the statistics of the voxels of all images together.

    Raises:
        DataError: without images, or when their numbers of channels are not equal.
    """
    if not images:
        raise DataError("images.none", "there is no image to compute the normalisation from", remedy="Give at least one.")
    channels = sorted({image.n_channels for image in images})
    if len(channels) > 1:
        raise DataError(
            "images.channels", "all images must have the same number of channels", value=channels, remedy="Use images of one kind."
        )
    if isinstance(options, Fixed):
        return _fixed(options, channels[0])
    limit = max(LIMIT // len(images), 2**16) if options.voxels == "sample" else None
    parts = [distributions(image, limit) for image in images]
    return _record([Distribution.merge(column) for column in zip(*parts, strict=True)], options)


def normalisations(images: Sequence[Image], options: Options) -> list[Normalisation]:
    """One record per image: its own, or that of the data set, as the options say."""
    if isinstance(options, Fixed) or options.per == "data_set":
        return [data_set_statistics(images, options)] * len(images)
    return [statistics(image, options) for image in images]
