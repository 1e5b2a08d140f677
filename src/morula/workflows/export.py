"""Export a label image for other programs: outlines, a coloured preview, the table as Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from morula.core.claims import claimed
from morula.core.errors import OptionError
from morula.core.events import Event, Finished, Logged, Warned
from morula.core.image_like import spatial_array
from morula.core.manifest import RESULTS, recording
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.io.read import label_places
from morula.measurement.measure import measure
from morula.methods.object_options import Export
from morula.workflows.exports import check_exports, export_path, parse_kinds, write_exports
from morula.workflows.measure import labels_and_image
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
        labels: a label image, or outlines in one of these formats.
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
    files = _files(Path(labels).expanduser(), kinds, None if output is None else Path(output).expanduser())
    read = [*label_places(labels), *([] if intensity is None else [intensity])]
    outputs = [Destination(file, proven=True) for file in files.values()]
    check_outputs(outputs, read, overwrite=overwrite)
    objects, raw, ignored = labels_and_image(labels, intensity, reading)
    yield from (Warned(remark.code, remark, task=TASK) for remark in ignored)
    array = spatial_array(objects)[0]
    check_exports(kinds, array.ndim, key="to")
    table = pd.DataFrame()
    if {"geojson", "parquet"} & set(kinds):
        table = measure(objects, intensity=None if raw is None else raw.canonical())
    with claimed(files.values()), ExitStack() as records:
        check_outputs(outputs, overwrite=overwrite)  # again: another process may have been faster
        for folder in {file.parent for file in files.values()}:
            folder.mkdir(parents=True, exist_ok=True)
            records.enter_context(recording(folder, RESULTS))
        yield from write_exports(array, table, objects, files)
    yield Logged(f"{labels} exported as {', '.join(kinds)}", task=TASK)
    yield Finished(time.monotonic() - began, task=TASK)


_SUFFIXES: dict[Export, tuple[str, ...]] = {
    "rois": (".zip",),
    "geojson": (".geojson", ".json"),
    "coco": (".json",),
    "preview": (".tif", ".tiff"),
    "parquet": (".parquet",),
}


def _files(labels: Path, kinds: Sequence[Export], output: Path | None) -> dict[Export, Path]:
    """The file of each export."""
    beside = {kind: export_path(labels, kind) for kind in kinds}
    if output is None:
        return beside
    if output.suffix and not output.is_dir():
        if len(kinds) > 1:
            remedy = "Name a folder, or one format."
            raise OptionError("export.one_file", f"is one file for {len(kinds)} formats", key="output", value=str(output), remedy=remedy)
        if output.suffix.lower() not in _SUFFIXES[kinds[0]]:
            rule, remedy = f"must end in {_SUFFIXES[kinds[0]][0]} for {kinds[0]}", "Rename it, or name a folder."
            raise OptionError("export.suffix", rule, key="output", value=str(output), remedy=remedy)
        return {kinds[0]: output}
    return {kind: output / file.name for kind, file in beside.items()}
