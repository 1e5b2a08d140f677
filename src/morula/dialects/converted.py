"""What the conversion of a foreign job file gives: one class for all dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from morula.core.errors import JobError, Problem
from morula.core.events import Event, Warned
from morula.jobs.yaml_lines import dump

Value: TypeAlias = bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"] | None
"""A plain value, as YAML holds it."""


def _unchanged(problem: Problem) -> Problem:
    return problem


def _accepted(in_channels: int) -> None:
    del in_channels


@dataclass(frozen=True, eq=False)
class Converted:
    """A native job made from the job file of another program.

    Args:
        job: the mapping; paths in it are absolute.
        notes: sentences that say what the native job does differently from the original, or what was decided for it.
        remarks: keys of the original that have no effect, each with its line and the reason.
        trace: gives a problem of the native job the key and line of the original that it comes from.
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

    def text(self) -> str:
        """The job as YAML, with the notes as comments above it."""
        comments = "".join(f"# {note}\n" for note in self.notes)
        return comments + dump(self.job, flow=None)

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
