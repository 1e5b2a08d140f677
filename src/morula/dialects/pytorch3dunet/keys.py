"""The keys of job files of pytorch-3dunet: the rows of ``keys.yaml``, and the sections with checked values that are made from them.

Reading of jobs, ignored keys, notes of conversions and the list of all keys in the documentation follow from the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args, get_type_hints

import yaml
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, create_model, model_validator

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options, validated
from morula.nn.options import Edge, Probability

Names: TypeAlias = str | tuple[str, ...]
"""One data set, or several."""
Rule: TypeAlias = "Callable[[Section], None]"
"""Raises an `OptionError` for values that contradict each other."""


class IgnoredKeyWarning(UserWarning):
    """A key of a job file that has no effect."""


class Key(NamedTuple):
    """A row of the table: default (``required`` where a job must give it), type, meaning, and the note where no native key is its like."""

    default: Any
    kind: str
    meaning: str
    note: str = ""


class Section(Options):
    """The values of one section of a job file. Its fields are rows of ``keys.yaml``.

    Attributes:
        dead: keys that the original has or had but does not read, and what to do instead.
        strict: whether the original fails at unknown keys; elsewhere it ignores them silently.
        notes: keys without a native counterpart, and what a conversion does instead.
        rules: what the values must fulfil together.
    """

    dead: ClassVar[Mapping[str, str]] = {}
    strict: ClassVar[bool] = False
    notes: ClassVar[Mapping[str, str]] = {}
    rules: ClassVar[tuple[Rule, ...]] = ()

    if TYPE_CHECKING:
        # the fields come from the table
        def __getattr__(self, name: str) -> Any: ...

    @model_validator(mode="after")
    def _obeys(self) -> Section:
        for rule in type(self).rules:
            rule(self)
        return self

    @classmethod
    def ignored(cls, values: Mapping[str, object]) -> dict[str, str]:
        """Keys that nothing reads, each with the reason or the nearest known key.

        Examples:
            >>> section("formatter").ignored({"skip_last": True})
            {'skip_last': "nothing reads it. Did you mean 'skip_last_target'?"}
        """
        known = list(cls.model_fields)
        return {key: cls.dead.get(key) or f"nothing reads it.{did_you_mean(key, known)}" for key in values if key not in known}

    @classmethod
    def read(cls, values: Mapping[str, object], title: str) -> Section:
        """The section. Keys that nothing reads are left out with a warning; the original ignores them silently.

        Raises:
            OptionError: for values that break a rule.
        """
        ignored = cls.ignored(values)
        for key, reason in ignored.items():
            warnings.warn(f"{title}.{key} is ignored: {reason}", IgnoredKeyWarning, stacklevel=4)
        return validated(cls, {key: value for key, value in values.items() if key not in ignored}, title)

    @classmethod
    def inner(cls) -> Iterator[tuple[str, type[Section]]]:
        """Keys that are sections themselves."""
        for key, found in cls.model_fields.items():
            for each in (found.annotation, *get_args(found.annotation)):
                if isinstance(each, type) and issubclass(each, Section):
                    yield key, each


def documentation() -> Iterator[str]:
    """The table of all keys as Markdown, one section per section of a job file.

    Examples:
        >>> next(row for row in documentation() if row.startswith("| `pmin`"))
        '| `pmin` | `1.0` | Percentile that becomes 0. |'
    """
    for title, content in rows().items():
        yield f"\n### `{title}`\n"
        for name, keys in {"": content, **content.get("names", {})}.items():
            yield f"\n{f'`{name}`: ' if name else ''}{keys['is']}\n"
            listed = {key: Key(*row) for key, row in keys.items() if isinstance(row, list)}
            if listed:
                yield "\n| key | default | |\n|---|---|---|"
            for key, row in listed.items():
                yield f"| `{key}` | {'required' if row.default == 'required' else f'`{row.default}`'} | {row.meaning} |"


class Table(dict[str, type[Section]]):
    """Sections by the name that chooses between them."""

    def read(self, values: Mapping[str, object], title: str) -> Section:
        """The section that its `name` chooses.

        Raises:
            OptionError: when there is no name, or for values that break a rule.
            UnknownNameError: when the name is unknown.
        """
        name = values.get("name")
        if name is None:
            raise OptionError("job.name_missing", f"is missing; must be one of {', '.join(self)}", key=f"{title}.name")
        if name not in self:
            rule = f"must be one of {', '.join(self)}"
            raise UnknownNameError("job.unknown_name", rule, key=f"{title}.name", value=name, remedy=self.nearest(name))
        return self[str(name)].read(values, title)

    def nearest(self, name: object) -> str:
        """The name that was probably meant, as a question."""
        return did_you_mean(str(name), list(self)).strip()


def _as_list(values: object) -> object:
    return (values,) if isinstance(values, str | Mapping) else values


TYPES: dict[str, object] = {
    "Annotated": Annotated,
    "Literal": Literal,
    "Field": Field,
    "BeforeValidator": BeforeValidator,
    "as_list": _as_list,
    "PositiveInt": PositiveInt,
    "NonNegativeInt": NonNegativeInt,
    "PositiveFloat": PositiveFloat,
    "Edge": Edge,
    "Probability": Probability,
    "Names": Names,
    "Entry": Mapping[str, Any],
    "Positive": Annotated[float, Field(gt=0)],
    "NotNegative": Annotated[float, Field(ge=0)],
    "Share": Annotated[float, Field(ge=0, le=1)],
    "Percent": Annotated[float, Field(ge=0, le=100)],
    "Axis": Annotated[int, Field(ge=0, le=2)],
    "Order": Annotated[int, Field(ge=0, le=5)],
    "Pair": tuple[float, float],
    "Edges": tuple[PositiveInt, PositiveInt, PositiveInt],
    "Offsets": Annotated[tuple[PositiveInt, ...], Field(min_length=1)],
    "NotEmpty": Annotated[str, Field(min_length=1)],
}
"""Names of types in the table; sections that were made before come in addition."""
_MADE: dict[str, object] = {}


@cache
def rows() -> dict[str, dict[str, Any]]:
    """The content of ``keys.yaml``: by section its keys and what is said about it."""
    text = files(__package__).joinpath("keys.yaml").read_text(encoding="utf-8")
    # the loader of libyaml is ten times as fast, and is not part of every PyYAML
    found: dict[str, dict[str, Any]] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def section(name: str, *rules: Rule, base: type[Section] = Section) -> type[Section]:
    """The class of a section of the table, with rules on its values.

    Examples:
        >>> section("formatter")(log_channelwise=True).skip_last_target
        False
    """
    made = _class(name, rows()[name], base, rules=rules)
    _MADE[name] = made
    return made


def table(name: str, marks: Mapping[str, Mapping[str, object]], base: type[Section] = Section) -> Table:
    """The sections of the table that a name chooses between.

    Args:
        name: of the section.
        marks: attributes of each class by its name, such as the function that computes a loss.
        base: class of them all.
    """
    content = rows()[name]
    shared = _class(name, content, base)
    return Table((each, _class(each, keys, shared, **marks.get(each, {}))) for each, keys in content["names"].items())


def _class(name: str, content: Mapping[str, Any], base: type[Section], **marks: object) -> type[Section]:
    keys = {key: Key(*row) for key, row in content.items() if isinstance(row, list)}
    types = get_type_hints(SimpleNamespace(__annotations__={key: row.kind for key, row in keys.items()}), {**TYPES, **_MADE}, None, True)
    fields: dict[str, Any] = {
        key: (types[key], Field(... if row.default == "required" else row.default, description=row.meaning)) for key, row in keys.items()
    }
    title = "".join(part.title() for part in name.split("_")) if name.islower() else name
    made: type[Section] = create_model(f"{title}Options", __base__=base, __doc__=content["is"], **fields)
    made.dead = {**base.dead, **content.get("dead", {})}
    made.notes = {**base.notes, **{key: row.note for key, row in keys.items() if row.note}}
    for attribute, value in {**{key: value for key, value in content.items() if isinstance(value, str | bool | int)}, **marks}.items():
        if attribute != "is":
            setattr(made, attribute, value)
    return made
