"""Print events: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.markup import escape

from morula.cli.command import in_command
from morula.cli.show import PRINTED_WARNINGS, Verbosity, echo, echo_error
from morula.core.events import Event, Failed, FileWritten, Finished, Preview, Progress, Started, Task, Warned, line
from morula.core.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

# on a cluster the output goes to a file, where progress bars would write thousands of lines
QUIET_SECONDS = 10.0
"""Plain lines of progress are printed at most this often."""


def print_events(events: Iterable[Event], verbosity: Verbosity) -> dict[str, float]:
    """Read a stream of events to its end and print it. Returns the figures of the last task that ended."""
    figures: dict[str, float] = {}

    def watched() -> Iterator[Event]:
        for event in _remembered(events):
            if isinstance(event, Finished):
                figures.clear()
                figures.update(event.figures)
            yield event

    if sys.stdout.isatty() and verbosity >= Verbosity.NORMAL:
        _with_bars(watched(), verbosity)
    else:
        _with_lines(watched(), verbosity)
    return figures


def is_printed(event: Event, verbosity: Verbosity) -> bool:
    """Whether an event is printed as a line at this verbosity. Progress has bars of its own; previews are files."""
    match event:
        case Progress() | Preview():
            return False
        case FileWritten():
            return verbosity == Verbosity.VERBOSE
        case Warned() | Failed():
            return True
        case Finished(figures=figures) if figures:
            return True
    return verbosity > Verbosity.QUIET


def _remembered(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, Warned):
            PRINTED_WARNINGS.add(event.message)
        yield event


def _emit(event: Event, verbosity: Verbosity) -> None:
    if is_printed(event, verbosity):
        (echo_error if isinstance(event, Warned) else echo)(in_command(line(event)))


def _with_lines(events: Iterable[Event], verbosity: Verbosity) -> None:
    last = time.monotonic()  # no progress in the first seconds: short tasks end with one line
    for event in events:
        if isinstance(event, Progress):
            if verbosity >= Verbosity.NORMAL and time.monotonic() - last > QUIET_SECONDS:
                last = time.monotonic()
                echo(line(event))
        else:
            _emit(event, verbosity)


def _with_bars(events: Iterable[Event], verbosity: Verbosity) -> None:
    # not at the top: the progress bars of rich take a tenth of a second, and `morula --help` needs none
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Display(*columns, transient=True) as display:
        bars = Bars(display)
        for event in events:
            bars.update(event)
            if is_printed(event, verbosity):
                display.console.print(printable(line(event)), markup=False, highlight=False, soft_wrap=True)


class Bars:
    """One bar per task that is being worked on, indented below the bar of the task that it belongs to.

    A bar is removed when its task ends, and when the task above it counts on: what was below is done then.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.bars: dict[Task, TaskID] = {}

    def update(self, event: Event) -> None:
        """Add, advance or remove bars."""
        if isinstance(event, Progress | Finished):
            self._remove_below(event.task)
        if isinstance(event, Finished) and event.task in self.bars:
            self.display.remove_task(self.bars.pop(event.task))
        elif isinstance(event, Started) and event.total is not None:
            self._bar(event, 0, event.total, event.unit, "")
        elif isinstance(event, Progress):
            self._bar(event, event.done, event.total, event.unit, event.note)

    def _bar(self, event: Event, done: int, total: int | None, unit: str, note: str) -> None:
        units = f"{unit}s" if unit else ""
        if event.task not in self.bars:
            # titles repeat nothing: a bar below another shows only the rest of its task
            above = [other for other in self.bars if event.task[: len(other)] == other]
            shown = max((len(other) for other in above), default=0)
            title = "  " * len(above) + (" > ".join(event.task[shown:]) or unit)
            self.bars[event.task] = self.display.add_task(escape(printable(title)), total=total, note=printable(note), unit=units)
        self.display.update(self.bars[event.task], completed=done, total=total, note=printable(note), unit=units)

    def _remove_below(self, task: Task) -> None:
        for other in [known for known in self.bars if len(known) > len(task) and known[: len(task)] == task]:
            self.display.remove_task(self.bars.pop(other))
