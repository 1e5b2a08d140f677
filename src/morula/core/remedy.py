"""Remedies that name options of the command line: each command prints those that it has.

Two forms are understood. `Remedy` holds whole alternatives, of which those with unknown options are left out. In any text, parentheses
with an option hold the ways to write one thing: in Python, on the command line, in a job::

    state other axes (axes='ZYX'; --axes ZYX; images.axes: ZYX)

`morula segment` prints ``(--axes ZYX)``, `morula check`, which takes a job, ``(images.axes: ZYX)``; Python shows all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_QUOTED = re.compile(r"`[^`]*`")
_WAYS = re.compile(r" ?\(([^()]*(?<![\w-])--[a-z][^()]*)\)")


OTHER_FOLDER = "name another folder with --output"
"""An alternative for a run folder that cannot be used."""
AS_VOLUME = "name a folder of planes as one volume (FOLDER:/planes)"
"""An alternative for images in 2D where volumes are needed."""


class Remedy(str):
    """Alternatives as one sentence.

    Examples:
        >>> remedy = Remedy("resume that run with --resume", "name another folder with --output")
        >>> remedy, fitting(remedy, {"--output"}, takes_job=True)
        ('Resume that run with --resume, or name another folder with --output.', 'Name another folder with --output.')
    """

    __slots__ = ("alternatives",)
    alternatives: tuple[str, ...]

    def __new__(cls, *alternatives: str) -> Remedy:
        """A sentence of alternatives, each without capital letter and full stop."""
        made = super().__new__(cls, _sentence(alternatives))
        made.alternatives = alternatives
        return made

    def __reduce__(self) -> tuple[type[Remedy], tuple[str, ...]]:
        return Remedy, self.alternatives


def _sentence(alternatives: Collection[str]) -> str:
    *first, last = alternatives
    joined = f"{', '.join(first)}, or {last}" if first else last
    return f"{joined[:1].upper()}{joined[1:]}."


def options_in(text: str) -> list[str]:
    """The options that a text names, without those of commands in backquotes.

    Examples:
        >>> options_in("Write --axes ZYX, or run `morula segment IMAGES --model RUN`.")
        ['--axes']
    """
    return _OPTION.findall(_QUOTED.sub("", text))


def fitting(text: str, options: Collection[str], *, takes_job: bool) -> str:
    """A remedy with those alternatives that a command has.

    Args:
        text: the remedy.
        options: the options of the command.
        takes_job: whether the command reads a job, whose keys can be changed.

    Examples:
        >>> text = "Split it, or state the axes (axes='ZYX'; --axes ZYX; images.axes: ZYX)."
        >>> fitting(text, {"--axes"}, takes_job=False), fitting(text, (), takes_job=True), fitting(text, (), takes_job=False)[:31]
        ('Split it, or state the axes (--axes ZYX).', 'Split it, or state the axes (images.axes: ZYX).', 'Split it, or state the axes.')
    """
    if isinstance(text, Remedy):
        reduced = [_reduced(alternative, options, takes_job=takes_job) for alternative in text.alternatives]
        known = [sentence for sentence in reduced if sentence and all(option in options for option in options_in(sentence))]
        # "name another folder" says nothing more after "name another folder with --output"
        known = [sentence for sentence in known if not any(other.startswith(f"{sentence} with --") for other in known)]
        return _sentence(known) if known else ""
    return _WAYS.sub(lambda match: _kept(match, options, takes_job=takes_job), text).strip()


def _reduced(alternative: str, options: Collection[str], *, takes_job: bool) -> str:
    """An alternative with the ways that a command has; empty where it has none of them."""
    found = _WAYS.search(alternative)
    if found is not None and not _kept(found, options, takes_job=takes_job):
        return ""
    return _WAYS.sub(lambda match: _kept(match, options, takes_job=takes_job), alternative)


def _kept(match: re.Match[str], options: Collection[str], *, takes_job: bool) -> str:
    """The ways in parentheses that a command has."""
    kept = []
    for way in match[1].split("; "):
        named = options_in(way)
        if all(option in options for option in named) if named else takes_job and way.startswith("images."):
            kept.append(way)
    return f" ({'; '.join(kept)})" if kept else ""
