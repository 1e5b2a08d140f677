"""M: the inside of objects together with their contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from morula.labels.boundaries import Mode, boundaries
from morula.representations.base import Representation
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel M."""

    kind: Literal["M"] = "M"
    """Name of the variant."""

    mode: Mode = "thick"
    """Contour that is added to the inside, as in the channel C."""


class WithContour(Representation[Options]):
    """1 inside objects and on their contours: the objects and, with a thick contour, one voxel around them.

    A channel of earlier work (CartoCell), learned together with F and C.

    Examples:
        >>> WithContour().encode(np.array([[0, 0, 1, 1, 0]], np.uint32), (1, 1))
        array([[[0., 1., 1., 1., 1.]]], dtype=float32)
    """

    code = "M"
    foreground_mask = True
    options_class = Options

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        return np.maximum(boundaries(labels, self.options.mode), labels > 0)[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """One voxel."""
        return (1,) * len(spacing)
