"""Families: the names that a job file may use, each with its options and its implementation, imported when used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from morula.core.errors import OptionError, UnknownNameError


@dataclass(frozen=True)
class Member:
    """One variant: where its `Options` (pydantic, importable without torch) and its implementation lie, as ``"module:Name"``."""

    implementation: str
    options: str | None = None
    summary: str = ""


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def did_you_mean(name: str, names: Iterator[str] | list[str]) -> str:
    """``" Did you mean 'x'?"`` with the nearest of the names, or nothing.

    Examples:
        >>> did_you_mean("wathershed", ["watershed", "stardist"])
        " Did you mean 'watershed'?"
    """
    names = list(names)
    folded = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


@dataclass(frozen=True)
class Family:
    """Variants of one kind by name, for example the networks or the losses.

    Entry points of the group ``morula.<plural>`` (value ``module:MEMBER``, a `Member`) add outsiders.

    Examples:
        >>> family = Family("join", {"path": Member("posixpath:join")})
        >>> family.load("path")("a", "b")
        'a/b'
        >>> family.load("paths")
        Traceback (most recent call last):
        morula.core.errors.UnknownNameError: unknown join 'paths'; known are path. Did you mean 'path'?
    """

    kind: str
    builtin: Mapping[str, Member] = field(default_factory=dict)
    group: str | None = None

    @cached_property
    def members(self) -> dict[str, Member]:
        """All variants by name, the house's own first."""
        found = dict(self.builtin)
        for entry in entry_points(group=self.group) if self.group else ():
            if entry.name in found:
                raise OptionError(
                    f"the package {entry.dist.name if entry.dist else '?'} adds a {self.kind} {entry.name!r} that exists already. "
                    "Uninstall it or rename the entry point."
                )
            found[entry.name] = entry.load()
        return found

    @property
    def names(self) -> list[str]:
        """All names, in the order of the list."""
        return list(self.members)

    def member(self, name: str) -> Member:
        """The entry of this name.

        Raises:
            UnknownNameError: with the nearest known name.
        """
        try:
            return self.members[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}; known are {', '.join(self.members)}.{did_you_mean(name, self.names)}"
            ) from None

    def load(self, name: str) -> Any:
        """The implementation of this name, imported now."""
        return _imported(self.member(name).implementation)

    def options(self, name: str) -> Any:
        """The pydantic class of its options, or `None` when it has none."""
        place = self.member(name).options
        return None if place is None else _imported(place)
