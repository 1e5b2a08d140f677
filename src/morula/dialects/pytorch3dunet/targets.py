"""Targets of pytorch-3dunet from label patches: boundaries, masks and affinities, one channel each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from skimage.measure import label
from skimage.segmentation import find_boundaries

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
