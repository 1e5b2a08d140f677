"""A small table: named columns of equal length."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import DataError, MissingExtraError, UnknownNameError
from morula.core.family import did_you_mean

_UNIT = re.compile(r"_(px|voxels|[pnumc]?m|angstrom|inch)[23]?$")
_ALSO = {"npixels": "voxels", "area": "volume", "perimeter": "surface_area", "volume": "area", "surface_area": "perimeter"}


def without_unit(column: str) -> str:
    """A column's name without its unit.

    Examples:
        >>> without_unit("area_um2"), without_unit("voxels"), without_unit("equivalent_diameter_px")
        ('area', 'voxels', 'equivalent_diameter')
    """
    return _UNIT.sub("", column)


def find_column(columns: Iterable[str], name: str) -> str | None:
    """The column of this name, or whose name is this and a unit; `None` when there is none.

    What is an area in 2D is a volume in 3D, and a perimeter a surface: each finds the other.

    Examples:
        >>> find_column(["label", "voxels", "volume_um3", "surface_area_um2"], "area")
        'volume_um3'
        >>> find_column(["label", "voxels"], "npixels"), find_column(["area_um2", "area_convex"], "area")
        ('voxels', 'area_um2')
    """
    exact = {column: column for column in columns}
    stems = {without_unit(column): column for column in reversed(exact)}
    other = _ALSO.get(name, name)
    return exact.get(name) or exact.get(other) or stems.get(name) or stems.get(other)


class Table:
    """Named columns (1-D NumPy arrays, read-only) of equal length; ``len`` counts the rows.

    A column can be asked for without its unit (``area`` finds ``area_um2``, in 3D also ``volume_um3``), and `npixels` finds ``voxels``.

    Examples:
        >>> table = Table({"label": [1, 2], "voxels": [30, 12]})
        >>> table.columns, len(table), table["voxels"].max()
        (['label', 'voxels'], 2, np.int64(30))
        >>> table.sort_by("voxels")
        label  voxels
            2      12
            1      30
        [2 rows x 2 columns]

    Raises:
        DataError: when a column is not one-dimensional or the lengths differ.
    """

    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        arrays = {name: np.array(values) for name, values in columns.items()}
        if any(array.ndim != 1 for array in arrays.values()) or len({len(array) for array in arrays.values()}) > 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise DataError(f"columns have the shapes {shapes}; they are one-dimensional and of equal length.")
        for array in arrays.values():
            array.setflags(write=False)
        self._columns = arrays

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and find_column(self._columns, name) is not None

    def __getitem__(self, name: str) -> np.ndarray:
        found = find_column(self._columns, name)
        if found is None:
            raise UnknownNameError(
                f"the table has no column {name!r}; it has {', '.join(self._columns)}.{did_you_mean(name, self.columns)}"
            )
        return self._columns[found]

    def where(self, chosen: np.ndarray) -> Table:
        """The rows for which `chosen` (one bool a row) is true."""
        return Table({name: array[chosen] for name, array in self._columns.items()})

    def with_columns(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> Table:
        """This table with further columns on the right."""
        return Table({**self._columns, **columns})

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary of plain Python values a row."""
        for values in zip(*(array.tolist() for array in self._columns.values()), strict=True):
            yield dict(zip(self._columns, values, strict=True))

    def sort_by(self, name: str, *, descending: bool = False) -> Table:
        """The rows in the order of a column; rows of equal value keep theirs, NaN comes last."""
        values = self[name]
        order = np.argsort(values, kind="stable")
        if descending:
            order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
            if values.dtype.kind == "f":
                order = np.concatenate([order[~np.isnan(values[order])], order[np.isnan(values[order])]])
        return Table({other: array[order] for other, array in self._columns.items()})

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as CSV with a header line, whole or not at all.

        Raises:
            FileWriteError: when the file cannot be written.
        """
        from morula.measurement.csv_table import write_table

        return write_table(path, self._columns)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            MissingExtraError: when pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise MissingExtraError("pandas is not installed; install it (pip install pandas), or use to_csv.") from None
        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        shown = 10
        cells = [[name, *(_cell(value) for value in array[:shown].tolist())] for name, array in self._columns.items()]
        widths = [max(map(len, column)) for column in cells]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in zip(*cells, strict=True)]
        more = ["..."] if len(self) > shown else []
        return "\n".join([*lines, *more, f"[{len(self)} rows x {len(self._columns)} columns]"])


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
