"""Results for other programs beside the labels of an image: outlines, a coloured preview, and the table as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import OptionError
from morula.core.events import Artefact, Event, FileWritten
from morula.core.image import Image
from morula.core.location import stem_of
from morula.core.outputs import Destination
from morula.core.palette import colours_of
from morula.io.formats.base import Format, Target
from morula.io.formats.coco import Coco
from morula.io.formats.geojson import GeoJson
from morula.io.formats.rois import Rois
from morula.io.write import write
from morula.measurement.parquet_table import check_parquet, write_parquet
from morula.methods.object_options import EXPORTS, Export
from morula.workflows.result_files import file_of_results, point_name

if TYPE_CHECKING:
    import pandas as pd

_OUTLINES: dict[str, type[Format]] = {"rois": Rois, "geojson": GeoJson, "coco": Coco}


WHOLE_SERIES: frozenset[Export] = frozenset({"preview", "parquet"})
"""Exports that hold all time points of a series; of the others, each time point has one."""


def export_path(labels_file: Path, kind: Export, point: int | None = None) -> Path:
    """Path of an export of a label file, or of one time point of it.

    Examples:
        >>> export_path(Path("out/cells.ome.zarr"), "rois").name, export_path(Path("cells.t1.tif"), "preview").name
        ('cells_rois.zip', 'cells.t1_preview.tif')
        >>> export_path(Path("cells.tif"), "coco", 3).name
        'cells_t0003_coco.json'
    """
    place = file_of_results(labels_file)
    stem = stem_of(place)
    return place.with_name(f"{stem if point is None else point_name(stem, point)}{EXPORTS[kind]}")


def export_paths(labels_file: Path, kinds: Sequence[Export], points: int = 1) -> list[dict[Export, Path]]:
    """The files of the exports of a label file. Of a series: those of each time point, and at the end those that hold all time points."""
    if points == 1:
        return [{kind: export_path(labels_file, kind) for kind in kinds}]
    single = [{kind: export_path(labels_file, kind, point) for kind in kinds if kind not in WHOLE_SERIES} for point in range(points)]
    return [*single, {kind: export_path(labels_file, kind) for kind in kinds if kind in WHOLE_SERIES}]


def export_destinations(labels_file: Path, kinds: Sequence[Export]) -> list[Destination]:
    """The files of the exports of a label file; only files that are as Morula wrote them are replaced."""
    return [Destination(export_path(labels_file, kind), proven=True) for kind in kinds]


def check_exports(kinds: Sequence[Export], ndim: int, *, key: str) -> None:
    """Reject exports that cannot hold images of `ndim` dimensions, or whose package is not installed.

    Raises:
        OptionError: ``export.volume``.
        MissingExtraError: ``extra.pyarrow``.
    """
    if ndim == 3 and "coco" in kinds:
        rule = "cannot hold volumes: COCO holds objects of 2D images"
        raise OptionError("export.volume", rule, key=key, value="coco", remedy="Write rois or geojson, which have outlines per plane.")
    if "parquet" in kinds:
        check_parquet(Path("table.parquet"))


def write_exports(labels: np.ndarray, table: pd.DataFrame, image: Image, files: Mapping[Export, Path]) -> Iterator[Event]:
    """Write the exports of one image.

    Args:
        labels: label image (Z)YX.
        table: its objects, one row each.
        image: the image that the labels belong to, or the label image itself: its voxel size and source are taken.
        files: the file of each export.
    """
    axes = image.axes.spatial_axes
    for kind, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind in _OUTLINES:
            like = None if image.source is None else Path(image.source)
            target = Target(axes, image.voxel_size, labels=True, like=like, properties=properties_of(table))
            with atomic(file) as part:
                _OUTLINES[kind]().write(part, labels, target)
            yield FileWritten(file, Artefact.OUTLINES)
        elif kind == "preview":
            write(file, colours_of(labels), axes=f"{axes}C", voxel_size=image.voxel_size, overwrite=True)
            yield FileWritten(file, Artefact.COLOURED)
        else:
            yield FileWritten(write_parquet(file, table), Artefact.TABLE, "as Parquet")


def properties_of(table: pd.DataFrame) -> dict[int, dict[str, object]]:
    """The measurements of each object: the numbers of its row, and the name of its class."""
    if "label" not in table:  # one row per class, not per object
        return {}
    names = [str(name) for name in table.columns if name != "label"]
    columns = {name: np.asarray(table[name]) for name in names}
    numbers = {name: values for name, values in columns.items() if values.dtype.kind in "uif"}
    found: dict[int, dict[str, object]] = {}
    for row, label in enumerate(np.asarray(table["label"]).tolist()):
        measured: dict[str, object] = {name: _short(values[row]) for name, values in numbers.items() if np.isfinite(values[row])}
        if "class_name" in columns:
            measured["class_name"] = str(columns["class_name"][row])
        found[int(label)] = measured
    return found


def _short(value: np.generic) -> object:
    """A number with the digits that a measurement has."""
    number = value.item()
    return float(f"{number:.7g}") if isinstance(number, float) else number


def parse_kinds(texts: Sequence[str], *, key: str) -> tuple[Export, ...]:
    """Names of exports, also several in one text, separated by commas.

    Raises:
        OptionError: for a name that is none.

    Examples:
        >>> parse_kinds(["rois,geojson", "rois"], key="also")
        ('rois', 'geojson')
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    unknown = next((name for name in names if name not in EXPORTS), None)
    if unknown is not None:
        rule = f"is none of {', '.join(EXPORTS)}"
        raise OptionError("export.unknown", rule, key=key, value=unknown, remedy="Correct its name.")
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]
