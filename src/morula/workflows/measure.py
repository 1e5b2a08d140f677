"""Measure the objects of label files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from morula.core.claims import claimed
from morula.core.errors import DataError, FileWriteError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Warned
from morula.core.image import Image
from morula.core.image_like import spatial_array
from morula.core.manifest import RESULTS, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.core.remark import Remark
from morula.data.plausibility import background_with_id
from morula.data.summary import looks_grey, object_label_warnings
from morula.io.formats.nifti import compare_orientations
from morula.io.lazy import like, without_time, without_z
from morula.io.metadata import collected
from morula.io.read import label_places
from morula.io.write import check_labels_fit, destination, write
from morula.measurement.csv_table import DIGITS, write_table
from morula.measurement.filter import filter_objects
from morula.measurement.measure import measure
from morula.workflows.reading import Reading
from morula.workflows.sources import about_metadata

if TYPE_CHECKING:
    import pandas as pd

    from morula.core.voxel_size import VoxelSize

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
        labels: label file.
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
    objects, raw, ignored = labels_and_image(labels, intensity, reading)
    yield from (Warned(remark.code, remark, task=TASK) for remark in ignored)
    doubts = [*object_label_warnings([(objects, None)]), *background_with_id([objects])]
    yield from (Warned(doubt.code, f"{labels}: {doubt}", task=TASK) for doubt in doubts if doubt.code != "labels.empty")
    size = objects.voxel_size
    if size is None and raw is not None and raw.voxel_size is not None:
        size = raw.voxel_size
        text = f"{labels} states no voxel size; that of {intensity} is taken: {raw.spacing} {size.unit}"
        yield Warned("voxel_size.of_image", text, task=TASK)
    if kept is not None:
        check_labels_fit(kept, objects.spatial_shape, key="kept")
    table = measure(objects, voxel_size=size, intensity=None if raw is None else raw.canonical(), extra=extra)
    with claimed(each.path for each in outputs), ExitStack() as records:
        check_outputs(outputs, overwrite=overwrite)  # again: another process may have been faster
        for folder in {output.parent, Path(kept or output).expanduser().parent}:
            records.enter_context(recording(folder, RESULTS))
        yield from _written(objects, table, output, remove=remove, kept=kept, size=size)
    yield Finished(time.monotonic() - began, task=TASK)


def labels_and_image(labels: str | Path, intensity: str | Path | None, reading: Reading) -> tuple[Image, Image | None, list[Remark]]:
    """The labels, the image to measure in, and the warnings about ignored metadata.

    Raises:
        DataError: when image and labels differ in shape, or the labels look like a grey image.
    """
    with collected() as ignored:
        image = None if intensity is None else without_time(reading.open_image_of(intensity))
        # a volume of one plane is 2D
        objects = without_z(without_time(reading.open_labels(labels, None if image is None else image.spatial_shape)))
        raw = None if image is None else like(image, objects)
        if intensity is not None:
            compare_orientations(Path(intensity), Path(labels))
    if raw is not None and raw.spatial_shape != objects.spatial_shape:
        rule = f"has {raw.spatial_shape} voxels but the labels {labels} have {objects.spatial_shape}"
        raise DataError("measure.other_shape", rule, key="intensity", file=intensity, remedy="Give the image of these labels.")
    if looks_grey(spatial_array(objects)[0]):
        rule, remedy = "looks like a grey image: almost every voxel has another value than its neighbours", "Give a label image."
        raise DataError("measure.grey_image", rule, key="labels", file=labels, remedy=remedy)
    return objects, raw, about_metadata(ignored)


def _written(
    objects: Image, table: pd.DataFrame, output: Path, *, remove: Sequence[str], kept: str | Path | None, size: VoxelSize | None
) -> Iterator[Event]:
    """Write the tables and the labels of the remaining objects, which were checked before."""
    array = spatial_array(objects)[0]
    if remove:
        array, table = filter_objects(array, table, list(remove))
        full_table = output.with_name(f"{output.stem}_all{output.suffix}")
        write_table(full_table, table, digits=DIGITS)
        yield FileWritten(full_table, Artefact.FULL_TABLE, task=TASK)
        table = table[table["comment"] == "Correct"]
    write_table(output, table, digits=DIGITS)
    yield FileWritten(output, Artefact.TABLE, task=TASK)
    if kept is not None:
        write(kept, array, axes=objects.axes.spatial_axes, voxel_size=size, labels=True, overwrite=True, like=objects.source)
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
