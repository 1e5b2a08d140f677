"""Families: the names that a job file may use for one kind of thing, each with its options and its implementation.

A family is a registry, for example of the networks. It holds only the places of options and implementations, as text, so that listing the
names imports none of them: torch is imported when a network is built, not when its name is checked.

    NETWORKS = Family("network", {"unet": Member("morula.nn.unet:UNet", "morula.nn.unet_options:UNetOptions")})

    NETWORKS.names            -> ["unet"]              imports nothing
    NETWORKS.options("unet")  -> class UNetOptions     imports the module of the options, never torch
    NETWORKS.load("unet")     -> class UNet            imports the implementation

A new member is one new file and one line in the list. Other packages add members by entry points.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from morula.core.errors import OptionError, UnknownNameError


@dataclass(frozen=True)
class Member:
    """One entry of a family."""

    implementation: str
    """Place of the implementation, ``"module:name"``: a class or a function."""
    options: str | None = None
    """Place of its `Options` class (pydantic, importable without torch); `None` when it has no options."""
    summary: str = ""
    """One line for lists and help texts."""
    full_name: str = ""
    """Name in full where the name is an abbreviation; accepted in its place."""


def _import(place: str) -> object:
    """The object at ``"module:name"``."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def did_you_mean(name: str, names: Iterator[str] | list[str]) -> str:
    """``" Did you mean 'x'?"`` with the most similar of the names, or an empty string when none is similar. Case is ignored.

    Examples:
        >>> did_you_mean("wathershed", ["watershed", "stardist"])
        " Did you mean 'watershed'?"
    """
    names = list(names)
    folded = {other.lower(): other for other in names}
    # two-letter names (channels Db, Dc) agree by half with one wrong letter; difflib's default of 0.6 would suggest nothing for them
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


@dataclass(frozen=True)
class Family:
    """Members of one kind by name, for example the networks or the losses.

    Attributes:
        kind: what the members are, for messages.
        builtin: the members of Morula itself.
        group: group of entry points by which other packages add members (value ``module:MEMBER``, a `Member`).

    Examples:
        >>> family = Family("join", {"path": Member("posixpath:join")})
        >>> family.load("path")("a", "b")
        'a/b'
        >>> family.load("paths")
        Traceback (most recent call last):
        morula.core.errors.UnknownNameError: join = 'paths': is unknown; there are path. Did you mean 'path'?
    """

    kind: str
    builtin: Mapping[str, Member] = field(default_factory=dict)
    group: str | None = None

    @cached_property
    def members(self) -> dict[str, Member]:
        """All members by name, the built-in ones first."""
        # not at the top: it takes as long as the rest of the package, and `morula --help` reads no member
        from importlib.metadata import entry_points

        found = dict(self.builtin)
        for entry in entry_points(group=self.group) if self.group else ():
            # an installed package must not change silently what a name in an existing job file means
            if entry.name in found:
                raise OptionError(
                    "name.duplicate",
                    f"is added by the package {entry.dist.name if entry.dist else '?'} but exists already",
                    key=self.kind,
                    value=entry.name,
                    remedy="Uninstall the package, or rename its entry point.",
                )
            found[entry.name] = entry.load()
        return found

    @property
    def names(self) -> list[str]:
        """All names, in the order of the members."""
        return list(self.members)

    def resolve(self, name: str) -> str:
        """The name of a member that is given by its full name; every other name is returned as it is.

        Examples:
            >>> Family("channel", {"F": Member("m:Foreground", full_name="foreground")}).resolve("foreground")
            'F'
        """
        if name in self.members:
            return name
        return next((short for short, member in self.members.items() if member.full_name == name), name)

    def member(self, name: str) -> Member:
        """The entry of this name, which may be its full name.

        Raises:
            UnknownNameError: when there is none; the remedy names the most similar one.
        """
        try:
            return self.members[self.resolve(name)]
        except KeyError:
            rule = f"is unknown; there are {', '.join(self.members)}"
            raise UnknownNameError("name.unknown", rule, key=self.kind, value=name, remedy=did_you_mean(name, self.names)) from None

    def load(self, name: str) -> Any:
        """The implementation of this name; its module is imported now."""
        return _import(self.member(name).implementation)

    def options(self, name: str) -> Any:
        """The options class of this name, or `None` when it has no options."""
        place = self.member(name).options
        return None if place is None else _import(place)
