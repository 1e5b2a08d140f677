"""Time series: every time point is segmented as an image of its own. The labels keep the T axis, and the tables name the time point.

Ids count the objects of each time point from 1; objects are not followed over time. The labels of finished time points lie in a hidden
folder beside the labels until all are finished, so that an interrupted command continues with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.array import ArraySource
from morula.core.atomic import replace as put
from morula.core.axes import Axes
from morula.core.events import Artefact, Event, FileWritten, Progress, below
from morula.core.image import Image
from morula.core.location import stem_of
from morula.core.manifest import discard_own
from morula.io.lazy import LazyArray, take_time
from morula.io.lazy import Opened as OpenedFile
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.measurement.csv_table import DIGITS, read_table, write_table
from morula.measurement.parquet_table import write_parquet
from morula.methods.object_options import Export
from morula.models.model import Model
from morula.workflows.block_store import BlockStore
from morula.workflows.exports import export_path, export_paths
from morula.workflows.hardware import Hardware
from morula.workflows.predict import segment_one
from morula.workflows.result_files import class_image_path, file_of_results, intermediates_path, point_name, raw_labels_path, table_path
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
    model: Model, source: Opened, labels_file: Path, hardware: Hardware, *, diameter: float | None = None, raw_labels: bool = True
) -> Iterator[Event]:
    """Segment all time points of an image; arguments as for `morula.workflows.predict.segment_one`."""
    count = time_points(source.raw)
    key = model_key(model, {"device": hardware.device, "diameter": diameter, "points": count})
    store = BlockStore(file_of_results(labels_file), {"model": key, "image": origin_of(source.raw), "reading": source.reading})
    folder = store.path / "points"
    folder.mkdir(exist_ok=True)
    parts = [folder / f"t{point:05d}.ome.zarr" for point in range(count)]
    for point, part in enumerate(parts):
        if store.noted(f"point_{point}") is None:
            one = replace(source, raw=take_time(source.raw, point))
            steps = segment_one(model, one, part, hardware, diameter=diameter, raw_labels=raw_labels)
            yield from (event for event in below(f"time {point}", steps) if not isinstance(event, FileWritten))
            store.note(f"point_{point}", {})
        yield Progress(point + 1, count, "time point", task=("time",))
    exports = export_paths(labels_file, model.job.objects.export, count)
    # never new labels beside tables or outlines of earlier ones, whenever the process ends
    tables = [table_path(labels_file, suffix) for suffix in _TABLES]
    for file in [*tables, raw_labels_path(labels_file), *(file for group in exports for file in group.values())]:
        discard_own(file)
    yield from _joined_images(parts, labels_file, source.raw)
    for suffix, kind in _TABLES.items():
        if table_path(parts[0], suffix).exists():
            write_table(table_path(labels_file, suffix), joined_tables([table_path(part, suffix) for part in parts]), digits=DIGITS)
            yield FileWritten(table_path(labels_file, suffix), kind)
    yield from _joined_exports(parts, exports, labels_file)
    yield from _intermediates(parts, labels_file)
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


def _joined_exports(parts: Sequence[Path], exports: Sequence[Mapping[Export, Path]], labels_file: Path) -> Iterator[Event]:
    """Move the exports of single time points to their places, and join the others; `exports` as `export_paths` returns them."""
    *single, whole = exports
    for part, files in zip(parts, single, strict=True):
        for kind, file in files.items():
            yield FileWritten(_moved(export_path(part, kind), file), Artefact.OUTLINES)
    for kind, file in whole.items():
        if kind == "parquet":
            yield FileWritten(write_parquet(file, read_table(table_path(labels_file))), Artefact.TABLE, "as Parquet")
        else:
            colours = [read(export_path(part, kind)) for part in parts]
            stacked = replace(colours[0], data=TimeStack([colour.data for colour in colours]), axes=Axes(f"T{colours[0].axes}"))
            yield FileWritten(write(file, stacked, overwrite=True), Artefact.COLOURED)


def _intermediates(parts: Sequence[Path], labels_file: Path) -> Iterator[Event]:
    """Move the inputs of the decoder of each time point to their places."""
    place, folder = file_of_results(labels_file), intermediates_path(labels_file)
    for point, part in enumerate(parts):
        for file in sorted(intermediates_path(part).glob(f"{stem_of(part)}_*.tif")):
            name = file.name.removeprefix(f"{stem_of(part)}_")
            target = folder / f"{point_name(stem_of(place), point)}_{name}"
            yield FileWritten(_moved(file, target), Artefact.INTERMEDIATE, Path(name).stem)


def _moved(source: Path, target: Path) -> Path:
    """Move a finished file; returns its new place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    put(source, target)
    return target


def joined_tables(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The rows of the tables of all time points, with the column ``time`` first."""
    tables = [read_table(file) for file in files]
    rows = [len(next(iter(table.values()))) for table in tables]
    # the columns of a table without rows have no types
    filled = [table for table, count in zip(tables, rows, strict=True) if count] or tables[:1]
    joined = {name: np.concatenate([table[name] for table in filled]) for name in filled[0]}
    return {"time": np.repeat(np.arange(len(tables)), rows), **joined}


class TimeStack(LazyArray):
    """Images of equal shape as one array with a T axis in front; read when it is sliced."""

    def __init__(self, points: Sequence[ArraySource]) -> None:
        kind = np.result_type(*(point.dtype for point in points))
        super().__init__((len(points), *points[0].shape), kind, chunks=(1, *(getattr(points[0], "chunks", None) or points[0].shape)))
        self.points = list(points)

    def _open(self) -> OpenedFile:
        return self, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        chosen = self.points[box[0]]
        if not chosen:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *box[1:])]
        return np.stack([np.asarray(point[box[1:]], self.dtype) for point in chosen])
