"""The tables of all images of a segmentation: `experiment.csv` with their objects, `summary.csv` with one row per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from morula.core.events import Artefact, Event, FileWritten
from morula.core.manifest import is_result
from morula.core.outputs import Destination
from morula.measurement.csv_table import DIGITS, read_table, write_table
from morula.measurement.experiment import Table, experiment_table, summary_table

EXPERIMENT, SUMMARY = "experiment.csv", "summary.csv"


def experiment_destinations(folder: Path) -> list[Destination]:
    """The two tables of a folder of results."""
    return [Destination(folder / name, proven=True) for name in (EXPERIMENT, SUMMARY)]


def write_experiment(folder: Path, tables: Mapping[str, Path], *, extend: bool = False) -> Iterator[Event]:
    """Write both tables from the tables of the images; nothing where there are none.

    Args:
        folder: where they are written.
        tables: the table of each image, by the name of the image.
        extend: keep the rows of other images in tables that Morula wrote before: of an earlier command with the same folder.
    """
    if not tables:
        return
    found: dict[str, Table] = _earlier(folder / EXPERIMENT, set(tables)) if extend and is_result(folder / EXPERIMENT) else {}
    found |= {name: read_table(file) for name, file in tables.items()}
    write_table(folder / EXPERIMENT, experiment_table(found), digits=DIGITS)
    yield FileWritten(folder / EXPERIMENT, Artefact.EXPERIMENT)
    write_table(folder / SUMMARY, summary_table(found), digits=DIGITS)
    yield FileWritten(folder / SUMMARY, Artefact.SUMMARY)


def _earlier(file: Path, replaced: set[str]) -> dict[str, Table]:
    """The rows of other images in a table of an earlier command."""
    columns = read_table(file)
    images = columns.pop("image").astype(str)
    names = [name for name in dict.fromkeys(images.tolist()) if name not in replaced]
    return {name: {column: values[images == name] for column, values in columns.items()} for name in names}
