"""CSV files: a header line, commas as separators, a point as the decimal mark, UTF-8."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import DataError, MissingFileError
from morula.core.file_errors import missing_file, unreadable_file
from morula.core.text import as_cell, printable

if TYPE_CHECKING:
    import pandas as pd


def write_table(
    path: str | os.PathLike[str],
    columns: Mapping[str, Sequence[object] | np.ndarray] | pd.DataFrame,
    *,
    overwrite: bool = True,
    digits: int | None = None,
) -> Path:
    """Write columns of equal length as CSV, atomically. Unknown values (`None`, NaN) are empty cells.

    Texts that a spreadsheet would run as a formula get a leading apostrophe; control characters are written as escapes.

    Args:
        path: file to write; missing folders are created.
        columns: a `pandas.DataFrame` (its index is not written), or a mapping from names to values.
        overwrite: replace an existing file.
        digits: significant digits of fractions; by default as many as it takes to read back the same number. Whole numbers are exact.

    Raises:
        DataError: for columns of different lengths.
        FileWriteError: when the file cannot be written, or exists and `overwrite` is false.

    Examples:
        >>> import tempfile
        >>> file = write_table(Path(tempfile.mkdtemp()) / "t.csv", {"label": [1, 2], "volume_um3": [0.5, float("nan")]})
        >>> print(file.read_text())
        label,volume_um3
        1,0.5
        2,
        <BLANKLINE>
    """
    path = Path(path).expanduser()
    cells = {str(name): columns[str(name)] for name in columns}
    lengths = {name: len(values) for name, values in cells.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError("table.unequal_columns", f"the columns differ in length: {listing}", file=path)
    with atomic(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(_cell, cells))
        writer.writerows(zip(*([_cell(value, digits) for value in values] for values in cells.values()), strict=True))
    return path


def read_table(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the columns of a CSV file with a header line.

    Returns:
        Arrays by column name: int64 where every cell is a whole number, else float64 (an empty cell is NaN), else strings.

    Raises:
        MissingFileError: when there is no such file.
        FileReadError: when it is not a table.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "t.csv"
        >>> _ = file.write_text("label,name\\n1,a\\n2,b\\n")
        >>> read_table(file)
        {'label': array([1, 2]), 'name': array(['a', 'b'], dtype='<U1')}
    """
    path = Path(path).expanduser()
    if not path.exists():
        error: MissingFileError = missing_file(path)
        raise error
    try:
        # Excel begins UTF-8 files with a byte order mark, which would become part of the first column's name
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise unreadable_file(path, failure) from failure
    rows = [row for row in rows if row]
    if not rows:
        raise unreadable_file(path, "it has no header line")
    header, body = rows[0], rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise unreadable_file(path, f"row {number} has {len(row)} cells but the header has {len(header)}")
    return {name: _column([row[i] for row in body]) for i, name in enumerate(header)}


DIGITS = 7
"""Significant digits of measurements: those of float32, which images have at most."""


def _cell(value: object, digits: int | None = None) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):  # names and classes come from files of others
        return as_cell(printable(value))
    if not isinstance(value, float):
        return value
    # the shortest text that is read back as the same number
    return repr(value if digits is None or value.is_integer() else float(f"{value:.{digits}g}"))


def _column(cells: list[str]) -> np.ndarray:
    for kind in (np.int64, np.float64):
        try:
            return np.array([float("nan") if kind is np.float64 and cell == "" else kind(cell) for cell in cells], dtype=kind)
        except (ValueError, OverflowError):
            continue
    return np.array(cells, dtype=str)
