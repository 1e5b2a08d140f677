"""Time series: every time point is segmented as an image of its own. The labels keep the T axis, and the tables name the time point.

Ids count the objects of each time point from 1; objects are not followed over time. The labels of finished time points lie in a hidden
folder beside the labels until all are finished, so that an interrupted command continues with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import OptionError
from morula.core.events import Artefact, Event, FileWritten, Progress, below
from morula.core.image import Image
from morula.io.lazy import LazyArray, take_time
from morula.io.lazy import Opened as OpenedFile
from morula.io.read import read_labels
from morula.io.write import write
from morula.measurement.csv_table import DIGITS, read_table, write_table
from morula.models.model import Model
from morula.workflows.block_store import BlockStore
from morula.workflows.hardware import Hardware
from morula.workflows.predict import exports_of, segment_one
from morula.workflows.result_files import class_image_path, file_of_results, raw_labels_path, table_path
from morula.workflows.sources import Opened
from morula.workflows.unfinished_batch import model_key, origin_of

_TABLES = {"_all": Artefact.FULL_TABLE, "_statistics": Artefact.STATISTICS, "": Artefact.TABLE}


def time_points(image: Image) -> int:
    """Number of time points; 1 without a T axis."""
    return image.shape[image.axes.index("T")] if "T" in image.axes else 1


def first_point(source: Opened) -> Opened:
    """The first time point of a series; other images as they are."""
    return replace(source, raw=take_time(source.raw, 0)) if time_points(source.raw) > 1 else source


def segment_series(
    model: Model, source: Opened, labels_file: Path, hardware: Hardware, *, diameter: float | None = None
) -> Iterator[Event]:
    """Segment all time points of an image; arguments as for `morula.workflows.predict.segment_one`.

    Raises:
        OptionError: ``series.exports`` for results that only single images have.
    """
    if exports_of(model, labels_file) or model.job.objects.intermediates:
        rule = "are not written for time series"
        remedy = "Leave them out and export the labels afterwards, or take one time point (--time 0; time=0)."
        raise OptionError("series.exports", rule, key="objects.export, objects.intermediates", file=source.raw.source, remedy=remedy)
    count = time_points(source.raw)
    key = model_key(model, {"device": hardware.device, "diameter": diameter, "points": count})
    store = BlockStore(file_of_results(labels_file), {"model": key, "image": origin_of(source.raw), "reading": source.reading})
    folder = store.path / "points"
    folder.mkdir(exist_ok=True)
    parts = [folder / f"t{point:05d}.ome.zarr" for point in range(count)]
    for point, part in enumerate(parts):
        if store.noted(f"point_{point}") is None:
            one = replace(source, raw=take_time(source.raw, point))
            steps = segment_one(model, one, part, hardware, diameter=diameter)
            yield from (event for event in below(f"time {point}", steps) if not isinstance(event, FileWritten))
            store.note(f"point_{point}", {})
        yield Progress(point + 1, count, "time point", task=("time",))
    yield from _joined_images(parts, labels_file, source.raw)
    for suffix, kind in _TABLES.items():
        if table_path(parts[0], suffix).exists():
            write_table(table_path(labels_file, suffix), joined_tables([table_path(part, suffix) for part in parts]), digits=DIGITS)
            yield FileWritten(table_path(labels_file, suffix), kind)
    store.remove()


def _joined_images(parts: Sequence[Path], labels_file: Path, image: Image) -> Iterator[Event]:
    """Write the labels of all time points, and the other label images that there are."""
    places: dict[Artefact, Callable[[Path], Path]] = {
        Artefact.LABELS: lambda file: file,
        Artefact.CLASSES: class_image_path,
        Artefact.RAW_LABELS: raw_labels_path,
    }
    for kind, place in places.items():
        if not place(parts[0]).exists():
            continue
        target = place(labels_file)
        target.parent.mkdir(parents=True, exist_ok=True)
        labels = [read_labels(place(part)) for part in parts]
        stacked = replace(labels[0], data=TimeStack([frame.data for frame in labels]), axes=Axes(f"T{labels[0].axes}"), source=image.source)
        write(target, stacked, labels=True, overwrite=True, like=image.source)
        yield FileWritten(target, kind)


def joined_tables(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The rows of the tables of all time points, with the column ``time`` first."""
    tables = [read_table(file) for file in files]
    rows = [len(next(iter(table.values()))) for table in tables]
    # the columns of a table without rows have no types
    filled = [table for table, count in zip(tables, rows, strict=True) if count] or tables[:1]
    joined = {name: np.concatenate([table[name] for table in filled]) for name in filled[0]}
    return {"time": np.repeat(np.arange(len(tables)), rows), **joined}


class TimeStack(LazyArray):
    """Label images (Z)YX of equal shape as one array T(Z)YX; read when it is sliced."""

    def __init__(self, points: Sequence[ArraySource]) -> None:
        kind = np.result_type(*(point.dtype for point in points))
        super().__init__((len(points), *points[0].shape), kind, chunks=(1, *getattr(points[0], "chunks", points[0].shape)))
        self.points = list(points)

    def _open(self) -> OpenedFile:
        return self, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        chosen = self.points[box[0]]
        if not chosen:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *box[1:])]
        return np.stack([np.asarray(point[box[1:]], self.dtype) for point in chosen])
