"""Which objects are measured in parts of an image, and what is measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.voxel_size import VoxelSizeLike
from morula.measurement.shape import Surface


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects 1..n: `voxels` (n,), and boxes `starts` and `stops` (n, ndim); start <= index < stop."""

    voxels: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    def too_large(self, room: int) -> np.ndarray:
        """Whether the box of each object has more than `room` voxels."""
        return (self.stops - self.starts).prod(axis=1) > room


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured.

    Attributes:
        voxel_size, extra, confidence, surface: arguments of `morula.measure`.
        intensity: whether intensities are measured.
        evidence: whether there is evidence for the calibration, see `morula.measurement.evidence.local_evidence`.
    """

    voxel_size: VoxelSizeLike = None
    extra: Sequence[str] = ()
    confidence: Sequence[float] | np.ndarray | None = None
    surface: Surface = "crofton"
    intensity: bool = False
    evidence: bool = False
