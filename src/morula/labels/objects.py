"""The result of a decoder: labels, confidences and intermediate images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

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
