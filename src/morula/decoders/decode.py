"""From channels to labels: choose the decoder, fit its parameters, decode everything at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image_like import ImageLike, image_of
from morula.core.options import validated
from morula.core.voxel_size import VoxelSizeLike, spacing_of
from morula.decoders import DECODERS
from morula.decoders.base import Decoder, Representations, codes_of
from morula.decoders.options import DecoderOptions
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import channel_slices
from morula.labels.objects import Objects
from morula.representations.encode import Channels, build_channels

__all__ = ["Objects", "build_decoder", "decode", "decode_objects"]

AnyDecoder = Decoder[Any, Any]


def decode(
    prediction: ImageLike,
    channels: Channels,
    process: str = "auto",
    options: Mapping[str, object] | None = None,
    voxel_size: VoxelSizeLike = None,
) -> np.ndarray:
    """Labels (Z)YX of predicted channels, with ids 1..n in the smallest unsigned type that holds them (uint16 at least).

    Arguments and errors as in `decode_objects`.

    Examples:
        >>> from morula.representations.encode import encode
        >>> labels = np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3)
        >>> decode(encode(labels, ["F", "C"]), ["F", "C"])[1]
        array([0, 1, 1, 1, 2, 2, 2, 0], dtype=uint16)
    """
    return decode_objects(prediction, channels, process, options, voxel_size).labels


def decode_objects(
    prediction: ImageLike,
    channels: Channels,
    process: str = "auto",
    options: Mapping[str, object] | None = None,
    voxel_size: VoxelSizeLike = None,
) -> Objects:
    """Objects of predicted channels: labels, a confidence per object, and the decoder's intermediate images.

    Args:
        prediction: channels C(Z)YX through their activation, an array or `Image`.
        channels: codes or full names in the order of the prediction, or a mapping from them to the options that they were encoded with.
        process: name of the decoder; ``auto`` chooses the first one that accepts the channels.
        options: the decoder's options, for example ``{"seeds": {"F": 0.6, "C": 0.4}}``.
        voxel_size: edge lengths of a voxel; those of the image where left out, else 1.

    Raises:
        DataError: when the prediction does not fit the channels, or contains NaN.
        OptionError: for an option that is unknown or breaks its rule, or channels that the decoder cannot use.
        UnknownNameError: for an unknown decoder or channel.

    Examples:
        >>> from morula.representations.encode import encode
        >>> objects = decode_objects(encode(np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3), ["F", "C"]), ["F", "C"])
        >>> len(objects), objects.confidence
        (2, array([1., 1.], dtype=float32))
    """
    image = image_of(prediction, guess=_axes_of_prediction, key="prediction")
    voxel_size = image.voxel_size if voxel_size is None else voxel_size
    # float32 throughout: kernels are compiled for one type
    array = np.asarray(image.canonical(), np.float32)
    _axes_of_prediction(array.shape)
    representations = build_channels(channels)
    width = sum(representation.width(array.ndim - 1) for representation in representations)
    if len(array) != width:
        raise DataError(
            "prediction.channel_count",
            f"{codes_of(representations)} have {width} channels",
            key="prediction",
            value=array.shape,
            remedy="The first axis is the channels.",
        )
    decoder = build_decoder(representations, process, options)
    # histograms of the channels that the decoder reads only: each costs a pass over the channel
    rows = channel_slices(representations, width)
    parameters = decoder.fit(ChannelStatistics.of(array, [rows[code].start for code in decoder.counted]))
    return decoder.decode(array, parameters, spacing_of(voxel_size, array.ndim - 1))


def _axes_of_prediction(shape: tuple[int, ...]) -> str:
    if len(shape) not in (3, 4) or 0 in shape:
        rule = "must have the axes CYX or CZYX, with at least one voxel"
        raise DataError("prediction.shape", rule, key="prediction", value=shape)
    return "CZYX" if len(shape) == 4 else "CYX"


def build_decoder(
    representations: Representations, process: str | DecoderOptions | None = "auto", options: Mapping[str, object] | None = None
) -> AnyDecoder:
    """The decoder of a name (``auto`` or `None`: the first that accepts the channels), or of options that hold its name as `kind`.

    Raises:
        OptionError: when no decoder, or not the named one, can use the channels.
        UnknownNameError: for an unknown name.

    Examples:
        >>> build_decoder(build_channels(["F", "G"])).name
        'flows'
    """
    name = decoder_name(representations, process)
    implementation: type[AnyDecoder] = DECODERS.load(name)
    # options that were validated already, for example those of a job
    if isinstance(process, DecoderOptions):
        return implementation(process, representations)
    return implementation(validated(DECODERS.options(name), options, f"decoder {name}"), representations)


def decoder_name(representations: Representations, process: str | DecoderOptions | None = "auto") -> str:
    """Name of a decoder; of the first that accepts the channels where none is named. Errors as in `build_decoder`."""
    if isinstance(process, DecoderOptions):
        return process.kind
    if process is not None and process != "auto":
        return process
    fitting = next((name for name in DECODERS.names if DECODERS.load(name).accepts(representations)), None)
    if fitting is None:
        raise OptionError(
            "decoder.none_fits",
            "no decoder makes objects of these channels",
            key="channels",
            value=codes_of(representations),
            remedy="Add one of F, B, C or Db.",
        )
    return fitting
