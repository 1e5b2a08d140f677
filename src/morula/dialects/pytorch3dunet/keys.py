"""Sections of job files of pytorch-3dunet: classes with one row per key.

Reading of jobs, ignored keys, notes of conversions and the list of all keys in the documentation follow from the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Self, TypeAlias, TypeVar, get_args

from pydantic import Field, PositiveInt, model_validator

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options, validated

Names: TypeAlias = str | tuple[str, ...]
"""One data set, or several."""
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Pair: TypeAlias = tuple[float, float]
Edges: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]


class IgnoredKeyWarning(UserWarning):
    """A key of a job file that has no effect."""


def key(default: Any, meaning: str, *, copy: str = "", native: str = "", note: str = "") -> Any:
    """A row of a section.

    Args:
        default: ``...`` where a job must give the key.
        meaning: for the documentation.
        copy: key of the native job that gets the value as it is.
        native: what the native job has in its place, in words, where it is not the same value.
        note: how the native job differs where the key is not at its default, for keys without a counterpart.
    """
    return Field(default, description=meaning, json_schema_extra={"copy": copy, "native": native, "note": note})


class Conversion(NamedTuple):
    """What becomes of a key in a native job, see `key`."""

    copy: str
    native: str
    note: str

    @property
    def words(self) -> str:
        """For the documentation; empty where the key follows its section."""
        return f"`{self.copy}`" if self.copy else self.native or self.note


class Section(Options):
    """The values of one section of a job file.

    Attributes:
        dead: keys that the original has or had but does not read, and what to do instead.
        strict: whether the original fails at unknown keys; elsewhere it ignores them silently.
        native_form: what a native job has in place of the section, in words; single keys may state something else.
    """

    dead: ClassVar[Mapping[str, str]] = {}
    strict: ClassVar[bool] = False
    native_form: ClassVar[str] = ""

    def check(self) -> None:
        """Raise an `OptionError` for values that contradict each other."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.check()
        return self

    @classmethod
    def ignored(cls, values: Mapping[str, object]) -> dict[str, str]:
        """Keys that nothing reads, each with the reason or the nearest known key.

        Examples:
            >>> from morula.dialects.pytorch3dunet.sections import FormatterOptions
            >>> FormatterOptions.ignored({"skip_last": True})
            {'skip_last': "nothing reads it. Did you mean 'skip_last_target'?"}
        """
        known = list(cls.model_fields)
        return {key: cls.dead.get(key) or f"nothing reads it.{did_you_mean(key, known)}" for key in values if key not in known}

    @classmethod
    def read(cls, values: Mapping[str, object], title: str) -> Self:
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
            for annotation in (found.annotation, *get_args(found.annotation)):
                if isinstance(annotation, type) and issubclass(annotation, Section):
                    yield key, annotation

    @classmethod
    def conversion(cls, key: str) -> Conversion:
        """What becomes of a key in a native job."""
        stated: Any = cls.model_fields[key].json_schema_extra
        return Conversion(**stated)

    def copied(self) -> dict[str, Any]:
        """Values that a native job has as they are, by their native keys."""
        return {native: getattr(self, key) for key in type(self).model_fields if (native := self.conversion(key).copy)}

    def notes(self) -> dict[str, str]:
        """Keys that are not at their default and have no native counterpart, with the difference that this makes."""
        rows = type(self).model_fields.items()
        return {key: note for key, row in rows if (note := self.conversion(key).note) and getattr(self, key) != row.default}

    @classmethod
    def rows(cls, without: Iterable[str] = ()) -> Iterator[str]:
        """The keys as a table in Markdown."""
        listed = {key: found for key, found in cls.model_fields.items() if key not in without}
        if listed:
            yield "\n| key | default | | native job |\n|---|---|---|---|"
        for key, found in listed.items():
            default = "required" if found.is_required() else f"`{_written(found.default)}`"
            yield f"| `{key}` | {default} | {found.description} | {cls.conversion(key).words or cls.native_form} |"


def _written(value: object) -> object:
    """A default as the documentation shows it: sequences as lists, as in YAML."""
    return [_written(item) for item in value] if isinstance(value, tuple) else {} if isinstance(value, Section) else value


Member = TypeVar("Member", bound=Section)


class Table(dict[str, type[Member]], Generic[Member]):
    """Sections by the name that chooses between them."""

    def read(self, values: Mapping[str, object], title: str) -> Member:
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
