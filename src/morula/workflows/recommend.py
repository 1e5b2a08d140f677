"""The channels that a new job begins with: those that lose least of the labels at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from morula.core.axes import Axes
from morula.core.image import Image
from morula.core.region import Region
from morula.data.crop import crop
from morula.representations.affinity import Affinities
from morula.workflows.compare import Representation, Row, Truths, ceiling

VOXELS = 2**22
"""So many voxels of labels are looked at, at most."""
ALIKE = 0.005
"""Sets whose F1 differs by less are equally good; the one that stands first goes before."""
LONG = {2: ((-3, 0), (0, -3), (-9, 0), (0, -9)), 3: ((-3, 0, 0), (0, -3, 0), (0, 0, -3), (0, -9, 0), (0, 0, -9))}
"""Offsets of the affinities that part objects, beside those of all direct neighbours, which join."""


def candidates(ndim: int) -> list[Representation]:
    """Sets to choose from, the most usual first."""
    sets: list[tuple[dict[str, dict[str, Any]], str]] = [
        ({"F": {}, "C": {}, "Db": {}}, "watershed"),
        ({"F": {}, "C": {}, "Dc": {}}, "watershed"),
        ({"F": {}, "C": {}}, "watershed"),
        ({"F": {}, "P": {}, "C": {}}, "watershed"),
        ({"A": {"offsets": (*Affinities().options.steps(ndim), *LONG[ndim])}}, "mutex_watershed"),
    ]
    return [Representation.made(channels, decoder) for channels, decoder in sets]


@dataclass(frozen=True)
class Recommended:
    """A set of channels, and what each candidate left of the labels."""

    representation: Representation
    rows: tuple[Row, ...]

    def words(self) -> str:
        """The figures of all candidates on one line."""
        return ", ".join(f"{row.representation} {row.f1_90:.3f}" for row in self.rows)


def recommend(truths: Truths) -> Recommended:
    """The candidate that loses least of these labels when they are encoded and decoded: the highest F1 at 0.9.

    Contours eat what is thin, distances part what is dumbbell-shaped: which channels suit depends on the objects.

    Raises:
        DataError: when there is no object.
    """
    few = Truths(tuple(sample(truths.labels)), truths.unlabelled)
    rows = [ceiling(few, each) for each in candidates(few.labels[0].ndim_spatial)]
    best = max(row.f1_90 for row in rows)
    place = next(place for place, row in enumerate(rows) if row.f1_90 > best - ALIKE)
    return Recommended(candidates(few.labels[0].ndim_spatial)[place], tuple(rows))


def sample(labels: Sequence[Image]) -> Iterator[Image]:
    """Label images evenly over the list, and of a large one the block in its middle, up to `VOXELS` voxels in all."""
    left = VOXELS
    for number in _spread(len(labels)):
        image = labels[number]
        shape = image.spatial_shape
        while int(np.prod(shape)) > left:
            longest = int(np.argmax(shape))
            shape = tuple(max(1, n // 2) if axis == longest else n for axis, n in enumerate(shape))
        start = tuple((whole - part) // 2 for whole, part in zip(image.spatial_shape, shape, strict=True))
        block = crop(image, Region(start, tuple(a + n for a, n in zip(start, shape, strict=True))))[0]
        yield replace(image, data=block, axes=Axes(image.axes.spatial_axes))
        left -= block.size
        if left < VOXELS // 64:
            return


def _spread(n: int) -> list[int]:
    """The numbers 0 to n - 1 so that each beginning of the list is spread evenly.

    Examples:
        >>> _spread(5)
        [0, 4, 2, 1, 3]
    """
    order = [round(float(place)) for steps in (1, 2, 4, 8, 16, 32) for place in np.linspace(0, n - 1, steps + 1)]
    return list(dict.fromkeys([*order, *range(n)]))
