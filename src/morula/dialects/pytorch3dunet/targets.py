"""What pytorch-3dunet makes of label patches: boundaries, masks and affinities, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Mode = Literal["thick", "inner", "outer"]
_EXACT = 2**24  # whole numbers up to here are exact in float32, which targets are turned to


def boundary(labels: np.ndarray, mode: Mode = "thick") -> np.ndarray:
    """Where a voxel ZYX has a neighbour of another id, across faces and edges, int32.

    ``inner``: those inside objects. ``outer``: those in the background, and where two objects touch (corners count) both sides.

    Examples:
        >>> boundary(np.array([[[0, 0, 1, 1, 1, 2, 2]]]), "inner")
        array([[[0, 0, 1, 0, 1, 1, 0]]], dtype=int32)
    """
    from skimage.segmentation import find_boundaries

    return find_boundaries(labels, connectivity=2, mode=mode).astype(np.int32)


def affinity(labels: np.ndarray, axis: int, offset: int) -> np.ndarray:
    """Where the two voxels `offset` apart along an axis, centred on the voxel, have other ids; ZYX int32. Borders are mirrored.

    Examples:
        >>> affinity(np.array([[[1, 1, 1, 2, 2, 2]]]), 2, 2)
        array([[[0, 0, 1, 1, 0, 0]]], dtype=int32)
    """
    n = labels.shape[axis]
    first = np.arange(n) - offset // 2
    period = 2 * n
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
    """The channel with the label to be ignored put back where it was."""
    return channel if ignore_index is None else np.where(labels == ignore_index, channel.dtype.type(ignore_index), channel)


def appended(labels: np.ndarray, ignore_index: int | None = None) -> np.ndarray:
    """Labels to be carried beside a target; ids too high for float32 are numbered anew, which keeps the objects apart."""
    if labels.size == 0 or int(labels.max()) <= _EXACT:
        return labels
    ids, place = np.unique(labels, return_inverse=True)
    fresh = np.arange(1, len(ids) + 1)
    fresh[ids == 0] = 0
    if ignore_index is not None:
        fresh[ids == ignore_index] = ignore_index
    return fresh[place.reshape(labels.shape)]


def renumbered(labels: np.ndarray, *, connected: bool = True, ignore_label: int | None = None) -> np.ndarray:
    """Consecutive ids, of parts that are connected (corners count) or of the ids as they are. Voxels of `ignore_label` become 0.

    Examples:
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]))
        array([[[1, 1, 0, 2, 3]]])
        >>> renumbered(np.array([[[10, 10, 0, 6, 10]]]), connected=False)
        array([[[2, 2, 0, 1, 2]]])
    """
    if connected:
        from skimage.measure import label

        labels = label(labels, background=ignore_label)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
