"""The base of all options and of the job: frozen, strict, no unknown key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from morula.core.errors import OptionError
from morula.core.family import did_you_mean


class Options(BaseModel):
    """Settings of one thing. Unknown keys and wrong types are errors; a value never changes after it was checked.

    Every field has a `description`: the reference page, the command line and the forms are made from it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
    )


OptionsType = TypeVar("OptionsType", bound=Options)


def validated(kind: type[OptionsType], values: Mapping[str, Any] | Options | None, name: str) -> OptionsType:
    """Options of a kind from plain values; what is an `Options` already is taken as it is.

    Raises:
        OptionError: naming every key that is unknown or breaks its rule.

    Examples:
        >>> class Colour(Options):
        ...     hue: int = 0
        >>> validated(Colour, {"hua": 3}, "colour")
        Traceback (most recent call last):
        morula.core.errors.OptionError: colour: unknown option 'hua'; known are hue. Did you mean 'hue'?
    """
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate(dict(values or {}))
    except ValidationError as error:
        problems = []
        for each in error.errors():
            key = ".".join(str(part) for part in each["loc"])
            if each["type"] == "extra_forbidden":
                problems.append(
                    f"unknown option {key!r}; known are {', '.join(kind.model_fields)}.{did_you_mean(key, list(kind.model_fields))}"
                )
            elif each["type"] == "missing":
                problems.append(_lacking(kind, key, dict(values or {}).get("kind")))
            else:
                given = f" {each['input']!r}" if key else ""
                problems.append(f"{key}{given}: {each['msg'].removeprefix('Value error, ')}".removeprefix(": "))
        raise OptionError(f"{name}: {'; '.join(problems)}") from None


def _lacking(kind: type[Options], key: str, variant: str | None) -> str:
    """That an option without a value of its own was left out, what it means, and how to write it."""
    field = kind.model_fields.get(key)
    meaning = "" if field is None or field.description is None else f" ({field.description.split('. ')[0].rstrip('.')})"
    return f"lacks its {key}{meaning}; write {f'{{{variant!r}: {{{key!r}: ...}}}}' if variant else f'{key}: ...'}"
