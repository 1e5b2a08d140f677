"""Reorientation of channels that belong together: offsets are exchanged where axes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from morula.core.orientation import Array, Orientation, orientations
from morula.representations.base import Representation

Channels = Sequence[Representation[Any]]


def reorient(representations: Channels, array: Array, orientation: Orientation) -> Array:
    """Channels (..., C, (Z)YX), NumPy or torch, of the reoriented image.

    Each representation reorients its own channels. Channels of one axis (H, V and Z) take the values of the axis that is moved there.

    Examples:
        >>> import numpy as np
        >>> from morula.representations.encode import build_channels
        >>> turn = Orientation((1, 0), (False, True))
        >>> offsets = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 2.0)])
        >>> reorient(build_channels(["H", "V"]), offsets, turn)[:, 0, 0]
        array([-2.,  1.])
    """
    lead = array.ndim - orientation.ndim - 1  # type: ignore[attr-defined]
    before = (slice(None),) * lead
    spans, start = [], 0
    for representation in representations:
        spans.append((*before, slice(start, start + representation.width(orientation.ndim))))
        start += representation.width(orientation.ndim)
    result: Any = orientation.apply(array) * 1  # type: ignore[operator] # a copy, of NumPy's arrays and torch's alike
    for representation, span in zip(representations, spans, strict=True):
        # a channel of one axis comes from the channel of the axis that is moved there
        axis = representation.centre_offset_axis
        source = None if axis is None else _source(representations, representation, axis, orientation)
        result[span] = representation.reorient(array[span if source is None else spans[source]], orientation)  # type: ignore[index]
    return result


def _source(representations: Channels, representation: Representation, axis: int, orientation: Orientation) -> int | None:
    """Index of the representation whose axis is moved to the `axis` of this one."""
    if -axis <= orientation.ndim:
        axis = orientation.permutation[axis] - orientation.ndim
    for index, other in enumerate(representations):
        if other.centre_offset_axis == axis and _settings(other) == _settings(representation):
            return index
    return None


def _settings(representation: Representation) -> dict[str, object]:
    """Options without the channel's name: H and V exchange their values only when both are encoded in the same way."""
    return representation.options.model_dump(exclude={"kind"})


def common_orientations(representations: Channels, spacing: Sequence[float]) -> list[Orientation]:
    """Orientations that all of the channels allow, the identity first.

    Examples:
        >>> from morula.representations.encode import build_channels
        >>> [len(common_orientations(build_channels(codes), (1, 1))) for codes in (["F"], ["F", "H"], ["F", "V", "H"])]
        [8, 4, 8]
    """
    found = orientations(spacing)
    for representation in representations:
        axis = representation.centre_offset_axis
        if axis is not None:
            # with only one of H and V no exchange of y and x is possible: the values of the other one are not there
            found = [orientation for orientation in found if _source(representations, representation, axis, orientation) is not None]
        else:
            own = representation.orientations(spacing)
            found = [orientation for orientation in found if orientation in own]
    return found
