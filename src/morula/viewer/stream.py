"""The stream of events of a workflow for a window: fewer of them, what is left of the time, and errors as values. Needs no Qt."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from morula.core.errors import JobError, MorulaError
from morula.core.events import Event, Progress

Result = TypeVar("Result")

INTERVAL = 0.5
"""Seconds between two events of progress of one task. Each one draws the whole window again, which takes 10 to 20 ms without a graphics
card."""


@dataclass(frozen=True)
class Failure:
    """An error that ended the work."""

    error: Exception

    @property
    def message(self) -> str:
        """Cause and remedy. An error that Morula did not raise on purpose keeps its type.

        Examples:
            >>> Failure(ValueError("no")).message
            'ValueError: no'
        """
        if isinstance(self.error, JobError):
            return "\n".join(str(problem) for problem in self.error.problems)
        return str(self.error) if isinstance(self.error, MorulaError) else f"{type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What the work returned; `None` where it was stopped."""

    value: Result
    stopped: bool = False


def stoppable(events: Generator[Event, None, Result], stopping: Callable[[], bool]) -> Generator[Event, None, Result | None]:
    """Work that is closed after the first event at which `stopping` returns true. For work that has nothing to save.

    Examples:
        >>> def work():
        ...     yield Progress(1, 2)
        ...     yield Progress(2, 2)
        >>> [event.done for event in stoppable(work(), lambda: True)]
        [1]
    """
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return end.value
            yield event
            if stopping():
                return None
    finally:
        events.close()


def thinned(events: Generator[Event, None, Result], stopping: Callable[[], bool]) -> Generator[Event | Outcome[Any] | Failure, None, None]:
    """The events with at most two of progress per second and task, then the outcome, or the failure as a value.

    Args:
        events: the work.
        stopping: whether the work was asked to stop; it does so by itself.
    """
    shown: dict[tuple[str, ...], float] = {}
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                yield Outcome(end.value, stopping())
                return
            now = time.monotonic()
            if isinstance(event, Progress):
                if event.done != event.total and now - shown.get(event.task, -INTERVAL) < INTERVAL:
                    continue
                shown[event.task] = now
            yield event
    except Exception as error:  # noqa: BLE001 - of any class, from another thread: a bug in the work must not end the window
        yield Failure(error)
    finally:
        events.close()


@dataclass
class Clock:
    """What is left of a task, by the time that its units took.

    Examples:
        >>> clock = Clock()
        >>> clock.left(Progress(1, 10), now=0.0), clock.left(Progress(4, 10), now=6.0)
        (None, 12.0)
    """

    began: dict[tuple[str, ...], tuple[float, int]] = field(default_factory=dict)

    def left(self, event: Progress, now: float | None = None) -> float | None:
        """Seconds until the task is done; `None` where it is not known."""
        now = time.monotonic() if now is None else now
        start, first = self.began.setdefault(event.task, (now, event.done))
        if event.total is None or event.done <= first:
            return None
        return (now - start) / (event.done - first) * (event.total - event.done)


def duration(seconds: float) -> str:
    """Seconds for people.

    Examples:
        >>> duration(7), duration(130), duration(7300)
        ('7 s', '2 min', '2.0 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
