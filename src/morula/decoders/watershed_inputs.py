"""Images that the watershed reads: channels as they are, or computed from several channels that belong together.

* Offsets to the centre (H, V and Z) become one image that is high where objects end: far from the centre, and where the offsets of
  neighbouring voxels point away from each other.
* Affinities (A) of direct neighbours become two images: the highest affinity of a voxel is a foreground probability, 1 minus the lowest
  one is a boundary. Those of longer distances are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from morula.core.errors import DataError, OptionError
from morula.decoders.affinities import affinity_extremes
from morula.representations.base import Representation
from morula.representations.evidence import Boundary, Depth, Evidence

OFFSETS, AFFINITY_FOREGROUND, AFFINITY_BOUNDARY = "offsets", "affinity_foreground", "affinity_boundary"
Representations = Sequence[Representation[Any]]


class Derived(Evidence):
    """An image with values from 0 to 1 that is computed from several channels."""

    def __init__(
        self,
        code: str,
        *,
        depth: Depth | None = None,
        boundary_evidence: Boundary | None = None,
        foreground_probability: bool = False,
        inverted: bool = False,
    ) -> None:
        self.code, self.depth, self.boundary_evidence = code, depth, boundary_evidence
        self.foreground_probability, self.inverted = foreground_probability, inverted


def evidence_by_name(representations: Representations) -> dict[str, Evidence]:
    """What each image says, by its name: a channel's code, or the name of a derived image."""
    evidence: dict[str, Evidence] = {
        channel.code: channel for channel in representations if channel.centre_offset_axis is None and not channel.affinities
    }
    if any(channel.centre_offset_axis is not None for channel in representations):
        evidence[OFFSETS] = Derived(OFFSETS, depth="centre", inverted=True)
    if any(channel.affinities and channel.direct_affinities for channel in representations):
        evidence[AFFINITY_FOREGROUND] = Derived(AFFINITY_FOREGROUND, foreground_probability=True)
        evidence[AFFINITY_BOUNDARY] = Derived(AFFINITY_BOUNDARY, boundary_evidence="outline", inverted=True)
    return evidence


def image_names(code: str, representations: Representations) -> list[str]:
    """Names of the images that a channel's code stands for in the options: its own, or those derived from it."""
    channel = next((channel for channel in representations if channel.code == code), None)
    if channel is not None and channel.centre_offset_axis is not None:
        return [OFFSETS]
    derived = channel is not None and channel.affinities and channel.direct_affinities
    return [AFFINITY_FOREGROUND, AFFINITY_BOUNDARY] if derived else [code]


def channel_slices(representations: Representations, count: int) -> dict[str, slice]:
    """Place of each representation's channels among `count` predicted ones, by code.

    Raises:
        DataError: when the representations have more or fewer channels, in 2D and in 3D.
    """
    widths: list[int] = []
    for ndim in (2, 3):
        try:
            widths = [channel.width(ndim) for channel in representations]
        except OptionError:
            continue  # offsets or bandwidths for images with the other number of axes
        if sum(widths) == count:
            stops = np.cumsum(widths).tolist()
            return {channel.code: slice(stop - width, stop) for channel, stop, width in zip(representations, stops, widths, strict=True)}
    expected = ", ".join(channel.code for channel in representations)
    raise DataError(
        "prediction.channel_count",
        f"the prediction has {count} channels, but {expected} have {sum(widths)}",
        key="prediction",
        value=count,
        remedy="Give C(Z)YX.",
    )


def input_images(representations: Representations, prediction: np.ndarray, largest: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Images (Z)YX float32 by name.

    Args:
        representations: in the order of the prediction.
        prediction: channels C(Z)YX float32.
        largest: largest magnitude of each channel in the whole image, the scale of offsets that are lengths.
    """
    rows = channel_slices(representations, len(prediction))
    images: dict[str, np.ndarray] = {}
    offsets: list[tuple[int, np.ndarray, float]] = []
    for channel in representations:
        values = prediction[rows[channel.code]]
        steps = channel.affinity_offsets(prediction.ndim - 1)
        if channel.centre_offset_axis is not None:
            if -channel.centre_offset_axis <= prediction.ndim - 1:  # a 2D image has no offsets along z
                scale = 1.0 if channel.normalised_offset else max(largest[channel.code], 1e-6)
                offsets.append((channel.centre_offset_axis, values[0], scale))
        elif steps is not None:
            near = [number for number, step in enumerate(steps) if max(map(abs, step)) == 1]
            if near:
                pairs, direct = channel.pair_affinities(values)[near], [steps[number] for number in near]
                images[AFFINITY_FOREGROUND], images[AFFINITY_BOUNDARY] = affinity_extremes(pairs, direct)
        else:
            images[channel.code] = values[0]
    if offsets:
        images[OFFSETS] = object_ends(offsets)
    return images


def object_ends(offsets: Sequence[tuple[int, np.ndarray, float]]) -> np.ndarray:
    """How near the end of its object each voxel is, 0 at the centre and 1 at the boundary, from offsets to the centre along some axes.

    Two facts are combined. Offsets are long far from the centre. Along their own axis they fall inside an object, but jump up where one
    object ends and the next begins::

        offset    +1 \\        |\\
                   0  \\       | \\          rise between two objects: boundary
                  -1   \\______|  \\

    A network's blurred offsets pass through 0 at that jump, as they do at a centre; the rise distinguishes the two cases.

    Args:
        offsets: per axis its number (counted from the last), the image (Z)YX, and the length that stands for 1.
    """
    no_rise: np.ndarray | None = None
    length = np.zeros(offsets[0][1].shape, np.float32)
    for axis, values, scale in offsets:
        offset = values if scale == 1 else values / np.float32(scale)
        np.maximum(length, np.abs(offset), out=length)
        rise = np.gradient(offset, axis=axis) if offset.shape[axis] > 1 else np.zeros_like(offset)
        np.subtract(1, np.clip(rise, 0, 1, out=rise), out=rise)
        no_rise = rise if no_rise is None else np.multiply(no_rise, rise, out=no_rise)
    assert no_rise is not None
    # nearness to the centre, cancelled where offsets rise; computed in place since each of these is as large as a channel
    np.clip(np.subtract(1, length, out=length), 0, 1, out=length)
    length *= no_rise
    return np.subtract(1, length, out=length)
