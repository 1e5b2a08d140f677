"""Tables of several images: all their objects in one, and one row per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from morula.measurement.table import without_unit

_MEANS = ("area", "volume", "equivalent_diameter", "aspect_ratio", "circularity", "sphericity", "confidence")
"""Columns of which a summary gives the mean, besides those of intensities."""

Table = Mapping[str, Sequence[object] | np.ndarray]


def experiment_table(tables: Mapping[str, Table]) -> dict[str, list[object]]:
    """All objects of several images: the columns of their tables after a column `image`. What an image lacks is `None`.

    Args:
        tables: columns of the objects, by the name of the image.

    Examples:
        >>> experiment_table({"a": {"label": [1, 2]}, "b": {"label": [1], "class": [3]}})
        {'image': ['a', 'a', 'b'], 'label': [1, 2, 1], 'class': [None, None, 3]}
    """
    names = list(dict.fromkeys(str(name) for table in tables.values() for name in table))
    lengths = {image: _length(table) for image, table in tables.items()}
    columns: dict[str, list[object]] = {"image": [image for image, n in lengths.items() for _ in range(n)]}
    for name in names:
        columns[name] = [value for image, table in tables.items() for value in (table[name] if name in table else [None] * lengths[image])]
    return columns


def summary_table(tables: Mapping[str, Table]) -> dict[str, list[object]]:
    """One row per image: number of objects, of those at the border, of those of each class; sum of the sizes; means of measurements.

    Examples:
        >>> table = {"label": [1, 2], "area_um2": np.array([1.0, 3.0]), "touches_border": np.array([0, 1])}
        >>> summary_table({"a": table})
        {'image': ['a'], 'objects': [2], 'at_border': [1], 'area_um2_sum': [4.0], 'area_um2_mean': [2.0]}
    """
    rows = [_row(image, table) for image, table in tables.items()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name, 0 if name.startswith("objects_") else None) for row in rows] for name in names}


def _row(image: str, table: Table) -> dict[str, object]:
    row: dict[str, object] = {"image": image, "objects": _length(table)}
    if "touches_border" in table:
        row["at_border"] = int(np.sum(np.asarray(table["touches_border"], np.int64)))
    if "class_name" in table:
        found, counts = np.unique(np.asarray(table["class_name"], str), return_counts=True)
        row |= {f"objects_{name}": int(count) for name, count in zip(found.tolist(), counts.tolist(), strict=True)}
    for name, values in table.items():
        plain = without_unit(str(name))
        if plain in ("area", "volume"):
            row[f"{name}_sum"] = float(np.sum(_numbers(values)))
        if plain in _MEANS or plain.endswith(("intensity_mean", "intensity_sum")):
            known = _numbers(values)
            known = known[np.isfinite(known)]
            row[f"{name}_mean"] = float(known.mean()) if known.size else None
    return row


def _numbers(values: Sequence[object] | np.ndarray) -> np.ndarray:
    """Values as numbers; a column of an image without objects has none, whatever its type."""
    array = np.asarray(values)
    return array.astype(np.float64) if array.size else np.zeros(0)


def _length(table: Table) -> int:
    return len(next(iter(table.values()), ()))
