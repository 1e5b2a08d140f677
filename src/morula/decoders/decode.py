"""From channels to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.options import Options, validated
from morula.core.voxel_size import VoxelSizeLike, spacing_of
from morula.decoders import DECODERS
from morula.decoders.statistics import ChannelStatistics
from morula.decoders.watershed_inputs import rows_of
from morula.labels.objects import Objects
from morula.representations.base import Representation
from morula.representations.encode import Channels, build_channels

__all__ = ["Objects", "build_decoder", "decode", "decode_objects"]


def decode(
    prediction: Any, channels: Channels, process: str = "auto", options: Mapping[str, Any] | None = None, voxel_size: VoxelSizeLike = None
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
    prediction: Any, channels: Channels, process: str = "auto", options: Mapping[str, Any] | None = None, voxel_size: VoxelSizeLike = None
) -> Objects:
    """Objects of predicted channels: labels, a confidence for each, and what the decoder looked at on the way.

    Args:
        prediction: channels C(Z)YX through their activation, an array or `Image`.
        channels: codes in the order of the prediction, or codes with the options that they were made with.
        process: name of the decoder; ``auto`` takes the first that fits the channels.
        options: the decoder's options, for example ``{"seeds": {"F": 0.6, "C": 0.4}}``.
        voxel_size: edge lengths of a voxel; an image's own when left out, else 1.

    Raises:
        DataError: when the prediction does not fit the channels, or holds NaN.
        OptionError: for an option that is unknown or breaks its rule, or channels that the decoder cannot use.
        UnknownNameError: for an unknown decoder or channel.

    Examples:
        >>> from morula.representations.encode import encode
        >>> objects = decode_objects(encode(np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3), ["F", "C"]), ["F", "C"])
        >>> len(objects), objects.confidence
        (2, array([1., 1.], dtype=float32))
    """
    if isinstance(prediction, Image):
        voxel_size = prediction.voxel_size if voxel_size is None else voxel_size
        prediction = prediction.canonical()
    array = np.asarray(prediction, np.float32)
    if array.ndim not in (3, 4) or array.size == 0:
        raise DataError(f"the prediction has shape {array.shape}; channels are CYX or CZYX with at least one voxel.")
    representations = build_channels(channels)
    width = sum(each.width(array.ndim - 1) for each in representations)
    if len(array) != width:
        given = ", ".join(each.code for each in representations)
        raise DataError(
            f"the prediction has {len(array)} channels (shape {array.shape}) but {given} make {width}. Channels are the first axis."
        )
    decoder = build_decoder(representations, process, options)
    rows = rows_of(representations, width)
    parameters = decoder.fit(ChannelStatistics.of(array, [rows[code].start for code in decoder.counted]))
    return decoder.decode(array, parameters, spacing_of(voxel_size, array.ndim - 1))


def build_decoder(
    representations: Sequence[Representation[Any]], process: str | Options | None = "auto", options: Mapping[str, Any] | None = None
) -> Any:
    """The decoder of a name (``auto`` or `None`: the first that accepts the channels), or of options that hold its name as `kind`.

    Raises:
        OptionError: when no decoder, or not the named one, can use the channels.
        UnknownNameError: for an unknown name.
    """
    if isinstance(process, Options):
        return DECODERS.load(process.kind)(process, representations)  # type: ignore[attr-defined]
    name = decoder_name(representations, process)
    return DECODERS.load(name)(validated(DECODERS.options(name), options, f"decoder {name}"), representations)


def decoder_name(representations: Sequence[Representation[Any]], process: str | Options | None = "auto") -> str:
    """Name of a decoder; of the first that accepts the channels where none is named. Errors as in `build_decoder`."""
    if isinstance(process, Options):
        return str(process.kind)  # type: ignore[attr-defined]
    if process is not None and process != "auto":
        return process
    fitting = [name for name in DECODERS.names if DECODERS.load(name).accepts(representations)]
    if not fitting:
        given = ", ".join(each.code for each in representations)
        raise OptionError(f"no decoder makes objects of the channels {given} alone. Add one of F, B, C or Db.")
    return fitting[0]
