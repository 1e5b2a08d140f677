"""Print events: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from morula.cli.command import in_command
from morula.core.atomic import write_error
from morula.core.errors import JobError, MorulaError, OptionError
from morula.core.events import Event, Failed, FileWritten, Finished, Preview, Progress, Started, Task, Warned, line
from morula.core.text import printable
from morula.io.metadata import MetadataWarning

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

# on a cluster the output goes to a file, where progress bars would write thousands of lines
QUIET_SECONDS = 10.0
"""Plain lines of progress are printed at most this often."""


class Verbosity(IntEnum):
    """How much is printed."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2

    @classmethod
    def of(cls, quiet: bool, verbose: bool) -> Verbosity:
        """From the two flags."""
        return cls.QUIET if quiet else cls.VERBOSE if verbose else cls.NORMAL


def echo(text: str) -> None:
    """Print a line of the result."""
    print(printable(text), flush=True)


def echo_error(text: str) -> None:
    """Print a line to standard error: warnings, errors, hints."""
    print(printable(text), file=sys.stderr, flush=True)


def message_in_command(error: MorulaError) -> str:
    """The message of an error with the remedies that the running command has."""
    message = str(error)
    if error.remedy and message.endswith(error.remedy):
        message = f"{message.removesuffix(error.remedy)}{in_command(error.remedy)}".strip()
    return in_command(message)


@contextmanager
def reporting_errors(resume: Callable[[], str] | None = None) -> Iterator[None]:
    """Print errors of Morula without traceback; any other error is a bug and keeps it. Exit code 2 for a wrong argument, else 1.

    `resume` returns the command that continues after Ctrl-C.
    """
    try:
        with _ending_like_ctrl_c(), _metadata_warnings_as_lines():
            yield
    except JobError as error:
        for problem in error.problems:
            echo_error(in_command(str(replace(problem, remedy=in_command(problem.remedy)))))
        count = len(error.problems)
        echo_error(f"{count} problem{'s' if count > 1 else ''}; nothing was started.")
        raise typer.Exit(1) from None
    except MorulaError as error:
        echo_error(f"error: {message_in_command(error)}")
        raise typer.Exit(2 if isinstance(error, OptionError) else 1) from None
    except OSError as error:
        # a full or read-only disk, a name that is too long: reported like an error of Morula, whichever command met it
        if error.errno is None:
            raise
        echo_error(f"error: {write_error(Path(str(error.filename or '.')), error)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        echo_error(f"Stopped.{f' Continue with: {resume()}' if resume else ''}")
        raise typer.Exit(1) from None


@contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Batch systems and ``docker stop`` send SIGTERM before they kill: what is unfinished is removed, as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextmanager
def _metadata_warnings_as_lines() -> Iterator[None]:
    """Print warnings about the metadata of files like those of events, and each once, where a command reads outside of its events."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not isinstance(message, MetadataWarning):
                shown(message, category, *rest, **more)
            elif str(message) not in _SAID:
                _SAID.add(str(message))
                echo_error(f"warning: {message}")

        warnings.simplefilter("always", MetadataWarning)
        warnings.showwarning = show
        _SAID.clear()
        yield


_SAID: set[str] = set()
"""Warnings that the running command has printed."""


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
            _SAID.add(event.message)
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
