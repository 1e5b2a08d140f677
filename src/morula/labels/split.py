"""Splitting of one object into parts, by a watershed of its depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.errors import OptionError
from morula.labels.distance import distance

_ROUNDS = 50


def split_object(
    mask: np.ndarray, parts: int = 2, *, points: Sequence[Sequence[float]] | None = None, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """The parts of an object, 1..n, 0 outside; cut where the object is narrow between the seeds.

    Without points, the seeds are the centres of the parts into which the voxels fall by their positions (k-means, which starts at the ends
    of the object and is the same every time).

    Args:
        mask: the object (Z)YX, bool.
        parts: number of parts, without points.
        points: one seed per part, in voxels; a point outside takes the nearest voxel of the object.
        spacing: edge lengths of a voxel; 1 where left out.

    Raises:
        OptionError: for fewer than two parts, or more than there are voxels or places of points.

    Examples:
        >>> split_object(np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]], bool)).tolist()
        [[1, 1, 1, 0, 0, 0], [1, 1, 1, 2, 2, 2], [0, 0, 0, 2, 2, 2]]
    """
    from skimage.segmentation import watershed

    lengths = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, np.float64)
    places = np.argwhere(mask)
    count = parts if points is None else len(points)
    wanted = _centres(places * lengths, count) if points is None else np.asarray(points, np.float64).reshape(count, mask.ndim) * lengths
    seeds = {int(((places * lengths - centre) ** 2).sum(axis=1).argmin()) for centre in wanted} if len(places) else set()
    if count < 2 or len(seeds) < count:
        rule = f"must be 2 or more different places in the object, which has {len(places)} voxels"
        key, value = ("parts", parts) if points is None else ("points", count)
        raise OptionError("split.seeds", rule, key=key, value=value, remedy="Give fewer parts, or points further apart.")
    markers = np.zeros(mask.shape, np.int32)
    for number, seed in enumerate(sorted(seeds), start=1):
        markers[tuple(places[seed])] = number
    depth = distance(np.pad(mask.astype(np.uint32), 1), tuple(lengths))[(slice(1, -1),) * mask.ndim]
    return watershed(-depth, markers, mask=mask).astype(np.uint32)


def _centres(places: np.ndarray, count: int) -> np.ndarray:
    """Centres of the clusters of k-means that starts with points far from each other."""
    if len(places) < count:
        return places
    centres = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmax()][None]
    while len(centres) < count:
        centres = np.vstack([centres, places[_squares(places, centres).min(axis=1).argmax()]])
    for _ in range(_ROUNDS):
        nearest = _squares(places, centres).argmin(axis=1)
        sums = np.stack([np.bincount(nearest, column, minlength=count) for column in places.T], axis=1)
        moved = sums / np.maximum(np.bincount(nearest, minlength=count), 1)[:, None]
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def _squares(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((places[:, None] - centres) ** 2).sum(axis=2)
