"""Targets of pytorch-3dunet from label patches: boundaries, masks and affinities, one channel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from skimage.measure import label
from skimage.segmentation import find_boundaries

from morula.core.errors import DataError
from morula.data.normalise import MinMax, PatchNormalisation
from morula.dialects.pytorch3dunet.transforms import Transform, parse, values

Mode = Literal["thick", "inner", "outer"]
_EXACT = 2**24  # integers up to here are exact in float32, the type of targets


def boundary(labels: np.ndarray, mode: Mode = "thick") -> np.ndarray:
    """Voxels ZYX with a neighbour of another id across a face or an edge, int32.

    ``inner``: only voxels in objects. ``outer``: only voxels in the background, and both sides where two objects touch (corners included).

    Examples:
        >>> boundary(np.array([[[0, 0, 1, 1, 1, 2, 2]]]), "inner")
        array([[[0, 0, 1, 0, 1, 1, 0]]], dtype=int32)
    """
    return find_boundaries(labels, connectivity=2, mode=mode).astype(np.int32)


def affinity(labels: np.ndarray, axis: int, offset: int) -> np.ndarray:
    """Voxels ZYX at which the ids of two voxels `offset` apart along an axis differ, int32.

    The pair is centred on the voxel, and borders are mirrored.

    Examples:
        >>> affinity(np.array([[[1, 1, 1, 2, 2, 2]]]), 2, 2)
        array([[[0, 0, 1, 1, 0, 0]]], dtype=int32)
    """
    n = labels.shape[axis]
    first = np.arange(n) - offset // 2
    period = 2 * n  # positions beyond the border are reflected, with the border voxel repeated: 2 1 0 | 0 1 2
    folded = [np.where(place < n, place, period - 1 - place) for place in (first % period, (first + offset) % period)]
    low, high = (labels.take(place, axis=axis) for place in folded)
    return (low != high).astype(np.int32)


def affinities(labels: np.ndarray, offsets: Sequence[int], z_offsets: Sequence[int]) -> list[np.ndarray]:
    """An affinity along x, y and z for each offset."""
    return [
        affinity(labels, axis, distance)
        for plane, depth in zip(offsets, z_offsets, strict=True)
        for axis, distance in ((2, plane), (1, plane), (0, depth))
    ]


def restored(channel: np.ndarray, labels: np.ndarray, ignore_index: int | None) -> np.ndarray:
    """The channel with the ignored label at the voxels that had it."""
    # losses leave out voxels whose target has this value
    return channel if ignore_index is None else np.where(labels == ignore_index, channel.dtype.type(ignore_index), channel)


def appended(labels: np.ndarray, ignore_index: int | None = None) -> np.ndarray:
    """Labels as a channel of a target. Ids that are too high for float32 are renumbered, so that no two objects become one."""
    if labels.size == 0 or int(labels.max()) <= _EXACT:
        return labels
    ids, place = np.unique(labels, return_inverse=True)
    new = np.arange(1, len(ids) + 1)
    # background stays background
    new[ids == 0] = 0
    if ignore_index is not None:
        new[ids == ignore_index] = ignore_index
    return new[place.reshape(labels.shape)]


def renumbered(labels: np.ndarray, *, connected: bool = True, ignore_label: int | None = None) -> np.ndarray:
    """Consecutive ids of connected components (across corners), or of the ids as they are. Voxels of `ignore_label` become 0.

    Examples:
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]))
        array([[[1, 1, 0, 2, 3]]])
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]), connected=False)
        array([[[2, 2, 0, 1, 2]]])
    """
    if connected:
        labels = label(labels, background=ignore_label)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


# --- lists -------------------------------------------------------------------------------------------------------------------------------


def encoded(transforms: Sequence[Transform], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels ZYX or CZYX after the transforms of a list that do not move voxels.

    Args:
        transforms: the list.
        labels: of a patch, after flips, rotations and deformations.
        rng: for random transforms.

    Raises:
        DataError: for labels with channels where a transform needs one label image.
    """
    for each in transforms:
        if each.name in ("ToTensor", "LabelToTensor"):
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


def _typed(each: Transform, labels: np.ndarray) -> np.ndarray:
    if each.name == "LabelToTensor":
        return labels.astype(np.int64)
    if each.expand_dims and labels.ndim == 3:
        labels = labels[None]
    if each.normalize:
        labels = PatchNormalisation((), (), options=MinMax(channels="together")).apply(labels)
    # losses need float32 or int64, and torch has the other types under several names
    names = {"float": "float32", "float64": "float32", "long": "int64", "int": "int64", "int32": "int64"}
    return labels.astype(names.get(each.dtype, each.dtype))


def _labelled(each: Transform, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if each.name == "RgbToLabel":
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
    if each.name == "Relabel":
        new = renumbered(labels, connected=each.run_cc, ignore_label=each.ignore_label)
        return np.stack([new, labels]) if each.append_original else new
    channels = _channels(each, labels, rng)
    if getattr(each, "append_label", False):
        channels.append(appended(labels, getattr(each, "ignore_index", None)))
    return np.stack(channels)


def _channels(each: Transform, labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The channels that a transform makes from one label image, before the labels are appended."""
    if each.name == "BlobsToMask":
        return _blob_channels(each, labels)
    pairs: list[np.ndarray] = []
    match each.name:
        case "LabelToAffinities":
            pairs = affinities(labels, each.offsets, each.z_offsets or each.offsets)
            if each.aggregate_affinities:
                # x, y and z of each distance
                pairs = [np.maximum.reduce(pairs[i : i + 3]) for i in range(0, len(pairs), 3)]
        case "LabelToZAffinities":
            pairs = [affinity(labels, 0, offset) for offset in each.offsets]
        case "RandomLabelToAffinities":
            # voxels are usually longer along z, so distances are shorter there
            offset, axis = int(rng.integers(1, each.max_offset + 1)), int(rng.integers(3))
            pairs = [affinity(labels, axis, max(1, offset // each.z_offset_scale) if axis == 0 else offset)]
        case "LabelToBoundaryAndAffinities" | "LabelToMaskAndAffinities":
            pairs = affinities(labels, each.xy_offsets, each.z_offsets)
    channels = [restored(channel, labels, each.ignore_index) for channel in pairs]
    if each.name == "LabelToMaskAndAffinities":
        return [(labels > each.background).astype(np.int32), *channels]
    return [*_boundary_channels(each, labels), *channels] if hasattr(each, "mode") else channels


def _boundary_channels(each: Transform, labels: np.ndarray) -> list[np.ndarray]:
    channels = [(labels > 0).astype(np.int32)] if each.foreground else []
    return [restored(channel, labels, each.ignore_index) for channel in [*channels, boundary(labels, each.mode)]]


def _blob_channels(each: Transform, labels: np.ndarray) -> list[np.ndarray]:
    mask = (labels > 0).astype(np.int32)
    if not each.boundary:
        return [mask]
    outer = boundary(labels, "outer")
    # class 2 replaces foreground and background at the boundary
    return [np.where(outer > 0, 2, mask)] if each.cross_entropy else [mask, outer]


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
    return encoded(parse(transforms), label, np.random.default_rng(seed))
