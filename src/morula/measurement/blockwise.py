"""Measure the objects of a label image that is larger than memory: group by group, each object whole.

Objects are sorted into groups by the block in which their boxes start. The labels (and the image) are read in the box around all objects
of a group, and the objects of other groups are left out, so that each object is measured as in the whole image, once. Objects whose boxes
alone do not fit into the memory are measured together at the end, see `morula.measurement.large_objects`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.kernels.object_tables import renumber
from morula.measurement.columns import Columns
from morula.measurement.evidence import RING, local_evidence
from morula.measurement.large_objects import measure_large
from morula.measurement.measure import column_of, measured_columns
from morula.measurement.measures import Boxes, Measures

_FAR = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class GroupMeasurement:
    """Measures the objects of one group after the other; can be sent to other processes.

    Attributes:
        labels: ids 1..n (Z)YX, may be lazy.
        boxes: sizes and boxes of the objects.
        image: C(Z)YX, may be lazy; for intensities and evidence.
        room: voxels that may be in memory at a time.
        measures: what is measured.
    """

    labels: ArraySource
    boxes: Boxes
    image: ArraySource | None
    room: int
    measures: Measures

    def groups(self, block: Sequence[int]) -> list[np.ndarray]:
        """Rows of the objects of each group: those whose boxes start in the same block, and at the end all that do not fit."""
        present = self.boxes.voxels > 0
        large = np.flatnonzero(present & self.boxes.too_large(self.room))
        small = np.setdiff1d(np.flatnonzero(present), large)
        found = [*_groups(self.boxes, small, block, self.room), *([large] if len(large) else [])]
        return found or [small]  # without objects, one voxel shows which columns there are

    def __call__(self, members: np.ndarray) -> tuple[Columns, Columns]:
        """The columns of `measure` of a group, and its columns of evidence; without evidence, none."""
        if self.boxes.too_large(self.room)[members].any():
            return _measured_large(self.labels, self.boxes, members, self.image, self.room, self.measures)
        return _measured_group(self.labels, self.boxes, members, self.image, self.measures)


def measure_in_groups(
    labels: ArraySource, boxes: Boxes, image: ArraySource | None = None, *, block: Sequence[int], room: int, measures: Measures
) -> Iterator[tuple[Columns, Columns]]:
    """The columns of `measure` of all objects, one group after the other; together they have one row per object.

    Args:
        labels, boxes, image, room, measures: see `GroupMeasurement`.
        block: edge lengths in voxels of the blocks by which objects are grouped.

    Yields:
        what `GroupMeasurement` returns.
    """
    work = GroupMeasurement(labels, boxes, image, room, measures)
    yield from map(work, work.groups(block))


def _measured_group(
    labels: ArraySource, boxes: Boxes, members: np.ndarray, image: ArraySource | None, measures: Measures
) -> tuple[Columns, Columns]:
    start, stop = boxes.starts[members].min(axis=0, initial=_FAR), boxes.stops[members].max(axis=0, initial=1)
    box = Region(tuple(np.minimum(start, stop - 1).tolist()), tuple(stop.tolist()))
    kept = np.zeros(len(boxes.voxels) + 1, np.bool_)
    kept[members + 1] = True
    part = np.asarray(labels[box.slices])
    part = np.where(kept[part], part, 0)
    intensity = None if image is None or not measures.intensity else np.asarray(image[(slice(None), *box.slices)])
    columns = _columns(part, measures, box.start, labels.shape, intensity)
    return columns, {} if image is None or not measures.evidence else _evidence(labels, image, box, columns["label"])


def _columns(labels: np.ndarray, measures: Measures, origin: Sequence[int], whole: Sequence[int], intensity: np.ndarray | None) -> Columns:
    return measured_columns(
        labels,
        measures.voxel_size,
        intensity,
        extra=measures.extra,
        confidence=measures.confidence,
        surface=measures.surface,
        origin=origin,
        whole=whole,
    )


def _evidence(labels: ArraySource, image: ArraySource, box: Region, ids: np.ndarray) -> Columns:
    """Evidence on the objects of a group, with the labels and the image around its box."""
    # twice: other objects compete for the voxels around an object
    region = box.grow((2 * RING[1],) * len(box.shape), within=labels.shape)
    part = np.asarray(labels[region.slices])
    compact, old = renumber(part, int(part.max()))
    channels = np.asarray(image[(slice(None), *region.slices)])
    return local_evidence(compact, channels, {"label": np.searchsorted(old, ids) + 1})


def _measured_large(
    labels: ArraySource, boxes: Boxes, members: np.ndarray, image: ArraySource | None, room: int, measures: Measures
) -> tuple[Columns, Columns]:
    """Objects that are measured in blocks; NaN in the extra columns that are not known of them."""
    columns, known, evidence = measure_large(labels, boxes, members, image, room=room, measures=measures)
    probe = np.zeros((1,) * len(labels.shape), np.uint8)
    intensity = None if image is None or not measures.intensity else np.zeros((image.shape[0], *probe.shape), np.float32)
    every = _columns(probe, measures, (0,) * probe.ndim, labels.shape, intensity)
    unit, ndim = VoxelSize.of(measures.voxel_size, probe.ndim).unit, 3 if "centroid_z" in columns else 2
    named = {column_of(name, unit, ndim, columns): values for name, values in known.items() if name in measures.extra}
    unknown = np.full(len(members), np.nan)
    return {name: columns.get(name, named.get(name, unknown)) for name in every}, evidence


def joined(parts: Sequence[tuple[Columns, Columns]]) -> tuple[Columns, Columns]:
    """The columns of all groups, ordered by label."""
    order = np.argsort(np.concatenate([table["label"] for table, _ in parts]), kind="stable")
    table, evidence = ({name: np.concatenate([part[i][name] for part in parts])[order] for name in parts[0][i]} for i in (0, 1))
    return table, evidence


def _groups(boxes: Boxes, rows: np.ndarray, block: Sequence[int], room: int) -> Iterator[np.ndarray]:
    """Groups of rows of objects whose boxes start in the same block; halved until the box around a group has at most `room` voxels."""
    starts, stops = boxes.starts, boxes.stops
    _, group = np.unique(starts[rows] // np.asarray(block), axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    waiting = [part for part in np.split(rows[order], np.flatnonzero(np.diff(group[order])) + 1) if len(part)]
    while waiting:
        rows = waiting.pop()
        extent = stops[rows].max(axis=0) - starts[rows].min(axis=0)
        if len(rows) > 1 and math.prod(extent.tolist()) > room:
            # along the axis in which the boxes are spread most
            centres = (starts[rows] + stops[rows]) / 2
            order = rows[np.argsort(centres[:, np.ptp(centres, axis=0).argmax()], kind="stable")]
            waiting += [order[: len(rows) // 2], order[len(rows) // 2 :]]
        else:
            yield rows
