"""The patches and images that are used: those with enough labels, and that no condition leaves out."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.core.region import Region, blocks
from morula.data.crop import crop
from morula.data.labelled_grid import LabelledGrid, labelled_boxes
from morula.data.normalise import Normalisation, PatchNormalisation
from morula.data.sampling import Boxes, Grid, Options
from morula.measurement.conditions import AnyOfAll, Condition

_BLOCK = 2**22  # voxels of an image that are read together
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


class Labelled(Protocol):
    """What is asked of a source of patches; `morula.data.patches.Source` has it."""

    @property
    def image(self) -> Image:
        """The image."""

    @property
    def labels(self) -> Image | None:
        """Its labels."""

    @property
    def unlabelled(self) -> int | None:
        """Label of unannotated voxels."""

    @property
    def extent(self) -> Region:
        """The box that may be read."""

    @property
    def title(self) -> str:
        """Name for messages."""


def used_boxes(sources: Sequence[Labelled], grids: Sequence[Grid], sampling: Options, records: Sequence[Normalisation]) -> list[Boxes]:
    """The boxes of each source's grid that the options of the sampling use; none for an image that is left out.

    Raises:
        DataError: when a source has too few labels everywhere, or no box of any source is left.
    """
    least, groups = sampling.least_labelled, sampling.leave_out
    found: list[Boxes] = []
    for source, grid, record in zip(sources, grids, records, strict=True):
        boxes: Boxes = grid
        on_grid = sampling.kind == "grid" or sampling.cell is not None
        if least is not None and on_grid and source.labels is not None:
            accept, ignored = sampling.accept_unlabelled, source.unlabelled if sampling.ignored_label is None else sampling.ignored_label
            boxes = labelled_boxes(source.labels.lazy(), grid, least, accept=accept, ignored=ignored, name=source.title)
        used = record if sampling.leave_out_normalised else None
        if groups and sampling.leave_out_images:
            figures = figures_of(source.image, source.extent, source.labels, normalisation=used)
            boxes = [] if _is_left_out(figures, groups) else boxes
        elif groups:
            boxes = kept_boxes(boxes, groups, source.image, source.labels, normalisation=used, extent=source.extent)
        found.append(boxes)
    if groups and not any(map(len, found)):
        all_of = f"all {len(grids)} images" if sampling.leave_out_images else f"all {sum(map(len, grids))} patches of the images"
        rule = f"leaves out {all_of}"
        raise DataError("patch.all_left_out", rule, key="sampling.leave_out", remedy="Change its limits.")
    return found


def kept_boxes(
    grid: Boxes,
    groups: AnyOfAll,
    image: Image,
    labels: Image | None = None,
    *,
    normalisation: Normalisation | None = None,
    extent: Region | None = None,
) -> LabelledGrid:
    """The boxes that satisfy none of the groups of conditions. Each box is read once, inside of the image.

    Args:
        grid: of the boxes.
        groups: a box that satisfies all conditions of one group is left out.
        image: its values have `mean`, `min` and `max`, over all channels.
        labels: their voxels that are not 0 have the share `foreground`.
        normalisation: of the values; `None` for those of the file.
        extent: the part of the image that may be read.

    Examples:
        >>> from morula.data.sampling import Grid
        >>> from morula.measurement.conditions import parse_conditions
        >>> image = Image(np.array([[0, 0, 9, 9, 1, 1]], np.uint8), "YX")
        >>> grid = Grid(Region((0, 0), (1, 6)), (1, 2), (1, 2))
        >>> kept_boxes(grid, parse_conditions([["mean < 5", "max <= 1"]]), image).kept.tolist()
        [1]
    """
    whole = extent or Region.whole(image.spatial_shape)

    def is_kept(number: int) -> bool:
        box = grid[number].intersect(whole)
        assert box is not None
        return not _is_left_out(figures_of(image, box, labels, normalisation=normalisation), groups)

    return LabelledGrid(grid, np.array([number for number in range(len(grid)) if is_kept(number)], np.int64))


def figures_of(
    image: Image, box: Region, labels: Image | None = None, *, normalisation: Normalisation | None = None
) -> Mapping[str, float]:
    """Mean, least and largest value of a box of an image over all channels, and its share of labelled voxels. It is read part by part.

    Examples:
        >>> image = Image(np.array([[2, 4], [6, 8]], np.uint8), "YX")
        >>> figures_of(image, Region((0, 0), (2, 1)))
        {'mean': 4.0, 'min': 2.0, 'max': 6.0, 'foreground': 0.0}
    """
    # the intensities of the box as a whole decide about its scale where they are measured for each patch
    whole = isinstance(normalisation, PatchNormalisation)
    edges = box.shape if whole else (max(1, _BLOCK // math.prod(box.shape[1:])), *box.shape[1:])
    total, count, labelled, low, high = 0.0, 0, 0.0, math.inf, -math.inf
    for part in blocks(box.shape, edges):
        place = part.shift(box.start)
        values = crop(image, place)
        values = values if normalisation is None else normalisation.apply(values)
        total, count = total + float(values.sum(dtype=np.float64)), count + values.size
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        if labels is not None:
            labelled += float((crop(labels, place) != 0).mean()) * math.prod(part.shape)
    return {"mean": total / count, "min": low, "max": high, "foreground": labelled / math.prod(box.shape)}


def _is_left_out(figures: Mapping[str, float], groups: AnyOfAll) -> bool:
    return any(all(_holds(condition, figures) for condition in group) for group in groups)


def _holds(condition: Condition, figures: Mapping[str, float]) -> bool:
    return _SIGNS[condition.sign](figures[condition.property], condition.value)
