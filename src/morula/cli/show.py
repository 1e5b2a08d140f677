"""Events on a terminal: bars where there is one, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import typer

from morula.core.errors import JobError, MorulaError, OptionError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from morula.core.events import Event, Progress

QUIET_SECONDS = 10.0
"""Plain lines of progress come at most so often."""


class Verbosity(IntEnum):
    """How much is said."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2

    @classmethod
    def of(cls, quiet: bool, verbose: bool) -> Verbosity:
        """From the two flags."""
        return cls.QUIET if quiet else cls.VERBOSE if verbose else cls.NORMAL


def say(text: str) -> None:
    """A line of the result."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A line for the user's attention."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def answering(again: Callable[[], str] | None = None) -> Iterator[None]:
    """Our own errors become words; anything else is a bug and keeps its traceback. Exit code 2 for a wrong argument, else 1.

    `again` gives the command to go on with after Ctrl-C.
    """
    try:
        yield
    except JobError as error:
        for problem in error.problems:
            complain(str(problem))
        count = len(error.problems)
        complain(f"{count} problem{'s' if count > 1 else ''}; nothing was started.")
        raise typer.Exit(1) from None
    except MorulaError as error:
        complain(f"error: {error}")
        raise typer.Exit(2 if isinstance(error, OptionError) else 1) from None
    except KeyboardInterrupt:
        complain(f"stopped.{f' Go on with: {again()}' if again else ''}")
        raise typer.Exit(1) from None


def show(events: Iterable[Event], verbosity: Verbosity) -> None:
    """Read a stream of events to its end and show it."""
    if sys.stdout.isatty() and verbosity >= Verbosity.NORMAL:
        _with_bars(events, verbosity)
    else:
        _with_lines(events, verbosity)


def shown(event: Event, verbosity: Verbosity) -> bool:
    """Whether an event is told at this verbosity; progress and previews are shown in other ways."""
    from morula.core import events as kinds

    match event:
        case kinds.Progress() | kinds.Preview():
            return False
        case kinds.FileWritten():
            return verbosity == Verbosity.VERBOSE
        case kinds.Warned():
            return True
        case kinds.Finished(_, _, figures) if figures:
            return True
    return verbosity > Verbosity.QUIET


def _emit(event: Event, verbosity: Verbosity) -> None:
    from morula.core.events import Warned, line

    if shown(event, verbosity):
        (complain if isinstance(event, Warned) else say)(line(event))


def _with_lines(events: Iterable[Event], verbosity: Verbosity) -> None:
    from morula.core.events import Progress, line

    last = time.monotonic()
    for event in events:
        if isinstance(event, Progress):
            if verbosity >= Verbosity.NORMAL and time.monotonic() - last > QUIET_SECONDS:
                last = time.monotonic()
                say(line(event))
        else:
            _emit(event, verbosity)


def _with_bars(events: Iterable[Event], verbosity: Verbosity) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from morula.core.events import Finished, Progress, line

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars: dict[str, TaskID] = {}
    with Bars(*columns, transient=True) as live:
        for event in events:
            if isinstance(event, Progress):
                _advance(live, bars, event)
                continue
            if isinstance(event, Finished) and event.stage in bars:
                live.remove_task(bars.pop(event.stage))
            if shown(event, verbosity):
                live.console.print(line(event), markup=False, highlight=False, soft_wrap=True)


def _advance(live: Bars, bars: dict[str, TaskID], event: Progress) -> None:
    if event.stage not in bars:
        bars[event.stage] = live.add_task(event.stage, total=event.total, note="")
    live.update(bars[event.stage], completed=event.done, total=event.total, note=event.note)
