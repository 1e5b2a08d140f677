"""Measure the objects of label files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from morula.core.axes import Axes
from morula.core.claims import claimed
from morula.core.errors import DataError, FileWriteError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Warned
from morula.core.image import Image
from morula.core.image_like import spatial_array
from morula.core.manifest import RESULTS, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.core.remark import Remark
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.data.plausibility import background_with_id, single_voxels
from morula.data.summary import looks_grey, object_label_warnings
from morula.io.formats.nifti import compare_orientations
from morula.io.lazy import like, time_points, without_z
from morula.io.metadata import collected
from morula.io.read import label_places
from morula.io.write import check_labels_fit, destination, write
from morula.measurement.csv_table import DIGITS, write_table
from morula.measurement.filter import filter_objects
from morula.measurement.measure import measure
from morula.workflows.reading import Reading
from morula.workflows.sources import about_metadata

TASK = ("measure",)


@with_named_os_errors
def measure_file(
    labels: str | Path,
    output: str | Path,
    *,
    intensity: str | Path | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    extra: Sequence[str] = (),
    remove: Sequence[str] = (),
    kept: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[Event]:
    """Measure the objects of a label file and write the table.

    Args:
        labels: label file. Of a time series, every time point is measured; the table names it in the column ``time``.
        output: CSV file. With `remove` it holds the remaining objects, and NAME_all.csv all of them with the conditions they meet.
        intensity: image of the same shape, to measure intensities in.
        reading: axes, channel, data set and voxel size of the label file. Without voxel size that of the image of `intensity` is taken.
        extra: region properties of scikit-image.
        remove: conditions such as ``npixels < 100 and circularity <= 0.7``; objects that satisfy any of them are removed.
        kept: label file for the remaining objects.
        overwrite: replace existing files, as far as they are as Morula wrote them.

    Raises:
        FileWriteError: when a file exists.
        DataError: when image and labels differ in shape.
        OptionError: for an unknown property, or a condition that cannot be parsed.
    """
    began = time.monotonic()
    if not Path(output).name:
        raise FileWriteError("measure.no_name", "names no file", key="output", value=str(output), remedy="Name a CSV file.")
    output = Path(output).expanduser()
    full_table = output.with_name(f"{output.stem}_all{output.suffix}")
    outputs = [Destination(table, proven=True) for table in (output, *([full_table] if remove else []))]
    outputs += [replace(destination(kept, labels=True, overwrite=overwrite, key="kept"), proven=True)] if kept else []
    check_table_name(output)
    check_outputs(outputs, [*label_places(labels), *([] if intensity is None else [intensity])], overwrite=overwrite)
    points, ignored = labels_and_images(labels, intensity, reading)
    yield from (Warned(remark.code, remark, task=TASK) for remark in ignored)
    objects = [frame for frame, _ in points]
    doubts = [*object_label_warnings([(frame, None) for frame in objects]), *background_with_id(objects), *single_voxels(objects)]
    yield from (Warned(doubt.code, f"{labels}: {doubt}", task=TASK) for doubt in doubts if doubt.code != "labels.empty")
    size, raw = objects[0].voxel_size, points[0][1]
    if size is None and raw is not None and raw.voxel_size is not None:
        size = raw.voxel_size
        text = f"{labels} states no voxel size; that of {intensity} is taken: {raw.spacing} {size.unit}"
        yield Warned("voxel_size.of_image", text, task=TASK)
    if kept is not None:
        axes, shape = objects[0].axes.spatial_axes, objects[0].spatial_shape
        check_labels_fit(
            kept,
            (len(points), *shape) if len(points) > 1 else shape,
            axes=f"T{axes}" if len(points) > 1 else axes,
            key="kept",
        )
    tables = measured_points(points, size, extra)
    with claimed(place.path for place in outputs), ExitStack() as records:
        check_outputs(outputs, overwrite=overwrite)  # again: another process may have been faster
        for folder in {output.parent, Path(kept or output).expanduser().parent}:
            records.enter_context(recording(folder, RESULTS))
        yield from _written(objects, tables, output, remove=remove, kept=kept, size=size)
    yield Finished(time.monotonic() - began, task=TASK)


Point: TypeAlias = "tuple[Image, Image | None]"
"""The labels of one time point, and its image if there is one."""


def labels_and_images(labels: str | Path, intensity: str | Path | None, reading: Reading) -> tuple[list[Point], list[Remark]]:
    """Labels and image of each time point, of which most files have one, and the warnings about ignored metadata.

    Raises:
        DataError: when image and labels differ in shape, or the labels look like a grey image.
    """
    with collected() as ignored:
        images = [] if intensity is None else time_points(reading.open_image_of(intensity))
        # a volume of one plane is 2D
        objects = [without_z(frame) for frame in time_points(reading.open_labels(labels, images[0].spatial_shape if images else None))]
        raws: list[Image | None] = [like(image, frame) for image, frame in zip(images, objects, strict=False)]
        raws = raws or [None] * len(objects)
        if intensity is not None:
            compare_orientations(Path(intensity), Path(labels))
    if len(images) not in (0, len(objects)):
        rule = f"has {len(images)} time points but the labels {labels} have {len(objects)}"
        ways = Remedy("give the image of these labels", "name one time point (--time 0; time=0)")
        raise DataError("measure.other_time_points", rule, key="intensity", file=intensity, remedy=ways)
    if raws[0] is not None and raws[0].spatial_shape != objects[0].spatial_shape:
        rule = f"has {raws[0].spatial_shape} voxels but the labels {labels} have {objects[0].spatial_shape}"
        raise DataError("measure.other_shape", rule, key="intensity", file=intensity, remedy="Give the image of these labels.")
    if any(looks_grey(spatial_array(frame)[0]) for frame in objects):
        rule, remedy = "looks like a grey image: almost every voxel has another value than its neighbours", "Give a label image."
        raise DataError("measure.grey_image", rule, key="labels", file=labels, remedy=remedy)
    return list(zip(objects, raws, strict=True)), about_metadata(ignored)


def measured_points(points: Sequence[Point], size: VoxelSize | None = None, extra: Sequence[str] = ()) -> list[pd.DataFrame]:
    """The objects of each time point; `size` overrides the voxel size of the labels."""
    return [measure(objects, voxel_size=size, intensity=None if raw is None else raw.canonical(), extra=extra) for objects, raw in points]


def one_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of all time points as one, with the column ``time`` first; a single table as it is."""
    if len(tables) == 1:
        return tables[0]
    rows = [len(table) for table in tables]
    # columns without rows may be of another type
    joined = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    joined.insert(0, "time", np.repeat(np.arange(len(tables)), rows))
    return joined


def _written(
    objects: Sequence[Image],
    tables: Sequence[pd.DataFrame],
    output: Path,
    *,
    remove: Sequence[str],
    kept: str | Path | None,
    size: VoxelSize | None,
) -> Iterator[Event]:
    """Write the tables and the labels of the remaining objects, which were checked before."""
    arrays = [spatial_array(frame)[0] for frame in objects] if remove or kept is not None else []
    if remove:
        filtered = [filter_objects(array, table, remove) for array, table in zip(arrays, tables, strict=True)]
        arrays, tables = [array for array, _ in filtered], [table for _, table in filtered]
    table = one_table(tables)
    if remove:
        full_table = output.with_name(f"{output.stem}_all{output.suffix}")
        write_table(full_table, table, digits=DIGITS)
        yield FileWritten(full_table, Artefact.FULL_TABLE, task=TASK)
        table = table[table["comment"] == "Correct"]
    write_table(output, table, digits=DIGITS)
    yield FileWritten(output, Artefact.TABLE, task=TASK)
    if kept is not None:
        axes, array = objects[0].axes.spatial_axes, arrays[0] if len(arrays) == 1 else np.stack(arrays)
        axes = Axes(axes if len(arrays) == 1 else f"T{axes}")
        write(kept, array, axes=axes, voxel_size=size, labels=True, overwrite=True, like=objects[0].source)
        yield FileWritten(Path(kept), Artefact.LABELS, "labels of the remaining objects", task=TASK)
    yield Logged(f"{len(table)} objects measured into {output}", task=TASK)


def check_table_name(path: Path) -> None:
    """Reject the name of a table that is the name of an image or of a folder.

    Raises:
        OptionError: when it does not end in ``.csv`` or ``.txt``.
    """
    if path.suffix.lower() not in (".csv", ".txt"):
        remedy = f"Write {path.name or 'objects'}.csv."
        raise OptionError(
            "table.suffix", "must end in .csv, because the table is written as CSV", key="output", value=str(path), remedy=remedy
        )
