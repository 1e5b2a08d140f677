"""Measure the objects of a label image that is larger than memory: group by group, each object whole.

Objects are sorted into groups by the block in which their boxes start. The labels (and the image) are read in the box around all objects
of a group, and the objects of other groups are left out, so that each object is measured as in the whole image, once. Of an object whose
box alone does not fit into the memory, only size and box are known; its other columns are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import Region
from morula.kernels.object_tables import renumber
from morula.measurement.evidence import RING, local_evidence
from morula.measurement.measure import measured_columns

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects 1..n: `voxels` (n,), and boxes `starts` and `stops` (n, ndim); start <= index < stop."""

    voxels: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


_FAR = np.iinfo(np.int64).max


def measure_in_groups(
    labels: ArraySource,
    boxes: Boxes,
    intensity: ArraySource | None = None,
    *,
    block: Sequence[int],
    room: int,
    with_evidence: ArraySource | None = None,
    **options: Any,
) -> Iterator[tuple[Columns, Columns]]:
    """The columns of `measure`, one group of objects after the other; together they have one row per object.

    Args:
        labels: ids 1..n (Z)YX, may be lazy.
        boxes: sizes and boxes of the objects.
        intensity: image C(Z)YX, may be lazy.
        block: edge lengths in voxels of the blocks by which objects are grouped.
        room: voxels that may be in memory at a time.
        with_evidence: image C(Z)YX for `morula.measurement.evidence.local_evidence` on the objects; left out, there is none.
        options: arguments of `measured_columns` other than `intensity` and `origin`.

    Yields:
        columns of the table, and columns of evidence with the same rows.
    """
    # without objects, one voxel shows which columns there are
    for members in _groups(boxes, block, room) if len(boxes.voxels) else [np.empty(0, np.int64)]:
        start, stop = boxes.starts[members].min(axis=0, initial=_FAR), boxes.stops[members].max(axis=0, initial=1)
        box = Region(tuple(np.minimum(start, stop - 1).tolist()), tuple(stop.tolist()))
        if math.prod(box.shape) > room:
            columns = _unmeasured(int(members[0]), box, boxes.voxels, intensity, options)
            yield columns, {} if with_evidence is None else _neutral(with_evidence.shape[0])
            continue
        kept = np.zeros(len(boxes.voxels) + 1, np.bool_)
        kept[members + 1] = True
        part = np.asarray(labels[box.slices])
        part = np.where(kept[part], part, 0)
        values = None if intensity is None else np.asarray(intensity[(slice(None), *box.slices)])
        columns = measured_columns(part, intensity=values, origin=box.start, whole=labels.shape, **options)
        yield columns, {} if with_evidence is None else _evidence(labels, with_evidence, box, columns["label"])


def _evidence(labels: ArraySource, image: ArraySource, box: Region, ids: np.ndarray) -> Columns:
    """Evidence on the objects of a group, with the labels and the image around its box."""
    # twice: other objects compete for the voxels around an object
    region = box.grow((2 * RING[1],) * len(box.shape), within=labels.shape)
    part = np.asarray(labels[region.slices])
    compact, old = renumber(part, int(part.max()))
    channels = np.asarray(image[(slice(None), *region.slices)])
    return local_evidence(compact, channels, {"label": np.searchsorted(old, ids) + 1})


def _neutral(channels: int) -> Columns:
    """Evidence on an object of which nothing is known."""
    return {"touching": np.zeros(1), "ellipsoid_fit": np.ones(1), "contrast": np.full((1, channels), np.nan)}


def _unmeasured(row: int, box: Region, voxels: np.ndarray, intensity: ArraySource | None, options: Mapping[str, Any]) -> Columns:
    """Size and box of an object; NaN in the other columns."""
    ndim = len(box.shape)
    probe = np.zeros((1,) * ndim, np.uint8)
    channels = None if intensity is None else np.zeros((intensity.shape[0], *probe.shape), np.float32)
    columns = {name: np.full(1, np.nan) for name in measured_columns(probe, intensity=channels, **options)}
    known = {"label": row + 1, "voxels": voxels[row]}
    for axis, start, stop in zip("zyx"[-ndim:], box.start, box.stop, strict=True):
        known |= {f"box_{axis}_start": start, f"box_{axis}_stop": stop}
    columns |= {name: np.full(1, value) for name, value in known.items()}
    if "confidence" in columns:
        columns["confidence"] = np.asarray(options["confidence"])[row : row + 1]
    return columns


def joined(parts: Sequence[tuple[Columns, Columns]]) -> tuple[Columns, Columns]:
    """The columns of all groups, ordered by label."""
    order = np.argsort(np.concatenate([table["label"] for table, _ in parts]), kind="stable")
    table, evidence = ({name: np.concatenate([part[i][name] for part in parts])[order] for name in parts[0][i]} for i in (0, 1))
    return table, evidence


def _groups(boxes: Boxes, block: Sequence[int], room: int) -> Iterator[np.ndarray]:
    """Rows of the objects whose boxes start in the same block; halved until the box around a group has at most `room` voxels."""
    starts, stops = boxes.starts, boxes.stops
    places = starts // np.asarray(block)
    _, group = np.unique(places, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    waiting = [rows for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(rows)]
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
