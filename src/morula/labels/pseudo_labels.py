"""Pseudo-labels: the confident part of a prediction, to train another network on; the rest is not scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from morula.core.options import Options
from morula.kernels.object_tables import renumber
from morula.labels.morphology import Radius, dilate_mask, radii
from morula.labels.objects import Objects

Share = Annotated[float, Field(ge=0, le=1)]


class Pseudo(Options):
    """Part of an earlier stage's result that is used for training: confident objects, and background. The rest is not scored: less
    confident objects, and fragments that were removed."""

    confidence: Share | Literal["auto"] = "auto"
    """Mean probability above which an object is confident. Typical values depend on the network: `auto` leaves out the outliers of an
    image, more than 1.5 interquartile ranges below the lower quartile."""
    size_ratio: float | None = Field(3.0, gt=1)
    """Objects that are this many times larger or smaller than the median of their image are left out: several in one, or fragments. Null:
    all sizes are used."""
    rim: Radius = 0
    """Width of a rim around objects that is not scored, in voxels of the finest axis, or one number per axis. The boundary is then less
    certain and objects are predicted larger: nuclei of mouse embryos by 30 % with a rim of one voxel, by 14 % without."""
    background: Share = 1.0
    """Foreground probability up to which a voxel outside objects counts as background. Networks trained without labels often give high
    values to halos, too: lower it only if missed objects are to be left out."""
    min_size: int = Field(0, ge=0)
    """Smallest number of voxels of a confident object."""


def pseudo_labels(
    objects: Objects, foreground: np.ndarray, options: Pseudo | None = None, *, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the confident objects, ids 1..n, and the mask (bool) of the voxels to score: these objects and the background.

    Args:
        objects: with their confidence; voxels of the intermediate `growth` outside objects are not scored.
        foreground: probability of the inside of objects, (Z)YX.
        options: what counts as confident.
        spacing: edge lengths of a voxel, for the rim; 1 where left out.

    Examples:
        >>> objects = Objects(np.array([[1, 1, 1, 0, 0, 0, 2, 2, 0, 0]]), np.array([0.95, 0.6], np.float32))
        >>> foreground = np.array([[1, 0.9, 0.9, 0.3, 0.1, 0.1, 0.6, 0.6, 0.9, 0.2]])
        >>> labels, sure = pseudo_labels(objects, foreground, Pseudo(confidence=0.8, rim=1))
        >>> labels.tolist(), sure.astype(int).tolist()
        ([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], [[1, 1, 1, 0, 1, 0, 0, 0, 0, 1]])
    """
    options = options or Pseudo()
    kept = np.concatenate([[False], sure_objects(objects, options)])
    inside = kept[objects.labels]
    labels, _ = renumber(np.where(inside, objects.labels, 0), len(objects))
    taken = objects.labels > 0
    # voxels of removed fragments are not sure to be background
    if "growth" in objects.intermediates:
        taken |= objects.intermediates["growth"].astype(np.bool_)
    # a rim, too, where the boundary is uncertain
    around = dilate_mask(taken, radii(options.rim, (1,) * taken.ndim if spacing is None else spacing))
    return labels, inside | (~around & (foreground <= options.background))


def sure_objects(objects: Objects, options: Pseudo) -> np.ndarray:
    """Which objects are confident, (n,) bool.

    Examples:
        >>> sizes_from_1_to_4 = np.array([[1, 2, 2, 3, 3, 3, 4, 4, 4, 4]])
        >>> sure_objects(Objects(sizes_from_1_to_4, np.array([0.9, 0.9, 0.9, 0.5], np.float32)), Pseudo(size_ratio=2)).tolist()
        [False, True, True, False]
    """
    if not len(objects):
        return np.zeros(0, np.bool_)
    sizes = np.bincount(objects.labels.ravel(), minlength=len(objects) + 1)[1:]
    lowest: float = options.confidence if options.confidence != "auto" else lower_fence(objects.confidence)
    sure = (objects.confidence >= lowest) & (sizes >= options.min_size)
    if options.size_ratio is not None:
        typical = float(np.median(sizes))
        sure &= (sizes * options.size_ratio >= typical) & (sizes <= typical * options.size_ratio)
    return np.asarray(sure)


def lower_fence(values: np.ndarray) -> float:
    """Lower quartile minus 1.5 interquartile ranges (Tukey 1977): lower values are outliers.

    Examples:
        >>> round(lower_fence(np.array([0.1, 0.8, 0.84, 0.88, 0.92])), 6)
        0.68
    """
    low, high = np.percentile(np.asarray(values, np.float64), (25, 75))
    return float(low - 1.5 * (high - low))
