"""Tables of label files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from morula.core.errors import DataError, FileWriteError, OptionError
from morula.core.events import Event, FileWritten, Finished, Logged
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.measurement.measure import measure


def measure_file(
    labels: str | Path, output: str | Path, *, intensity: str | Path | None = None, voxel_size: str | None = None, overwrite: bool = False
) -> Iterator[Event]:
    """Measure the objects of a label file and write the table.

    Raises:
        FileWriteError: when the table exists already.
        DataError: when image and labels differ in shape.
    """
    began = time.monotonic()
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileWriteError(f"{output} exists already. Replace it with --overwrite, or name another file.")
    objects = read_labels(labels)
    size = objects.voxel_size if voxel_size is None else VoxelSize.of(lengths(voxel_size), objects.ndim_spatial)
    raw = None if intensity is None else read(intensity)
    if raw is not None and raw.spatial_shape != objects.spatial_shape:
        raise DataError(
            f"{intensity} has {raw.spatial_shape} voxels but the labels {labels} have {objects.spatial_shape}. "
            "Give the image of these labels."
        )
    table = measure(objects, voxel_size=size, intensity=None if raw is None else raw.canonical())
    table.to_csv(output)
    yield FileWritten(output, "one row an object")
    yield Logged(f"{len(table)} objects measured into {output}")
    yield Finished("measure", time.monotonic() - began)


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
