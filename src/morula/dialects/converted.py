"""What the conversion of a foreign job file gives: one class for all dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from morula.core.errors import JobError, Problem
from morula.core.events import Event, Warned
from morula.jobs.yaml_lines import Place, dump, parse_documents

Value: TypeAlias = bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"] | None
"""A plain value, as YAML holds it."""


def _unchanged(problem: Problem) -> Problem:
    return problem


def _accepted(in_channels: int) -> None:
    del in_channels


def _unknown(place: Place) -> Sequence[str]:
    del place
    return ()


@dataclass(frozen=True, eq=False)
class Converted:
    """A native job made from the job file of another program.

    Args:
        job: the mapping; paths in it are absolute.
        notes: sentences that say what the native job does differently from the original, or what was decided for it.
        remarks: keys of the original that have no effect, each with its line and the reason.
        trace: gives a problem of the native job the key and line of the original that it comes from.
        origins: gives the keys of the original that a native key (as a path) comes from.
        check_images: compares the number of channels of the images with what the original states; raises a `JobError`.

    Examples:
        >>> print(Converted({"method": {"kind": "wnet3d"}}, notes=("The loss is averaged over channels.",)).text())
        # The loss is averaged over channels.
        method: {kind: wnet3d}
        <BLANKLINE>
    """

    job: Mapping[str, Value]
    notes: tuple[str, ...] = ()
    remarks: tuple[Problem, ...] = ()
    trace: Callable[[Problem], Problem] = _unchanged
    check_images: Callable[[int], None] = _accepted
    origins: Callable[[Place], Sequence[str]] = _unknown

    def text(self) -> str:
        """The job as YAML, with the notes as comments above it and the origin of each line as a comment behind it."""
        comments = "".join(f"# {note}\n" for note in self.notes)
        return comments + annotated(dump(self.job, flow=None), self.origins)

    def warnings(self) -> list[str]:
        """Keys without effect, then differences from the original program."""
        return [*map(str, self.remarks), *self.notes]

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Problems of the native job that are raised inside get the keys and lines of the original file.

        Raises:
            JobError: the one that was raised, by the original's keys.
        """
        try:
            yield
        except JobError as error:
            raise JobError([self.trace(problem) for problem in error.problems]) from error

    def events(self, events: Iterator[Event]) -> Iterator[Event]:
        """The warnings of the conversion, then the events of the native job; errors have the keys and lines of the original file.

        Raises:
            JobError: with the keys of the original.
        """
        yield from (Warned("convert.remark", text) for text in self.warnings())
        with self.translate_errors():
            yield from events


def annotated(text: str, origins: Callable[[Place], Sequence[str]]) -> str:
    """YAML with a comment behind each line that says where its values come from; above it, where the values go on in the next line.

    Examples:
        >>> print(annotated("epochs: 5\\n", lambda place: ["TRAIN.EPOCHS"]), end="")
        epochs: 5  # TRAIN.EPOCHS
    """
    document = parse_documents(text)[0]
    found: dict[int, dict[str, None]] = {}
    for place in _places(document.data, ()):
        line = document.line(place)
        if line is not None:
            found.setdefault(line, {}).update(dict.fromkeys(origins(place)))
    lines = text.splitlines()
    begun = {line for place in _places(document.data, (), leaves=False) if (line := document.line(place)) is not None}
    for number in sorted(found, reverse=True):
        if comment := ", ".join(found[number]):
            if number + 1 in begun or number == len(lines):
                lines[number - 1] += f"  # {comment}"
            else:
                indent = len(lines[number - 1]) - len(lines[number - 1].lstrip())
                lines.insert(number - 1, f"{' ' * indent}# {comment}")
    return "".join(f"{line}\n" for line in lines)


def _places(node: Value, place: Place, *, leaves: bool = True) -> Iterator[Place]:
    """Paths of the values of a document: of single values and plain lists, or of everything."""
    if isinstance(node, Mapping) and node:
        inner = [(str(name), value) for name, value in node.items()]
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in node):
        inner = list(enumerate(node))  # type: ignore[arg-type]
    else:
        inner = []
    if place and not (inner and leaves):
        yield place
    for name, value in inner:
        yield from _places(value, (*place, name), leaves=leaves)


def nested(flat: Mapping[str, Value]) -> dict[str, Value]:
    """Dotted keys as sections.

    Examples:
        >>> nested({"TRAIN.ENABLE": True, "TRAIN.EPOCHS": 5})
        {'TRAIN': {'ENABLE': True, 'EPOCHS': 5}}
    """
    found: dict[str, Value] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            inner = node.setdefault(parent, {})
            assert isinstance(inner, dict)
            node = inner
        node[last] = value
    return found
