"""Columns of a table of objects: found with or without the unit that their name ends in.

`morula.measure` returns a `pandas.DataFrame`. The functions of this package also take a plain mapping from column names to arrays, so that
code which needs no DataFrame does not import pandas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from morula.core.errors import UnknownNameError
from morula.core.family import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Columns: TypeAlias = "Mapping[str, np.ndarray] | pd.DataFrame"
"""Named columns of equal length."""

_UNIT = re.compile(r"_(px|voxels|[pnumc]?m|angstrom|inch)[23]?$")
_SYNONYMS = {"npixels": "voxels", "area": "volume", "perimeter": "surface_area", "volume": "area", "surface_area": "perimeter"}


def without_unit(column: str) -> str:
    """A column's name without its unit.

    Examples:
        >>> without_unit("area_um2"), without_unit("voxels"), without_unit("equivalent_diameter_px")
        ('area', 'voxels', 'equivalent_diameter')
    """
    return _UNIT.sub("", column)


def find_column(columns: Iterable[str], name: str) -> str | None:
    """Name of the column that is called `name`, or `name` followed by a unit; `None` when there is none.

    An area in 2D corresponds to a volume in 3D and a perimeter to a surface area: each name finds the other column.

    Args:
        columns: column names, or a table.
        name: name with or without unit; ``npixels`` is a synonym of ``voxels``.

    Examples:
        >>> find_column(["label", "voxels", "volume_um3", "surface_area_um2"], "area")
        'volume_um3'
        >>> find_column(["label", "voxels"], "npixels"), find_column(["area_um2", "area_convex"], "area")
        ('voxels', 'area_um2')
    """
    exact = {column: column for column in columns}
    # reversed: where several columns differ in their unit only, the first one is found
    stems = {without_unit(column): column for column in reversed(exact)}
    synonym = _SYNONYMS.get(name, name)
    return exact.get(name) or exact.get(synonym) or stems.get(name) or stems.get(synonym)


def column(table: Columns, name: str) -> np.ndarray:
    """Values of the column that is called `name`, or `name` followed by a unit.

    Args:
        table: `pandas.DataFrame` or mapping from names to arrays.
        name: as for `find_column`.

    Returns:
        One value per row.

    Raises:
        UnknownNameError: when there is no such column; the message names the nearest one.

    Examples:
        >>> column({"label": np.array([1, 2]), "area_um2": np.array([0.5, 3.0])}, "area")
        array([0.5, 3. ])
    """
    names = [str(known) for known in table]
    found = find_column(names, name)
    if found is None:
        raise UnknownNameError(
            "table.unknown_column",
            f"is not a column; there are {', '.join(names)}",
            key="column",
            value=name,
            remedy=did_you_mean(name, names),
        )
    return np.asarray(table[found])
