"""The boxes of a grid that hold enough labelled voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from morula.core.array import ArraySource
from morula.core.errors import DataError
from morula.core.region import Region
from morula.data.labelled_voxels import labelled_voxels
from morula.data.sampling import Boxes, Grid

_SEED = 47  # that of pytorch-3dunet, so that the same boxes are kept


@dataclass(frozen=True, eq=False)
class LabelledGrid:
    """The boxes of a grid that are numbered in `kept`."""

    grid: Boxes
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int, /) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.grid[int(self.kept[index])]


def labelled_boxes(
    labels: ArraySource, grid: Grid, least: float, *, accept: float = 0.0, ignored: int | None = None, name: str = "the image"
) -> LabelledGrid:
    """The boxes with more than a share of labelled voxels, and some of the others.

    Args:
        labels: C(Z)YX, may be lazy.
        grid: of the boxes, inside the labels or beyond them.
        least: share of labelled voxels, of all channels.
        accept: probability that any other box is kept.
        ignored: label whose voxels count as unlabelled.
        name: of the image, for messages.

    Raises:
        DataError: when no box is kept.

    Examples:
        >>> labels = np.array([[[0, 0, 1, 1, 1, 0]]])
        >>> found = labelled_boxes(labels, Grid(Region((0, 0), (1, 6)), (1, 2), (1, 2)), 0.5)
        >>> [found[i].start for i in range(len(found))]
        [(0, 2)]
    """
    share = labelled_voxels(labels, grid, ignored).ravel() / (labels.shape[0] * math.prod(grid.shape))
    kept = share > least
    kept[~kept] = np.random.RandomState(_SEED).random_sample(int((~kept).sum())) < accept
    if not kept.any():
        raise DataError(
            "patch.nothing_labelled",
            f"{name}: none of {len(grid)} patches has more than {least:g} of its voxels labelled (at most {share.max():.3g})",
            remedy="Lower this share, or use all patches.",
        )
    return LabelledGrid(grid, np.flatnonzero(kept))
