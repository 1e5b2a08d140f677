"""What tells right objects from wrong ones besides the decoder's confidence: their neighbours, their shape, the image around them.

Two halves of one nucleus touch each other, two nuclei under one id are no ellipse, and what is no object at all hardly differs from its
surroundings. None of the figures depends on the voxel size, the unit or the offset of intensities, or whether objects are bright or dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from morula.core.image import Image
from morula.core.label_image import read_only
from morula.kernels.geometry import geometry
from morula.measurement.columns import add_intensities, mean_and_spread
from morula.measurement.shape import second_moments

RING = (1, 4)
"""The surroundings of an object: background that is further from it than the first number of voxels, and at most the second."""


def evidence(labels: np.ndarray, image: Image, table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Evidence on each object.

    Args:
        labels: label image (Z)YX.
        image: the image of the same spatial shape.
        table: columns of `morula.measurement.measure.measured_columns` of these labels.

    Returns:
        ``touching``, the share of the faces of an object's voxels against other voxels that lie against another object;
        ``ellipsoid_fit``, its size over that of an ellipse or ellipsoid with the same second moments (1 for these, less for other
        shapes); ``contrast``, its mean intensity minus that of its surroundings over its own standard deviation, in the channel in which
        objects differ most, positive where it differs as most objects of the image do.

    Examples:
        >>> labels = np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 1, 2, 0], [0, 0, 0, 0]])
        >>> table = {"label": np.array([1, 2]), "box_y_start": [1, 1], "box_y_stop": [3, 3], "box_x_start": [1, 2], "box_x_stop": [2, 3]}
        >>> evidence(labels, Image(labels, "YX"), table)["touching"].round(2)
        array([0.33, 0.33])
    """
    return settled(local_evidence(labels, image.canonical(), table))


def local_evidence(labels: np.ndarray, channels: np.ndarray, table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The part of `evidence` for which the surroundings of an object suffice, so that an image can be measured part by part.

    As `evidence`, for the image as C(Z)YX; ``contrast`` is (rows, C), the differences in each channel, NaN without surroundings.
    """
    ids = np.asarray(table["label"], np.intp)
    if labels.ndim == 3 and len(labels) == 1 and channels.ndim == 4:  # measured in 2D
        labels, channels = labels[0], channels[:, 0]
    return {
        "touching": _touching(labels)[ids],
        "ellipsoid_fit": _ellipsoid_fit(labels)[ids],
        "contrast": _contrast(labels, channels)[ids],
    }


def settled(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`evidence` from the `local_evidence` on all objects of an image."""
    typical = np.array([np.median(column[known]) if (known := np.isfinite(column)).any() else 0.0 for column in found["contrast"].T])
    best = int(np.abs(typical).argmax())
    # an object without surroundings differs from them as others do
    contrast = np.where(np.isfinite(column := found["contrast"][:, best]), column, typical[best])
    return {**found, "contrast": contrast * (1 if typical[best] >= 0 else -1)}


def _touching(labels: np.ndarray) -> np.ndarray:
    """Share of faces against other objects, by id."""
    counts = np.zeros((2, int(labels.max(initial=0)) + 1))
    for axis in range(labels.ndim):
        add_faces(labels, axis, counts)
    return share_touching(counts)


def add_faces(labels: np.ndarray, axis: int, counts: np.ndarray) -> None:
    """Add the faces across an axis between voxels of different ids to `counts` (2, rows): all, and those between two objects."""
    lines, n = np.moveaxis(labels, axis, 0), counts.shape[1]
    differ = lines[1:] != lines[:-1]
    sides = lines[1:][differ], lines[:-1][differ]
    both = (sides[0] > 0) & (sides[1] > 0)
    for side in sides:
        counts[0] += np.bincount(side, minlength=n)
        counts[1] += np.bincount(side[both], minlength=n)


def share_touching(counts: np.ndarray) -> np.ndarray:
    """Evidence ``touching`` from the counts of `add_faces` across all axes."""
    return counts[1] / np.maximum(counts[0], 1)


def _ellipsoid_fit(labels: np.ndarray) -> np.ndarray:
    """Size over that of the ellipsoid of equal second moments, by id."""
    found = geometry(labels)
    return ellipsoid_fit(found.sizes, second_moments(read_only(labels), found.centroids))


def ellipsoid_fit(sizes: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Evidence ``ellipsoid_fit`` from sizes (rows,) and `morula.measurement.shape.second_moments`."""
    ndim = moments.shape[1]
    unit = math.pi if ndim == 2 else 4 * math.pi / 3
    return sizes / (unit * np.sqrt(np.maximum(np.linalg.det((ndim + 2) * moments), 1e-12)))


def _contrast(labels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Difference from the surroundings in standard deviations, by id and channel; NaN where there are none."""
    stats = np.zeros((2, len(channels), int(labels.max(initial=0)) + 1, 6))
    around = surroundings(labels)
    for number, channel in enumerate(channels):
        values = np.asarray(channel, np.float64)
        add_intensities(read_only(labels), values, stats[0, number])
        add_intensities(read_only(around), values, stats[1, number])
    return contrasts(*map(list, stats))


def contrasts(inside: Sequence[np.ndarray], around: Sequence[np.ndarray]) -> np.ndarray:
    """Evidence ``contrast`` (rows, C) from `morula.measurement.columns.add_intensities` of objects and of their surroundings."""
    found = np.empty((len(inside[0]), len(inside)))
    for column, own, other in zip(found.T, inside, around, strict=True):
        (mean, spread), (outside, _) = mean_and_spread(own), mean_and_spread(other)
        least = 1e-9 * np.maximum(np.maximum(np.abs(mean), np.abs(outside)), 1e-30)
        column[:] = np.where(other[:, 0] == 0, np.nan, (mean - outside) / np.maximum(spread, least))
    return found


def surroundings(labels: np.ndarray) -> np.ndarray:
    """The id of the next object for background voxels at the distances of `RING` along the axes; 0 elsewhere."""
    grown, first = labels, labels
    for step in range(1, RING[1] + 1):
        grown = _grown(grown)
        first = grown if step == RING[0] else first
    return np.where(first > 0, 0, grown)


def _grown(labels: np.ndarray) -> np.ndarray:
    """Labels grown into the background by one voxel along each axis; where two meet, the first in the order of the axes stays."""
    grown = labels.copy()
    for axis in range(labels.ndim):
        target, source = np.moveaxis(grown, axis, 0), np.moveaxis(labels, axis, 0)
        for to, of in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            np.copyto(target[to], source[of], where=target[to] == 0)
    return grown
