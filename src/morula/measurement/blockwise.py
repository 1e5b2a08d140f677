"""Measure the objects of a label image that is larger than memory: group by group, each object whole.

Objects are sorted into groups by the block in which their boxes start. The labels (and the image) are read in the box around all objects
of a group, and the objects of other groups are left out, so that each object is measured as in the whole image, once. Of an object whose
box alone does not fit into the memory, only size and box are known; its other columns are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import Region
from morula.measurement.measure import measured_columns

Columns = dict[str, np.ndarray]
_FAR = np.iinfo(np.int64).max


def measure_in_groups(
    labels: ArraySource,
    starts: np.ndarray,
    stops: np.ndarray,
    intensity: ArraySource | None = None,
    *,
    block: Sequence[int],
    room: int,
    voxels: np.ndarray,
    **options: Any,
) -> Iterator[Columns]:
    """The columns of `measure`, one group of objects after the other; together they have one row per object.

    Args:
        labels: ids 1..n (Z)YX, may be lazy.
        starts, stops: (n, ndim) boxes of the objects; start <= index < stop.
        intensity: image C(Z)YX, may be lazy.
        block: edge lengths in voxels of the blocks by which objects are grouped.
        room: voxels that may be in memory at a time.
        voxels: (n,) sizes of the objects.
        options: arguments of `measured_columns` other than `intensity` and `origin`.
    """
    # without objects, one voxel shows which columns there are
    for members in _groups(starts, stops, block, room) if len(starts) else [np.empty(0, np.int64)]:
        start, stop = starts[members].min(axis=0, initial=_FAR), stops[members].max(axis=0, initial=1)
        box = Region(tuple(np.minimum(start, stop - 1).tolist()), tuple(stop.tolist()))
        if math.prod(box.shape) > room:
            yield _unmeasured(int(members[0]), box, voxels, intensity, options)
            continue
        kept = np.zeros(len(starts) + 1, np.bool_)
        kept[members + 1] = True
        part = np.asarray(labels[box.slices])
        part = np.where(kept[part], part, 0)
        values = None if intensity is None else np.asarray(intensity[(slice(None), *box.slices)])
        yield measured_columns(part, intensity=values, origin=box.start, **options)


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


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Columns:
    """The columns of all groups, ordered by label."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["label"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _groups(starts: np.ndarray, stops: np.ndarray, block: Sequence[int], room: int) -> Iterator[np.ndarray]:
    """Rows of the objects whose boxes start in the same block; halved until the box around a group has at most `room` voxels."""
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
