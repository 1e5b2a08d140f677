"""The result of a decoder: labels, confidences and intermediate images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from morula.kernels.object_tables import first_voxels

DECODED = "decoded"
"""Name among the intermediates of the labels before refinement."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Labels (Z)YX with ids 1..n, the confidence (n,) float32 per id, and the decoder's intermediate images by name.

    Where classes are predicted, `classes` (n,) holds the class of each id from 1 on, `class_confidence` (n,) the share of its voxels that
    agree.

    Examples:
        >>> len(Objects(np.array([[0, 1, 2]]), np.array([0.9, 0.8], np.float32)))
        2
    """

    labels: np.ndarray
    confidence: np.ndarray
    intermediates: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: np.ndarray | None = None
    class_confidence: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.confidence)


def by_first_voxel(objects: Objects) -> Objects:
    """The objects with ids in the order of their first voxel (C order), which does not depend on how they were found.

    The labels before refinement get an order of their own.

    Examples:
        >>> moved = by_first_voxel(Objects(np.array([[0, 2, 1]], np.uint16), np.array([0.9, 0.8], np.float32)))
        >>> moved.labels.tolist(), moved.confidence.tolist()
        ([[0, 1, 2]], [0.800000011920929, 0.8999999761581421])
    """
    labels, order = _ordered(objects.labels, len(objects))
    inner = dict(objects.intermediates)
    if DECODED in inner:
        inner[DECODED] = _ordered(inner[DECODED], int(inner[DECODED].max(initial=0)))[0]
    return Objects(
        labels,
        objects.confidence[order],
        inner,
        None if objects.classes is None else objects.classes[order],
        None if objects.class_confidence is None else objects.class_confidence[order],
    )


def _ordered(labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with ids in the order of the first voxels, and the former place of each id."""
    order = np.argsort(first_voxels(labels, n)[0][1:], kind="stable")
    if (np.diff(order) > 0).all():
        return labels, order
    table = np.zeros(n + 1, labels.dtype)
    table[order + 1] = np.arange(1, n + 1)
    return table[labels], order
