"""What tells right objects from wrong ones besides the decoder's confidence: their neighbours, their shape, the image around them.

Two halves of one nucleus touch each other, two nuclei under one id are no ellipse, and what is no object at all hardly differs from its
surroundings. None of the figures depends on the voxel size, the unit or the offset of intensities, or whether objects are bright or dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from morula.core.image import Image

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
    ids, channels = np.asarray(table["label"], np.intp), image.canonical()
    if labels.ndim == 3 and len(labels) == 1 and channels.ndim == 4:  # measured in 2D
        labels, channels = labels[0], channels[:, 0]
    return {
        "touching": _touching(labels)[ids],
        "ellipsoid_fit": _ellipsoid_fit(labels, table),
        "contrast": _contrast(labels, channels)[ids],
    }


def _touching(labels: np.ndarray) -> np.ndarray:
    """Share of faces against other objects, by id."""
    n = int(labels.max(initial=0)) + 1
    faces, touching = np.zeros(n), np.zeros(n)
    for axis in range(labels.ndim):
        lines = np.moveaxis(labels, axis, 0)
        differ = lines[1:] != lines[:-1]
        sides = lines[1:][differ], lines[:-1][differ]
        both = (sides[0] > 0) & (sides[1] > 0)
        for side in sides:
            faces += np.bincount(side, minlength=n)
            touching += np.bincount(side[both], minlength=n)
    return touching / np.maximum(faces, 1)


def _ellipsoid_fit(labels: np.ndarray, table: Mapping[str, np.ndarray]) -> np.ndarray:
    """Size over that of the ellipsoid of equal second moments, for each row of the table."""
    ndim = labels.ndim
    unit = math.pi if ndim == 2 else 4 * math.pi / 3
    boxes = [[np.asarray(table[f"box_{axis}_{end}"]) for axis in "zyx"[-ndim:]] for end in ("start", "stop")]
    fits = np.ones(len(table["label"]))
    for row, label in enumerate(table["label"]):
        box = tuple(slice(int(start[row]), int(stop[row])) for start, stop in zip(*boxes, strict=True))
        places = np.stack(np.nonzero(labels[box] == label)).astype(np.float64)
        # a voxel is a cube, not a point: its own second moment is 1/12
        moments = np.atleast_2d(np.cov(places, bias=True)) + np.eye(ndim) / 12
        fits[row] = places.shape[1] / (unit * math.sqrt(max(np.linalg.det((ndim + 2) * moments), 1e-12)))
    return fits


def _contrast(labels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Difference from the surroundings in standard deviations, by id; 0 where there is no background."""
    n = int(labels.max(initial=0)) + 1
    surroundings = _surroundings(labels)
    inside, around, background = labels > 0, surroundings > 0, labels == 0
    present = np.unique(labels[inside])
    best, largest = np.zeros(n), -1.0
    for channel in channels:
        values = np.asarray(channel, np.float64)
        mean, spread = _mean_and_spread(labels[inside], values[inside], n)
        outside, _ = _mean_and_spread(surroundings[around], values[around], n)
        missing = np.bincount(surroundings[around], minlength=n) == 0
        outside[missing] = np.median(values[background]) if background.any() else mean[missing]
        found = (mean - outside) / np.maximum(spread, 1e-9 * max(float(np.ptp(values)), 1e-30))
        typical = float(np.median(found[present])) if len(present) else 0.0
        if abs(typical) > largest:
            best, largest = found * (1 if typical >= 0 else -1), abs(typical)
    return best


def _mean_and_spread(ids: np.ndarray, values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    count = np.maximum(np.bincount(ids, minlength=n), 1)
    mean = np.bincount(ids, values, minlength=n) / count
    # of differences from the mean, so that large values keep their digits
    return mean, np.sqrt(np.bincount(ids, (values - mean[ids]) ** 2, minlength=n) / count)


def _surroundings(labels: np.ndarray) -> np.ndarray:
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
