"""C: contours of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from morula.core.errors import OptionError
from morula.labels.boundaries import Mode, boundaries
from morula.representations.base import Representation
from morula.representations.options import RepresentationOptions


class Options(RepresentationOptions):
    """Options of the channel C."""

    kind: Literal["C"] = "C"
    """Name of the variant."""

    mode: Mode = "thick"
    """`thick` (a voxel on each side), `inner`, `outer`, `subpixel` (share of a line between voxels) or `dense` (rim outside objects)."""
    connectivity: int = Field(1, ge=1, le=3)
    """Voxels that are neighbours: 1 those that share a face, 2 also an edge, 3 also a corner. For `thick`, `inner` and `outer`."""

    @model_validator(mode="after")
    def _of_neighbours(self) -> Options:
        if self.connectivity > 1 and self.mode in ("subpixel", "dense"):
            rule, remedy = f"is for thick, inner and outer contours, not for {self.mode}", "Leave it out, or write another mode."
            raise OptionError("contour.connectivity", rule, key="connectivity", value=self.connectivity, remedy=remedy)
        return self


class Contour(Representation[Options]):
    """1 on the contour of objects, 0 elsewhere. See `morula.labels.boundaries.boundaries` for the modes.

    Examples:
        >>> Contour(Options(mode="inner")).encode(np.array([[0, 1, 1, 1, 2]], np.uint32), (1, 1))
        array([[[0., 1., 0., 1., 1.]]], dtype=float32)
    """

    code = "C"
    boundary_evidence = "outline"
    inverted = True
    options_class = Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.separates = self.options.mode != "dense"  # the rim of packed objects runs outside them only

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX) of labels (Z)YX uint32."""
        return boundaries(labels, self.options.mode, self.options.connectivity)[None]

    def context(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """One voxel."""
        return (1,) * len(spacing)
