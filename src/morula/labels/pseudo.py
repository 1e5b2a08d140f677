"""Labels made by a machine to learn from: what it is sure of, the rest left out."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from morula.core.options import Options
from morula.labels.objects import Objects, numbered


class Pseudo(Options):
    """What of an earlier stage's result is learned from: objects and background that it is sure of; voxels in between are not scored."""

    confidence: float = Field(0.8, ge=0, le=1)
    """Mean probability from which an object is taken; others are left out, with the voxels around them that are no sure background."""
    background: float = Field(0.1, ge=0, le=1)
    """Probability of the foreground below which a voxel is sure background."""
    min_size: int = Field(0, ge=0)
    """Voxels that a sure object has at least."""


def pseudo_labels(objects: Objects, foreground: np.ndarray, options: Pseudo | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the sure objects, ids 1..n, and the mask (bool) of what is sure: these objects and the background.

    Args:
        objects: with their confidence.
        foreground: probability of the inside of objects, (Z)YX.
        options: what counts as sure.

    Examples:
        >>> objects = Objects(np.array([[1, 1, 0, 2, 0]]), np.array([0.95, 0.6], np.float32))
        >>> labels, sure = pseudo_labels(objects, np.array([[1, 0.9, 0.3, 0.6, 0.02]]))
        >>> labels, sure
        (array([[1, 1, 0, 0, 0]], dtype=uint16), array([[ True,  True, False, False,  True]]))
    """
    options = options or Pseudo()
    sizes = np.bincount(objects.labels.ravel(), minlength=len(objects) + 1)[1:]
    kept = np.concatenate([[False], (objects.confidence >= options.confidence) & (sizes >= options.min_size)])
    inside = kept[objects.labels]
    labels, _ = numbered(np.where(inside, objects.labels, 0), len(objects))
    return labels, inside | ((foreground < options.background) & (objects.labels == 0))
