"""Flips and rotations by multiples of 90 degrees: exact, without interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from morula.core.orientation import Orientation
from morula.data.augment.base import AugmentationOptions, Reorienting


class FlipOptions(AugmentationOptions):
    """Flip along axes."""

    kind: Literal["flip"] = "flip"
    """Name of the variant."""

    shorthand: ClassVar[str] = "probability"
    probability: float = Field(0.5, ge=0, le=1)
    """Probability of a flip per axis, independent of the other axes."""
    axes: str = Field("zyx", pattern=r"^z?y?x?$", min_length=1)
    """Axes that may be flipped; z is ignored in 2D."""


class Flip(Reorienting[FlipOptions]):
    """Flip every axis with the given probability."""

    name = "flip"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""
        letters = "zyx"[3 - len(shape) :]
        flips = tuple(
            bool(u < self.options.probability) and letter in self.options.axes
            for u, letter in zip(rng.random(len(shape)), letters, strict=True)
        )
        return Orientation(tuple(range(len(shape))), flips) if any(flips) else None


class Rotate90Options(AugmentationOptions):
    """Rotate by multiples of 90 degrees."""

    kind: Literal["rotate90"] = "rotate90"
    """Name of the variant."""

    shorthand: ClassVar[str] = "probability"
    probability: float = Field(0.75, ge=0, le=1)
    """Share of the patches that are rotated, by 90, 180 or 270 degrees; with 0.75 all four orientations are equally likely."""
    plane: Literal["any", "yx"] = "any"
    """Planes to turn in: any with equal edges and spacing, or y and x alone."""
    rectangles: bool = False
    """Rotate in planes with different edges, too: the patch shows the rotated region."""


def square_planes(shape: Sequence[int], spacing: Sequence[float], *, rectangles: bool = False) -> list[tuple[int, int]]:
    """Pairs of axes with equal patch edges and equal spacing: a rotation by 90 degrees in their plane keeps the shape and the spacing.

    With `rectangles` the edges may differ.

    Examples:
        >>> square_planes((32, 64, 64), (2, 1, 1))
        [(1, 2)]
    """
    n = len(shape)
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n) if rectangles or shape[a] == shape[b]]
    # other planes would change the shape or the spacing of the patch
    return [(a, b) for a, b in pairs if np.isclose(spacing[a], spacing[b], rtol=1e-3)]


class Rotate90(Reorienting[Rotate90Options]):
    """Rotate by 90, 180 or 270 degrees in a random plane with equal spacing and equal patch edges."""

    name = "rotate90"

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Orientation | None:
        """See `Augmentation.draw`."""
        planes = square_planes(shape, spacing, rectangles=self.options.rectangles)
        if self.options.plane == "yx":
            planes = [plane for plane in planes if plane == (len(shape) - 2, len(shape) - 1)]
        happens = self.happens(rng)
        if not planes or not happens:
            return None
        a, b = planes[rng.integers(len(planes))]
        order, flips = list(range(len(shape))), [False] * len(shape)
        order[a], order[b], flips[b] = b, a, True
        quarter = Orientation(tuple(order), tuple(flips))
        turned = quarter
        for _ in range(int(rng.integers(3))):
            turned = turned.then(quarter)
        return turned
