"""Conditions on measured properties, in any of their spellings: ``npixels < 100 and circularity <= 0.7``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator

from morula.core.errors import OptionError
from morula.core.options import Options, validated

Sign = Literal["gt", "ge", "lt", "le"]
_SIGNS: Mapping[str, Sign] = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
_TEXT = re.compile(r"\s*(\w+)\s*(>=|<=|>|<|\b(?:gt|ge|lt|le)\b)\s*(\S+)\s*")


class Condition(Options):
    """A comparison of a measured property with a number; a mapping, or a text such as `npixels < 100`."""

    property: str
    """Column of the table of objects, with or without its unit: `npixels`, `area`, `circularity`, `solidity`."""
    sign: Sign
    """`gt` (>), `ge` (>=), `lt` (<) or `le` (<=)."""
    value: float
    """Number to compare with; lengths, areas and volumes are in the unit of the column."""

    def __str__(self) -> str:
        sign = next(text for text, name in _SIGNS.items() if name == self.sign)
        return f"{self.property} {sign} {self.value:g}"


def _parse_text(value: object) -> object:
    """A condition that is written as text, as a mapping; anything else unchanged."""
    if not isinstance(value, str):
        return value
    parts = _TEXT.fullmatch(value)
    remedy = "Write a property, a sign and a number, for example 'npixels < 100'."
    if parts is None:
        raise OptionError("condition.syntax", "is not a condition", value=value, remedy=remedy)
    name, sign, number = parts.groups()
    try:
        return {"property": name, "sign": _SIGNS.get(sign, sign), "value": float(number)}
    except ValueError:
        raise OptionError(
            "condition.not_a_number", f"compares with {number!r}, which is not a number", value=value, remedy=remedy
        ) from None


def _split_conjunction(value: object) -> object:
    """A group of conditions as a sequence; a text may join several by `and`."""
    if isinstance(value, str):
        return tuple(re.split(r"\band\b", value))
    if isinstance(value, list | tuple) and not value:
        raise OptionError(
            "condition.empty_list",
            "a list of conditions is empty, so that every object would satisfy it",
            remedy="Write at least one condition, or remove the list.",
        )
    return (value,) if isinstance(value, Mapping | Condition) else value


All = Annotated[
    tuple[Annotated[Condition, BeforeValidator(_parse_text)], ...],
    BeforeValidator(_split_conjunction),
]
"""A group of conditions that all have to hold."""


def _parse_groups(value: object) -> object:
    """Groups of conditions: unchanged, one text or condition alone, or three nested lists under `props`, `values` and `sign`."""
    if isinstance(value, str) or (isinstance(value, Mapping) and "property" in value):
        return (value,)
    if not isinstance(value, Mapping):
        return value
    given = {_KEYS.get(str(key).lower(), str(key).lower()): lists for key, lists in value.items()}
    remedy = "Write props, values and signs, each a list of lists with one inner list per group: props: [[area]]."
    if set(given) != {"props", "values", "signs"}:
        raise OptionError("condition.keys", f"has the keys {', '.join(map(str, value))}", remedy=remedy)
    parts = [given[key] for key in ("props", "signs", "values")]
    if not all(isinstance(lists, list | tuple) and all(isinstance(inner, list | tuple) for inner in lists) for lists in parts):
        raise OptionError("condition.nested_lists", "props, values and signs must be lists of lists", remedy=remedy)
    if len({tuple(len(inner) for inner in lists) for lists in parts}) > 1:
        raise OptionError(
            "condition.unequal_lists", "props, values and signs differ in length", remedy="Give each property one value and one sign."
        )
    names = ("property", "sign", "value")
    groups = zip(*parts, strict=True)
    return tuple(tuple(dict(zip(names, condition, strict=True)) for condition in zip(*group, strict=True)) for group in groups)


_KEYS = {"properties": "props", "sign": "signs"}
AnyOfAll = Annotated[tuple[All, ...], BeforeValidator(_parse_groups)]
"""Groups of conditions of which at least one has to hold."""


class _Conditions(Options):
    remove: AnyOfAll


def parse_conditions(remove: object) -> tuple[tuple[Condition, ...], ...]:
    """Groups of conditions from any of their spellings, see `filter_objects`.

    Raises:
        OptionError: for a value that is not a condition.

    Examples:
        >>> groups = parse_conditions(["npixels < 100 and circularity <= 0.7", ["area > 500"]])
        >>> [[str(condition) for condition in group] for group in groups]
        [['npixels < 100', 'circularity <= 0.7'], ['area > 500']]
    """
    return validated(_Conditions, {"remove": remove}, "conditions").remove
