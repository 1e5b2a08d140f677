"""From labels to channels: what a network learns to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from morula.core.errors import OptionError
from morula.core.image_like import ImageLike, spatial_array
from morula.core.label_image import check_labels
from morula.core.options import validated
from morula.core.voxel_size import VoxelSizeLike
from morula.representations import REPRESENTATIONS
from morula.representations.base import Representation

Channels = Sequence[str] | Mapping[str, Mapping[str, object] | None] | str
"""Codes or full names, or a mapping from them to options."""


def encode(
    labels: ImageLike, channels: Channels, options: Mapping[str, Mapping[str, object]] | None = None, voxel_size: VoxelSizeLike = None
) -> np.ndarray:
    """Channels that a network learns to predict, from a label image.

    Args:
        labels: ids (Z)YX, an array or `Image`; 0 is background.
        channels: codes such as ``["F", "C", "Db"]`` or full names (``"foreground"``), or a mapping to options,
            ``{"F": {"erosion": 1}, "C": {}}``.
        options: options by code, for example ``{"Db": {"norm": False}}``.
        voxel_size: edge lengths of a voxel; those of the image where left out, else 1.

    Returns:
        Channels C(Z)YX float32, in the order given.

    Raises:
        DataError: for labels that are not whole, non-negative ids.
        OptionError: for an option that is unknown or breaks its rule.
        UnknownNameError: for an unknown channel.

    Examples:
        >>> encode(np.array([[0, 1, 1, 1, 0]]), ["foreground", "contour"])
        array([[[0., 1., 1., 1., 0.]],
        <BLANKLINE>
               [[1., 1., 0., 1., 1.]]], dtype=float32)
    """
    array, spacing = spatial_array(labels, voxel_size)
    return encode_all(build_channels(channels, options), check_labels(array), spacing)


def encode_all(
    representations: Sequence[Representation], labels: np.ndarray, spacing: Sequence[float], per_object: np.ndarray | None = None
) -> np.ndarray:
    """Channels C(Z)YX float32 of all representations, one after the other, of checked labels (Z)YX. Errors as theirs.

    `per_object` are the labels of the objects that matter, for representations in which every object can be encoded separately.
    """
    parts = [per_object if per_object is not None and representation.per_object else labels for representation in representations]
    # no copy for a single representation
    if len(representations) == 1:
        return representations[0].encode(parts[0], spacing)
    widths = [representation.width(labels.ndim) for representation in representations]
    out = np.empty((sum(widths), *labels.shape), np.float32)
    begin = 0
    for representation, width, part in zip(representations, widths, parts, strict=True):
        representation.encode_into(part, spacing, out[begin : begin + width])
        begin += width
    return out


def build_channels(channels: Channels, options: Mapping[str, Mapping[str, object]] | None = None) -> list[Representation]:
    """Representations by code or full name, with checked options.

    Raises:
        OptionError: for no channel, a channel given twice, options of a channel that is not listed, or options that break a rule.
        UnknownNameError: for an unknown code.

    Examples:
        >>> build_channels(["F", "Db"], {"Db": {"norm": False}})
        [Foreground(), DistanceToBoundary(norm=False)]
    """
    own = _by_code(channels) if isinstance(channels, Mapping) else {}
    stated = _by_code(options or {})
    # a text is one channel; iterating over it would give its letters
    codes = [REPRESENTATIONS.resolve(name) for name in ([channels] if isinstance(channels, str) else channels)]
    # options beside the channels override those that are written with them
    given: dict[str, Mapping[str, object]] = {code: {**(own.get(code) or {}), **(stated.get(code) or {})} for code in codes}
    if not codes:
        raise OptionError("channels.empty", f"must name at least one of {', '.join(REPRESENTATIONS.names)}", key="channels")
    if len(given) != len(codes):
        raise OptionError("channels.duplicate", "must not name a channel twice", key="channels", value=codes)
    surplus = sorted(set(stated) - set(codes))
    if surplus:
        raise OptionError(
            "channels.surplus_options",
            f"are given for {', '.join(surplus)}, which is not among the channels {', '.join(codes)}",
            key="options",
            remedy="Add the channel, or remove its options.",
        )
    return [REPRESENTATIONS.load(code)(validated(REPRESENTATIONS.options(code), given[code], f"channel {code}")) for code in codes]


def _by_code(options: Mapping[str, Mapping[str, object] | None]) -> dict[str, Mapping[str, object] | None]:
    """Options by code, where channels may be given by their full names."""
    return {REPRESENTATIONS.resolve(name): values for name, values in options.items()}
