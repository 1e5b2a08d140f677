"""The row of the table of BiaPy's keys, and the small conversions that rows use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from morula.dialects.converted import Value

# one argument: rows stay data, without access to other keys; what depends on several keys is code outside the table
Conversion = Callable[[Value], Value]


def same(value: Value) -> Value:
    """The value as it is."""
    return value


@dataclass(frozen=True)
class Former:
    """A former spelling of a key whose values have to be converted, too."""

    name: str
    convert: Conversion = same


@dataclass(frozen=True)
class Key:
    """One key of BiaPy's job files.

    Args:
        name: dotted name.
        default: the value where a job leaves it out: as documented, else as in BiaPy 3.7.1. Its type is the type of the key: a value of
            another type is an error, a single value stands for a list of one.
        choices: values that are accepted; empty for any value.
        target: native key that it becomes, or that a problem with it shows up at; empty for none.
        condition: what has to hold for it to have an effect: ``KEY`` (is set) or ``KEY=value|value``.
        convert: gives the native value; `None` as a result leaves the native key out. Where it is absent, code reads the key.
        refuse: why values other than the default (and the choices) cannot be obeyed, and what to do instead: rule and remedy.
        no_effect: why the key changes nothing; with `of_tree`, nothing in the native job.
        as_done: values of a key that changes nothing which state what is done anyway.
        note: what the native job does differently where the key is set, as a sentence.
        earlier_names: former spellings.
        former: whether 3.7 does not have the key any more.
        of_tree: whether it decides about files of BiaPy's results tree (`morula.dialects.biapy.results`), which a native run lacks.
    """

    name: str
    default: Value
    choices: tuple[str, ...] = ()
    target: str = ""
    condition: str = ""
    convert: Conversion | None = None
    refuse: tuple[str, str] | None = None
    no_effect: str = ""
    as_done: tuple[Value, ...] = ()
    note: str = ""
    earlier_names: tuple[str | Former, ...] = ()
    former: bool = False
    of_tree: bool = False

    @property
    def former_spellings(self) -> tuple[Former, ...]:
        """Former spellings, each with its conversion."""
        return tuple(Former(name) if isinstance(name, str) else name for name in self.earlier_names)


def unused(
    section: str, defaults: Mapping[str, Value], reason: str, *, former: bool = False, of_tree: bool = False, separator: str = "."
) -> Iterator[Key]:
    """Rows of keys that change nothing, all for the same reason."""
    for name, default in defaults.items():
        yield Key(f"{section}{separator}{name}", default, no_effect=reason, former=former, of_tree=of_tree)


def positive(value: Value) -> Value:
    """Numbers above 0; others leave the native key out.

    Examples:
        >>> positive(3), positive(-1)
        (3, None)
    """
    # BiaPy writes -1 or 0 for "not set", where the native key is left out
    return value if isinstance(value, int | float) and value > 0 else None


def not_negative(value: Value) -> Value:
    """Numbers from 0 on; others leave the native key out."""
    return value if isinstance(value, int | float) and value >= 0 else None


def above_one(value: Value) -> Value:
    """Counts above 1; 1 leaves the native key out."""
    return value if isinstance(value, int | float) and value != 1 else None


def if_stated(value: Value) -> Value:
    """Values that are not empty, false or 0; others leave the native key out."""
    return value or None


def percent(value: Value) -> Value:
    """A percentage as a share.

    Examples:
        >>> percent(50.0)
        0.5
    """
    return value / 100 if isinstance(value, int | float) else value


def single(value: Value) -> Value:
    """The entry of a list of one, a longer list as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
