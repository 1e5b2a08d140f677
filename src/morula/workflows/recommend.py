"""Recommended channels for a new job: those that lose the least of the given labels.

Each candidate set encodes the labels and decodes its channels, without a network, and is scored against the labels. What is lost here no
network can recover.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from morula.core.axes import Axes
from morula.core.image import Image
from morula.core.region import Region
from morula.data.crop import crop
from morula.representations.affinity import Affinities
from morula.workflows.compare import Representation, Row, Truths, ceiling

VOXELS = 2**22
"""At most this many voxels of labels are encoded and decoded."""
ALIKE = 0.005
"""Sets whose F1 differs by less are equally good; the first one of the list is chosen."""
LONG = {2: ((-3, 0), (0, -3), (-9, 0), (0, -9)), 3: ((-3, 0, 0), (0, -3, 0), (0, 0, -3), (0, -9, 0), (0, 0, -9))}
"""Long offsets of affinities, which separate objects; those of direct neighbours join them."""


def candidates(ndim: int) -> list[Representation]:
    """Sets to choose from, the most common first."""
    sets: list[tuple[dict[str, dict[str, object]], str]] = [
        ({"F": {}, "C": {}, "Db": {}}, "watershed"),
        ({"F": {}, "C": {}, "Dc": {}}, "watershed"),
        ({"F": {}, "C": {}}, "watershed"),
        ({"F": {}, "P": {}, "C": {}}, "watershed"),
        ({"A": {"offsets": (*Affinities().options.steps(ndim), *LONG[ndim])}}, "mutex_watershed"),
    ]
    return [Representation.made(channels, decoder) for channels, decoder in sets]


@dataclass(frozen=True)
class Recommended:
    """A set of channels, and the scores of all candidates."""

    representation: Representation
    rows: tuple[Row, ...]
    ndim: int

    def best(self, count: int) -> list[Representation]:
        """The sets that lose least, the recommended one first."""
        named = {row.representation: row.f1_90 for row in self.rows}
        others = [candidate for candidate in candidates(self.ndim) if str(candidate) != str(self.representation)]
        others.sort(key=lambda candidate: -round(named.get(str(candidate), 0.0) / ALIKE))
        return [self.representation, *others][:count]

    def words(self) -> str:
        """The figures of all candidates on one line."""
        return ", ".join(f"{row.representation} {row.f1_90:.3f}" for row in self.rows)


def recommend(truths: Truths) -> Recommended:
    """The candidate with the highest F1 at 0.9 when these labels are encoded and decoded.

    Which channels are suitable depends on the objects: contours remove thin objects, distances split dumbbell-shaped ones.

    Raises:
        DataError: when there is no object.
    """
    few = Truths(tuple(sample(truths.labels)), truths.unlabelled)
    rows = [ceiling(few, candidate) for candidate in candidates(few.labels[0].ndim_spatial)]
    best = max(row.f1_90 for row in rows)
    # not the maximum itself: among equally good sets the simpler, more common one
    place = next(place for place, row in enumerate(rows) if row.f1_90 > best - ALIKE)
    return Recommended(candidates(few.labels[0].ndim_spatial)[place], tuple(rows), few.labels[0].ndim_spatial)


def sample(labels: Sequence[Image]) -> Iterator[Image]:
    """Label images evenly spaced in the list, large ones cropped to a central block, `VOXELS` voxels in total at most."""
    left = VOXELS
    for number in _spread(len(labels)):
        image = labels[number]
        shape = image.spatial_shape
        while int(np.prod(shape)) > left:  # halve the longest axis, so that the block becomes a cube
            longest = int(np.argmax(shape))
            shape = tuple(max(1, n // 2) if axis == longest else n for axis, n in enumerate(shape))
        start = tuple((whole - part) // 2 for whole, part in zip(image.spatial_shape, shape, strict=True))
        block = crop(image, Region(start, tuple(a + n for a, n in zip(start, shape, strict=True))))[0]
        yield replace(image, data=block, axes=Axes(image.axes.spatial_axes))
        left -= block.size
        if left < VOXELS // 64:  # a smaller block would cut most of its objects
            return


def _spread(n: int) -> list[int]:
    """The numbers 0 to n - 1 in an order whose first entries are spread evenly, whatever their number.

    Examples:
        >>> _spread(5)
        [0, 4, 2, 1, 3]
    """
    order = [round(float(place)) for steps in (1, 2, 4, 8, 16, 32) for place in np.linspace(0, n - 1, steps + 1)]
    return list(dict.fromkeys([*order, *range(n)]))
