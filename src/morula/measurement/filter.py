"""Removal of objects by what was measured on them."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.core.image import spatial_array
from morula.core.label_image import check_labels, compact_ids
from morula.core.options import Options, validated
from morula.core.voxel_size import VoxelSize
from morula.kernels.object_tables import select
from morula.measurement.table import Table, find_column, without_unit

Sign = Literal["gt", "ge", "lt", "le"]
_SIGNS: Mapping[str, Sign] = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
_TEXT = re.compile(r"\s*(\w+)\s*(>=|<=|>|<|\b(?:gt|ge|lt|le)\b)\s*(\S+)\s*")


class Condition(Options):
    """A measured property compared with a number; written out, or as a text such as `npixels < 100`."""

    property: str
    """Column of the table of objects, with or without its unit: `npixels`, `area`, `circularity`, `solidity`."""
    sign: Sign
    """`gt` (>), `ge` (>=), `lt` (<) or `le` (<=)."""
    value: float
    """Number that it is compared with; lengths, areas and volumes in the unit of the column."""

    def __str__(self) -> str:
        sign = next(text for text, name in _SIGNS.items() if name == self.sign)
        return f"{self.property} {sign} {self.value:g}"


def _expand_variant(value: Any) -> Any:
    """A condition written as a text as a mapping; what is none comes back as it is."""
    found = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, str) and found is None:
        raise ValueError(f"{value!r} is no condition; write a property, a sign and a number: 'npixels < 100'")
    if found is None:
        return value
    name, sign, number = found.groups()
    try:
        return {"property": name, "sign": _SIGNS.get(sign, sign), "value": float(number)}
    except ValueError:
        raise ValueError(f"{value!r} compares with {number!r}, which is no number; write for example 'npixels < 100'") from None


def _listed(value: Any) -> Any:
    """All of these conditions: a list, one condition alone, or a text that joins them by `and`."""
    if isinstance(value, str):
        return tuple(re.split(r"\band\b", value))
    if isinstance(value, list | tuple) and not value:
        raise ValueError("a list of conditions is empty, so every object would satisfy it; write at least one condition, or drop the list")
    return (value,) if isinstance(value, Mapping | Condition) else value


All = Annotated[
    tuple[Annotated[Condition, BeforeValidator(_expand_variant)], ...],
    BeforeValidator(_listed),
]
"""Conditions that all have to hold."""


def _lists(value: Any) -> Any:
    """Lists of conditions: as they are, a text or a condition alone, or three nested lists under `props`, `values` and `sign`."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) and "property" in value:
        return (value,)
    if not isinstance(value, Mapping):
        return value
    given = {_KEYS.get(str(key).lower(), str(key).lower()): lists for key, lists in value.items()}
    if set(given) != {"props", "values", "signs"}:
        raise ValueError(f"conditions have the keys {', '.join(map(str, value))}; write props, values and signs, each a list of lists")
    parts = [given[key] for key in ("props", "signs", "values")]
    if not all(isinstance(lists, list | tuple) and all(isinstance(inner, list | tuple) for inner in lists) for lists in parts):
        raise ValueError("props, values and signs are lists of lists, an inner list for each that an object may satisfy: props: [[area]]")
    if len({tuple(len(inner) for inner in lists) for lists in parts}) > 1:
        raise ValueError("props, values and signs do not agree in length; each property has one value and one sign")
    names = ("property", "sign", "value")
    groups = zip(*parts, strict=True)
    return tuple(tuple(dict(zip(names, each, strict=True)) for each in zip(*group, strict=True)) for group in groups)


_KEYS = {"properties": "props", "sign": "signs"}
AnyOfAll = Annotated[tuple[All, ...], BeforeValidator(_lists)]
"""Lists of conditions; one of the lists has to hold."""


class _Conditions(Options):
    remove: AnyOfAll


def parse_conditions(remove: Any) -> tuple[tuple[Condition, ...], ...]:
    """Lists of conditions in any of their spellings.

    Raises:
        OptionError: for what is no condition.

    Examples:
        >>> [[str(each) for each in group] for group in parse_conditions(["npixels < 100 and circularity <= 0.7", ["area > 500"]])]
        [['npixels < 100', 'circularity <= 0.7'], ['area > 500']]
    """
    return validated(_Conditions, {"remove": remove}, "conditions").remove


def satisfied_conditions(table: Table, remove: Any) -> np.ndarray:
    """Whether each object (row) satisfies each list of conditions, (rows, lists) bool. An unknown value (NaN) satisfies none.

    Raises:
        OptionError: for a property that the table has not.

    Examples:
        >>> satisfied_conditions(Table({"label": [1, 2], "voxels": [50, 900]}), [["npixels < 100"], ["npixels > 10", "npixels < 1000"]])
        array([[ True,  True],
               [False,  True]])
    """
    groups = parse_conditions(remove)
    met = np.ones((len(table), len(groups)), np.bool_)
    for column, group in enumerate(groups):
        for condition in group:
            if find_column(table.columns, condition.property) is None:
                raise OptionError(
                    "condition.unknown_property",
                    f"names a property that is not measured; there are {', '.join(table.columns)}",
                    key="condition",
                    value=str(condition),
                    remedy=f"{did_you_mean(condition.property, table.columns)} Measure further properties with `extra`.",
                )
            met[:, column] &= getattr(operator, condition.sign)(table[condition.property], condition.value)
    return met


def check_conditions(
    remove: Any, ndim: int, *, channels: int = 0, extra: Sequence[str] = (), unit: str = "", also: Sequence[str] = ()
) -> None:
    """Refuse conditions on properties that images of so many dimensions and channels will not have.

    Args:
        remove: conditions in any of their spellings.
        ndim: 2 or 3.
        channels: of the images in which intensities are measured; 0 where none are.
        extra: further properties that are measured.
        unit: of the images' voxel size; left out, any unit may stand behind a property.
        also: further columns that the table will have.

    Raises:
        OptionError: naming the property and those that there are.

    Examples:
        >>> check_conditions("sphericity < 0.5", 3)
        >>> check_conditions("volume_um3 < 0.5", 3, unit="um")
        >>> check_conditions("circularty < 0.5", 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        morula.core.errors.OptionError: condition = 'circularty < 0.5': names a property ... Did you mean 'circularity'? ...
    """
    from morula.measurement.measure import measure

    probe = np.ones((4,) * ndim, np.uint8)
    pictures = np.ones((channels, *probe.shape), np.float32) if channels else None
    size = VoxelSize(1, 1, 1, unit) if unit else None
    table = measure(probe, voxel_size=size, intensity=pictures, extra=extra, confidence=[1.0])
    table = table.with_columns({name: np.ones(1) for name in also})
    if not unit:
        table = Table({without_unit(name): table[name] for name in table.columns})
    for group in parse_conditions(remove):
        for each in group:
            satisfied_conditions(table, [[each if unit else each.model_copy(update={"property": without_unit(each.property)})]])


def with_verdicts(table: Table, remove: Any) -> Table:
    """The table with two more columns: `comment` (``Removed`` or ``Correct``) and `conditions` (which lists it satisfies).

    An object is removed when it satisfies one of the lists, and a list when it satisfies all of its conditions.

    Examples:
        >>> found = with_verdicts(Table({"label": [1, 2], "voxels": [50, 900]}), [["npixels < 100"], ["npixels > 10", "npixels < 60"]])
        >>> found["comment"].tolist(), found["conditions"].tolist()[1]
        (['Removed', 'Correct'], "['No satisfied', 'No satisfied']")
    """
    met = satisfied_conditions(table, remove)
    comment = np.where(met.any(axis=1), "Removed", "Correct")
    words = [str(["Satisfied" if each else "No satisfied" for each in row]) for row in met.tolist()]
    return table.with_columns({"comment": comment, "conditions": np.array(words, dtype=str)})


def filter_objects(labels: Any, table: Table, remove: Any) -> tuple[np.ndarray, Table]:
    """Labels without the objects that satisfy one of some lists of conditions, and the table of all objects with the verdict on each.

    Args:
        labels: ids (Z)YX, an array or `Image`.
        table: what `measure` found in them.
        remove: lists of conditions, for example ``[["area > 500"], ["npixels < 100", "circularity <= 0.7"]]``: what is larger than 500
            goes, and what is both small and not round. A condition is a text or a mapping ``{"property": ..., "sign": ..., "value": ...}``;
            ``{"props": [[...]], "values": [[...]], "signs": [[...]]}`` says the same with three lists of lists.

    Returns:
        The labels with unchanged ids and type, and the table with the columns of `with_verdicts`; rows with the comment ``Correct`` remain.

    Raises:
        OptionError: for what is no condition, or a property that was not measured.

    Examples:
        >>> from morula.measurement.measure import measure
        >>> labels = np.array([[1, 1, 1, 0, 7]], np.uint16)
        >>> filter_objects(labels, measure(labels), ["npixels < 2"])[0]
        array([[1, 1, 1, 0, 0]], dtype=uint16)
    """
    verdict = with_verdicts(table, remove)
    array, _ = spatial_array(labels)
    gone = verdict["label"][verdict["comment"] == "Removed"]
    return remove_ids(array, gone), verdict


def remove_ids(labels: np.ndarray, gone: Sequence[int] | np.ndarray) -> np.ndarray:
    """Labels without some ids.

    Examples:
        >>> remove_ids(np.array([[1, 2, 3]], np.uint16), [1, 3])
        array([[0, 2, 0]], dtype=uint16)
    """
    array = np.ascontiguousarray(labels)
    ids, largest = compact_ids(check_labels(array))
    kept = np.ones(largest + 1, np.bool_)
    kept[np.unique(ids[np.isin(array, gone)])] = False
    out = np.zeros_like(array)
    select(array.ravel(), ids.ravel(), kept, out.ravel())
    return out
