"""Export a label image for other programs: outlines, a coloured preview, the table as Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from morula.core.claims import claimed
from morula.core.errors import OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Warned
from morula.core.image_like import spatial_array
from morula.core.manifest import RESULTS, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.core.palette import colours_of
from morula.io.read import label_places
from morula.io.write import write
from morula.measurement.parquet_table import write_parquet
from morula.methods.object_options import Export
from morula.workflows.exports import WHOLE_SERIES, check_exports, export_paths, parse_kinds, write_exports
from morula.workflows.measure import Point, labels_and_images, measured_points, one_table
from morula.workflows.reading import Reading

TASK = ("export",)


@with_named_os_errors
def export(
    labels: str | Path,
    to: Sequence[str],
    *,
    output: str | Path | None = None,
    intensity: str | Path | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    overwrite: bool = False,
) -> Iterator[Event]:
    """Write a label image as outlines of ImageJ, QuPath or COCO, as a coloured preview, or its measurements as Parquet.

    Args:
        labels: a label image, or outlines in one of these formats. Of a time series, preview and table hold all time points; the outlines
            of each are in a file of their own (``cells_t0000_rois.zip``).
        to: ``rois``, ``geojson``, ``coco``, ``preview`` or ``parquet``, one or several.
        output: a file for one format, a folder for several; by default beside the labels.
        intensity: image to measure intensities in, for GeoJSON and Parquet, which hold the measurements.
        reading: axes, channel, data set, scene and voxel size of the label file.
        overwrite: replace existing files, as far as they are as Morula wrote them.

    Yields:
        events.

    Raises:
        OptionError: for an unknown format, or one that does not hold volumes.
        FileWriteError: when a file exists.

    Examples:
        >>> for event in export("labels.tif", ["rois", "geojson"]):  # doctest: +SKIP
        ...     print(event)
    """
    began = time.monotonic()
    kinds = parse_kinds(list(to), key="to")
    if not kinds:
        raise OptionError("export.nothing", "names no format", key="to", remedy="Name one of rois, geojson, coco, preview, parquet.")
    place, target = Path(labels).expanduser(), None if output is None else Path(output).expanduser()
    _files(place, kinds, target)  # wrong names are found before anything is read
    points, ignored = labels_and_images(labels, intensity, reading)
    yield from (Warned(remark.code, remark, task=TASK) for remark in ignored)
    check_exports(kinds, points[0][0].ndim_spatial, key="to")
    files = _files(place, kinds, target, len(points))
    read = [*label_places(labels), *([] if intensity is None else [intensity])]
    outputs = [Destination(file, proven=True) for group in files for file in group.values()]
    check_outputs(outputs, read, overwrite=overwrite)
    tables = measured_points(points) if {"geojson", "parquet"} & set(kinds) else [pd.DataFrame()] * len(points)
    with claimed(place.path for place in outputs), ExitStack() as records:
        check_outputs(outputs, overwrite=overwrite)  # again: another process may have been faster
        for folder in {place.path.parent for place in outputs}:
            folder.mkdir(parents=True, exist_ok=True)
            records.enter_context(recording(folder, RESULTS))
        if len(points) > 1:
            yield from _write_series(points, tables, files.pop())
        for (objects, _), table, group in zip(points, tables, files, strict=True):
            yield from write_exports(spatial_array(objects)[0], table, objects, group)
    yield Logged(f"{labels} exported as {', '.join(kinds)}", task=TASK)
    yield Finished(time.monotonic() - began, task=TASK)


def _write_series(points: Sequence[Point], tables: Sequence[pd.DataFrame], files: Mapping[Export, Path]) -> Iterator[Event]:
    """Write the exports that hold all time points of a series; arguments as for `write_exports`, for each time point."""
    first = points[0][0]
    if "preview" in files:
        colours = np.stack([colours_of(spatial_array(objects)[0]) for objects, _ in points])
        axes = f"T{first.axes.spatial_axes}C"
        yield FileWritten(write(files["preview"], colours, axes=axes, voxel_size=first.voxel_size, overwrite=True), Artefact.COLOURED)
    if "parquet" in files:
        yield FileWritten(write_parquet(files["parquet"], one_table(tables)), Artefact.TABLE, "as Parquet")


_SUFFIXES: dict[Export, tuple[str, ...]] = {
    "rois": (".zip",),
    "geojson": (".geojson", ".json"),
    "coco": (".json",),
    "preview": (".tif", ".tiff"),
    "parquet": (".parquet",),
}


def _files(labels: Path, kinds: Sequence[Export], output: Path | None, points: int = 1) -> list[dict[Export, Path]]:
    """The file of each export, for each time point; for a series also, at the end, those of exports that hold all time points."""
    named = export_paths(labels, kinds, points)
    if output is not None and output.suffix and not output.is_dir():
        if len(kinds) > 1 or (points > 1 and not WHOLE_SERIES & set(kinds)):
            rule = f"is one file for {len(kinds)} formats" if len(kinds) > 1 else f"is one file for {points} time points"
            remedy = "Name a folder, or one format." if len(kinds) > 1 else "Name a folder, or take one time point (--time 0; time=0)."
            raise OptionError("export.one_file", rule, key="output", value=str(output), remedy=remedy)
        if output.suffix.lower() not in _SUFFIXES[kinds[0]]:
            rule, remedy = f"must end in {_SUFFIXES[kinds[0]][0]} for {kinds[0]}", "Rename it, or name a folder."
            raise OptionError("export.suffix", rule, key="output", value=str(output), remedy=remedy)
        return [*named[:-1], {kinds[0]: output}]
    return named if output is None else [{kind: output / file.name for kind, file in group.items()} for group in named]
