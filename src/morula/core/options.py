"""The base class of all options and of the job: frozen, strict, no unknown key; and what pydantic finds wrong, as problems with codes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from morula.core.attribute_docs import attribute_docs
from morula.core.errors import UNSET, InvalidOptionsError, MorulaError, OptionError, Problem
from morula.core.family import did_you_mean


class Options(BaseModel):
    """Settings of one thing. Unknown keys and wrong types are errors; an instance never changes.

    Every field is described by the string below it (`description_of`), for the reference page, help texts and forms.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
    )

    earlier_names: ClassVar[Mapping[str, str]] = {}
    """Fields that were renamed, as earlier name: present name, ``outer.inner`` where they moved into a section. The earlier names are still
    accepted."""

    @model_validator(mode="before")
    @classmethod
    def _accept_earlier_names(cls, values: object) -> object:
        return rename_keys(values, cls.earlier_names) if cls.earlier_names and isinstance(values, Mapping) else values

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema, with the description of each field."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, field in cls.model_fields.items():
            meaning = description_of(cls, name)
            for key in {name, field.alias} & set(properties) if meaning else ():
                properties[key].setdefault("description", meaning)
        return found


def description_of(kind: type[BaseModel], name: str) -> str | None:
    """What a field of options says about itself: the string below it, in the class that defines it last.

    Examples:
        >>> from morula.training.options import Training
        >>> description_of(Training, "epochs")
        'Passes through the training patches.'
    """
    stated = kind.model_fields[name].description
    definer = next((base for base in kind.__mro__ if name in inspect.get_annotations(base)), kind)
    return stated or attribute_docs(definer).get(name)


def rename_keys(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A mapping with some keys renamed in place, or moved into a mapping inside (``outer.inner``).

    Raises:
        OptionError: when a key is given under both names.

    Examples:
        >>> rename_keys({"rate": 0.1, "betas": (0.9, 0.99)}, {"rate": "lr"})
        {'lr': 0.1, 'betas': (0.9, 0.99)}
        >>> rename_keys({"leave_out_validation": [], "validation": {"kind": "grid"}}, {"leave_out_validation": "validation.leave_out"})
        {'validation': {'kind': 'grid', 'leave_out': []}}
    """
    for earlier, present in names.items():
        outer, _, inner = present.partition(".")
        held = values.get(outer) if inner else values
        if earlier in values and isinstance(held, Mapping) and (inner or outer) in held:
            raise OptionError(
                "option.given_twice",
                f"is given twice, also under its earlier name {earlier!r}",
                key=present,
                value=held[inner or outer],
                remedy=f"Remove {earlier!r}.",
            )
    moved = {earlier: present.split(".") for earlier, present in names.items() if "." in present and earlier in values}
    found = {names.get(key, key): value for key, value in values.items() if key not in moved}
    for earlier, (outer, inner) in moved.items():
        found[outer] = {**(found.get(outer) or {}), inner: values[earlier]}
    return found


OptionsType = TypeVar("OptionsType", bound=Options)

_CODES = {
    "extra_forbidden": "option.unknown",
    "missing": "option.missing",
    "union_tag_not_found": "option.missing",
    "union_tag_invalid": "option.choice",
    "literal_error": "option.choice",
    "enum": "option.choice",
    "greater_than": "option.range",
    "greater_than_equal": "option.range",
    "less_than": "option.range",
    "less_than_equal": "option.range",
    "multiple_of": "option.range",
    "finite_number": "option.range",
    "too_short": "option.length",
    "too_long": "option.length",
    "string_too_short": "option.length",
    "string_too_long": "option.length",
    "string_pattern_mismatch": "option.format",
}
"""Codes by pydantic's error types; further types are `option.type` or `option.invalid`, see `code_of`."""


CORRECT = "Correct the value."
"""The remedy where the rule says which values are right."""


def code_of(kind: str) -> str:
    """Code of a pydantic error type.

    Examples:
        >>> code_of("extra_forbidden"), code_of("int_parsing"), code_of("less_than")
        ('option.unknown', 'option.type', 'option.range')
    """
    if kind in _CODES:
        return _CODES[kind]
    is_type = kind.endswith(("_type", "_parsing")) or kind.startswith("is_") or kind in ("int_from_float", "none_required")
    return "option.type" if is_type else "option.invalid"


def problem_of(error: ErrorDetails, key: str, known: Sequence[str] = ()) -> Problem:
    """The problem with one option, from one entry of `pydantic.ValidationError.errors()`.

    A `MorulaError` that a validator raised keeps its code, rule and remedy.

    Args:
        error: the entry.
        key: where the option is, as the user wrote it.
        known: names that could stand in its place, for an unknown or missing one.

    Examples:
        >>> from pydantic import ValidationError
        >>> class Colour(Options):
        ...     hue: int = 0
        >>> try:
        ...     Colour.model_validate({"hua": 3})
        ... except ValidationError as failed:
        ...     print(problem_of(failed.errors()[0], "hua", ["hue"]))
        hua  is not an option; there are hue. Did you mean 'hue'?
    """
    kind, given, context = str(error["type"]), error.get("input", UNSET), error.get("ctx") or {}
    cause = context.get("error")
    if isinstance(cause, MorulaError):
        # a whole section is not shown as the value: the message would be longer than what is wrong
        value = cause.value if cause.value is not UNSET else UNSET if isinstance(given, Mapping) else given
        # a validator of the whole section names the field; a validator of the field repeats what the key ends with already
        own = cause.key if cause.key and key.rsplit(".", 1)[-1] != cause.key else ""
        return Problem(
            ".".join(part for part in (key, own) if part),
            cause.rule,
            file=cause.file,
            code=cause.code,
            value=value,
            remedy=cause.remedy or CORRECT,
        )
    listing = f"; there are {', '.join(known)}" if known else ""
    if kind == "extra_forbidden":
        name = key.rsplit(".", 1)[-1]
        remedy = did_you_mean(name, list(known)).strip() or "Remove it, or correct its name."
        return Problem(key, f"is not an option{listing}", code="option.unknown", value=given, remedy=remedy)
    if kind in ("missing", "union_tag_not_found"):
        return Problem(key, "is required", code="option.missing", remedy=f"Write {key.rsplit('.', 1)[-1]}: VALUE.")
    if kind == "union_tag_invalid":
        names = [name.strip("'") for name in str(context["expected_tags"]).split(", ")]
        tag = str(context["tag"])
        return Problem(
            key, f"must be one of {', '.join(names)}", code="option.choice", value=tag, remedy=did_you_mean(tag, names).strip() or CORRECT
        )
    # pydantic writes "Input should be ..." and "Value error, ..."; a rule is the end of a sentence about the key
    message = str(cause) if cause is not None else str(error["msg"])
    rule = message.removeprefix("Value error, ").replace("Input should", "must", 1).rstrip(".")
    return Problem(key, rule, code=code_of(kind), value=given, remedy=CORRECT)


def validated(kind: type[OptionsType], values: Mapping[str, object] | Options | None, name: str) -> OptionsType:
    """Options of a class from plain values; an instance of the class is returned as it is.

    Args:
        kind: class of the options.
        values: option names and values; `None` for the defaults.
        name: what the options belong to, for messages.

    Raises:
        OptionError: for one unknown or invalid option; an `InvalidOptionsError` with all problems where there are several.

    Examples:
        >>> class Colour(Options):
        ...     hue: int = 0
        >>> validated(Colour, {"hua": 3}, "colour")
        Traceback (most recent call last):
        morula.core.errors.OptionError: colour.hua = 3: is not an option; there are hue. Did you mean 'hue'?
    """
    if isinstance(values, kind):
        return values
    given = dict(values or {})
    try:
        return kind.model_validate(given)
    except ValidationError as failed:
        problems = [_named(problem_of(error, _key(error), list(kind.model_fields)), kind, name) for error in failed.errors()]
    if len(problems) > 1:
        raise InvalidOptionsError(problems) from None
    (problem,) = problems
    raise OptionError(problem.code, problem.rule, key=problem.key, value=problem.value, remedy=problem.remedy, file=problem.file) from None


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])


def _named(problem: Problem, kind: type[Options], name: str) -> Problem:
    """The problem with the name of its owner in front of its key; a missing option with its meaning and how to write it."""
    remedy = problem.remedy
    if problem.code == "option.missing":
        field = kind.model_fields.get(problem.key)
        description = None if field is None else description_of(kind, problem.key)
        meaning = "" if description is None else f"{description.split('. ')[0].rstrip('.')}. "
        remedy = f"{meaning}Write {problem.key}: VALUE."
    key = ".".join(part for part in (name, problem.key) if part)
    return Problem(key, problem.rule, problem.line, problem.file, problem.code, problem.value, remedy)
