"""Tables of label files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from morula.core.errors import DataError, FileWriteError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged
from morula.core.image import spatial_array
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.measurement.csv_table import write_table
from morula.measurement.filter import filter_objects
from morula.measurement.measure import measure

TASK = ("measure",)


def measure_file(
    labels: str | Path,
    output: str | Path,
    *,
    intensity: str | Path | None = None,
    voxel_size: str | None = None,
    extra: Sequence[str] = (),
    remove: Sequence[str] = (),
    kept: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[Event]:
    """Measure the objects of a label file and write the table.

    Args:
        labels: label file.
        output: CSV file. With `remove` it holds the objects that remain, and NAME_all.csv beside it all of them with the verdict on each.
        intensity: image of the same shape.
        voxel_size: edge lengths in micrometres such as ``1.75,0.8,0.8``; the file's own when left out.
        extra: region properties of scikit-image.
        remove: conditions such as ``npixels < 100 and circularity <= 0.7``; an object that satisfies one of them is removed.
        kept: label file to write of the objects that remain.
        overwrite: replace existing files.

    Raises:
        FileWriteError: when a file exists already.
        DataError: when image and labels differ in shape.
        OptionError: for a property that there is not, or a text that is no condition.
    """
    began = time.monotonic()
    output = Path(output)
    everything = output.with_name(f"{output.stem}_all{output.suffix}")
    files = [output, *([everything] if remove else []), *([Path(kept)] if kept else [])]
    taken = [str(file) for file in files if file.exists()]
    if taken and not overwrite:
        raise FileWriteError(f"{', '.join(taken)} exist{'s' * (len(taken) == 1)} already. Replace with --overwrite, or name another file.")
    objects = read_labels(labels)
    size = objects.voxel_size if voxel_size is None else VoxelSize.of(lengths(voxel_size), objects.ndim_spatial)
    raw = None if intensity is None else read(intensity)
    if raw is not None and raw.spatial_shape != objects.spatial_shape:
        raise DataError(
            f"{intensity} has {raw.spatial_shape} voxels but the labels {labels} have {objects.spatial_shape}. "
            "Give the image of these labels."
        )
    table = measure(objects, voxel_size=size, intensity=None if raw is None else raw.canonical(), extra=extra)
    array = spatial_array(objects)[0]
    if remove:
        array, table = filter_objects(array, table, list(remove))
        write_table(everything, table)
        yield FileWritten(everything, Artefact.FULL_TABLE, task=TASK)
        table = table[table["comment"] == "Correct"]
    write_table(output, table)
    yield FileWritten(output, Artefact.TABLE, task=TASK)
    if kept is not None:
        write(kept, array, axes=objects.axes.spatial_axes, voxel_size=size, labels=True, overwrite=overwrite)
        yield FileWritten(Path(kept), Artefact.LABELS, "labels of the remaining objects", task=TASK)
    yield Logged(f"{len(table)} objects measured into {output}", task=TASK)
    yield Finished(time.monotonic() - began, task=TASK)


def lengths(text: str) -> list[float]:
    """Numbers of a text such as ``1.75,0.8,0.8``.

    Examples:
        >>> lengths("1.75,0.8,0.8")
        [1.75, 0.8, 0.8]
    """
    try:
        return [float(part) for part in text.replace(" ", "").split(",")]
    except ValueError:
        raise OptionError(
            f"voxel size {text!r} is not understood; write the edge lengths in micrometres, for example 1.75,0.8,0.8."
        ) from None
