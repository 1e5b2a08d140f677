"""Intensities brought to a common scale. The record of how is stored with the model and applied to every new image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.options import Options as Base
from morula.data.intensity import LIMIT, Distribution, distributions


class _Measured(Base):
    per: Literal["image", "data_set"] = "image"
    """Whether each image is brought to the scale by its own intensities, or all by those of the training images together."""
    channels: Literal["each", "together"] = "each"
    """Whether each channel has its own scale, or all channels share one."""


class Percentile(_Measured):
    """A low and a high percentile become 0 and 1. Robust against hot pixels and debris; the default."""

    kind: Literal["percentile"] = "percentile"
    """Two percentiles become 0 and 1."""
    low: float = Field(1.0, ge=0, lt=100)
    """Percentile that becomes 0."""
    high: float = Field(99.8, gt=0, le=100)
    """Percentile that becomes 1."""
    clip: bool = False
    """Whether values below 0 and above 1 (or `top`) are cut off."""
    top: float = Field(1.0, gt=0)
    """What the high percentile becomes, where not 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be below high")
        return self


class ZScore(_Measured):
    """Mean 0 and standard deviation 1."""

    kind: Literal["zscore"] = "zscore"
    """Mean 0 and standard deviation 1."""
    clip: tuple[float, float] | None = None
    """Lower and upper limit, in standard deviations; none when left out."""


class MinMax(_Measured):
    """The smallest value becomes 0, the largest 1."""

    kind: Literal["minmax"] = "minmax"
    """The smallest value becomes 0, the largest 1."""


class Fixed(Base):
    """``(value - offset) / scale`` with stated numbers, the same for every image."""

    kind: Literal["fixed"] = "fixed"
    """(value - offset) / scale with stated numbers."""
    offset: float | tuple[float, ...] = 0.0
    """What is subtracted: one number, or one a channel."""
    scale: float | tuple[float, ...] = 1.0
    """What the difference is divided by: one number, or one a channel; not 0."""
    clip: tuple[float, float] | None = None
    """Lower and upper limit of the result; none when left out."""

    @model_validator(mode="after")
    def _divisible(self) -> Fixed:
        if 0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ValueError("scale is 0; values are divided by it, so it must differ from 0")
        return self


Options: TypeAlias = Annotated[Percentile | ZScore | MinMax | Fixed, Field(discriminator="kind")]


@dataclass(frozen=True)
class Normalisation:
    """``(value - offset) / scale``, one pair a channel, then cut to `clip` where given. `as_dict` goes into the model's JSON.

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
        """The array C(Z)YX brought to scale, float32.

        Raises:
            DataError: when the number of channels differs from the record's.
        """
        if len(array) != len(self.offset):
            raise DataError(
                f"the image has {len(array)} channels but the normalisation is for {len(self.offset)}. "
                "Give images with the same channels as in training."
            )
        # numbers that float32 does not hold exactly are subtracted before they are rounded
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
        """An array C(Z)YX on this scale back in the image's own units, float32; what `clip` cut off stays so.

        Examples:
            >>> Normalisation((10.0,), (5.0,)).undo(np.array([[[0.4]]], np.float32))
            array([[[12.]]], dtype=float32)
        """
        shape = (-1, *[1] * (array.ndim - 1))
        scale, offset = (np.asarray(each, np.float64).reshape(shape) for each in (self.scale, self.offset))
        return np.asarray(array * scale + offset, np.float32)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalisation:
        """Back from JSON, where tuples have become lists."""
        clip = values.get("clip")
        return cls(tuple(values["offset"]), tuple(values["scale"]), None if clip is None else (clip[0], clip[1]))


def _offset_and_scale(distribution: Distribution, options: Percentile | ZScore | MinMax) -> tuple[float, float]:
    match options:
        case Percentile():
            offset = distribution.percentile(options.low)
            scale = distribution.percentile(options.high) - offset
        case ZScore():
            offset, scale = distribution.mean, distribution.std
        case MinMax():
            offset, scale = distribution.low, distribution.high - distribution.low
    if scale > 1e-9 * max(abs(offset), 1e-20):
        return offset, scale
    spread = distribution.high - distribution.low  # both percentiles in the background: a few bright voxels on black
    return offset, spread if spread > 0 else 1.0


def _record(parts: list[Distribution], options: Percentile | ZScore | MinMax) -> Normalisation:
    if options.channels == "together":
        parts = [Distribution.merge(parts)] * len(parts)
    pairs = [_offset_and_scale(part, options) for part in parts]
    clip: tuple[float, float] | None = None
    top = 1.0
    if isinstance(options, Percentile):
        top = options.top
        clip = (0.0, top) if options.clip else None
    elif isinstance(options, ZScore):
        clip = options.clip
    return Normalisation(tuple(o for o, _ in pairs), tuple(s / top for _, s in pairs), clip)


def _fixed(options: Fixed, n_channels: int) -> Normalisation:
    def spread(value: float | tuple[float, ...], name: str) -> tuple[float, ...]:
        values = value if isinstance(value, tuple) else (value,) * n_channels
        if len(values) != n_channels:
            raise DataError(
                f"normalisation {name} {values} has {len(values)} numbers but the image has {n_channels} channels. Give one a channel."
            )
        return values

    return Normalisation(spread(options.offset, "offset"), spread(options.scale, "scale"), options.clip)


def statistics(image: Image, options: Options) -> Normalisation:
    """How one image is brought to scale.

    Up to 2**24 voxels a channel are read, all of a smaller image. A constant image gets scale 1, never NaN.

    Raises:
        DataError: for an empty image or values that are not finite.

    Examples:
        >>> statistics(Image(np.arange(101.0).reshape(1, 101), "YX"), Percentile(low=10, high=90))
        Normalisation(offset=(10.0,), scale=(80.0,), clip=None)
    """
    if isinstance(options, Fixed):
        return _fixed(options, image.n_channels)
    return _record(distributions(image), options)


def data_set_statistics(images: Sequence[Image], options: Options) -> Normalisation:
    """How all images together are brought to scale: the statistics of their pooled voxels.

    Raises:
        DataError: without images, or when their numbers of channels differ.
    """
    if not images:
        raise DataError("there is no image to take the normalisation from. Give at least one.")
    channels = sorted({image.n_channels for image in images})
    if len(channels) > 1:
        raise DataError(f"the images have different numbers of channels ({', '.join(map(str, channels))}). Use images of one kind.")
    if isinstance(options, Fixed):
        return _fixed(options, channels[0])
    limit = max(LIMIT // len(images), 2**16)
    parts = [distributions(image, limit) for image in images]
    return _record([Distribution.merge(column) for column in zip(*parts, strict=True)], options)


def normalisations(images: Sequence[Image], options: Options) -> list[Normalisation]:
    """One record an image: its own, or the data set's where the options say so."""
    if isinstance(options, Fixed) or options.per == "data_set":
        return [data_set_statistics(images, options)] * len(images)
    return [statistics(image, options) for image in images]
