"""Labels made by a machine to learn from: what it is sure of, the rest left out."""

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
    """What of an earlier stage's result is learned from: its sure objects, and what it calls background. The rest is not scored: objects
    that it is less sure of, and scraps that it dropped."""

    confidence: Share | Literal["auto"] = "auto"
    """Mean probability from which an object is sure. What counts as high hangs on the network: `auto` leaves out those that lie far below
    the others of their image, by more than 1.5 times the distance of the quartiles below the lower one."""
    size_ratio: float | None = Field(3.0, gt=1)
    """An object so many times larger or smaller than the median of its image is not sure: several in one, or a part. Null: any size is."""
    rim: Radius = 0
    """Voxels around objects that are neither learned as object nor as background, of the finest axis, or one number an axis. Where objects
    end is then known less well, and they come out larger: those of mouse embryos by 30 % with a rim of one voxel, by 14 % without."""
    background: Share = 1.0
    """Probability of the foreground up to which a voxel beside the objects counts as background. A network without labels is often sure
    of much more than the objects that are made of it, for example of halos: lower it only if they hold objects that were missed."""
    min_size: int = Field(0, ge=0)
    """Voxels that a sure object has at least."""


def pseudo_labels(
    objects: Objects, foreground: np.ndarray, options: Pseudo | None = None, *, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the sure objects, ids 1..n, and the mask (bool) of what is sure: these objects and the background.

    Args:
        objects: with their confidence; where the mask `growth` is among the intermediates, what it has beside objects is not sure.
        foreground: probability of the inside of objects, (Z)YX.
        options: what counts as sure.
        spacing: edge lengths of a voxel, for the rim; 1 when left out.

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
    if "growth" in objects.intermediates:
        taken |= objects.intermediates["growth"].astype(np.bool_)
    around = dilate_mask(taken, radii(options.rim, (1,) * taken.ndim if spacing is None else spacing))
    return labels, inside | (~around & (foreground <= options.background))


def sure_objects(objects: Objects, options: Pseudo) -> np.ndarray:
    """Which objects are sure (n,) bool.

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
    """The lower quartile less 1.5 times the distance of the quartiles (Tukey 1977): what lies below is far from the rest.

    Examples:
        >>> round(lower_fence(np.array([0.1, 0.8, 0.84, 0.88, 0.92])), 6)
        0.68
    """
    low, high = np.percentile(np.asarray(values, np.float64), (25, 75))
    return float(low - 1.5 * (high - low))
