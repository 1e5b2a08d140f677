"""Work in a thread, whose events arrive in the thread of the window."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal

from morula.core.errors import MorulaError
from morula.core.events import Event
from morula.viewer.stream import Failure, Outcome, thinned

Make = Callable[[Callable[[], bool]], Generator[Event, None, Any]]
"""Starts the work. It gets a function that returns whether the work was asked to stop."""

_LOG = logging.getLogger("morula")


class _Worker(GeneratorWorker):
    """Stopping asks the work, which saves what it did; the worker of napari would drop it in the middle."""

    stopping: threading.Event

    def quit(self) -> None:
        """Ask the work to stop. Called when napari is closed, too."""
        self.stopping.set()


class Work(QObject):
    """One piece of work at a time. While it runs, napari asks before it closes, and then waits until the work has stopped.

    Signals:
        event: each event of the stream.
        done: the `Outcome`.
        failed: the `Failure`, after it was shown as one notification, unless the work is quiet.
        ended: after either of the two.
    """

    event = Signal(object)
    done = Signal(object)
    failed = Signal(object)
    ended = Signal()

    def __init__(self, title: str, parent: QObject | None = None, *, quiet: bool = False) -> None:
        super().__init__(parent)
        self.title, self._quiet = title, quiet
        self._worker: Any = None
        self._stopping = threading.Event()

    @property
    def running(self) -> bool:
        """Whether the work has begun and not ended."""
        return self._worker is not None

    def start(self, make: Make) -> None:
        """Begin; what runs already goes on, and the new work is refused with a notification."""
        if self.running:
            show_warning(f"{self.title} is running already. Stop it first.")
            return
        self._stopping = stopping = threading.Event()

        def run() -> Generator[object, None, None]:
            yield from thinned(make(stopping.is_set), stopping.is_set)

        run.__qualname__ = f"Morula: {self.title}"  # napari shows the name when it asks before closing
        self._worker = create_worker(run, _worker_class=_Worker, _start_thread=False)
        self._worker.stopping = stopping
        self._worker.yielded.connect(self._arrived)
        self._worker.start()

    def stop(self) -> None:
        """Ask the work to stop; `done` follows."""
        self._stopping.set()

    def _arrived(self, item: object) -> None:
        if isinstance(item, Outcome | Failure):
            self._worker = None
            if isinstance(item, Failure) and not self._quiet:
                report(item)
            (self.failed if isinstance(item, Failure) else self.done).emit(item)
            self.ended.emit()
        else:
            self.event.emit(item)


def report(failure: Failure) -> None:
    """Show an error as one notification with cause and remedy; its trace goes to the log."""
    expected = isinstance(failure.error, MorulaError)
    _LOG.log(logging.INFO if expected else logging.ERROR, "%s", failure.message, exc_info=failure.error)
    show_error(failure.message)


def prepare_drawing(labels: np.ndarray) -> None:
    """Call it in the thread of the work, before a layer of these labels is added.

    napari compiles a function for each type of labels when it first draws one, which takes two seconds of the window's thread otherwise.
    """
    Labels(np.zeros((2, 2), labels.dtype))


class Latest(QObject):
    """Short pieces of work in a thread, of which only the latest counts: what was asked in between is dropped."""

    done = Signal(object)
    failed = Signal(object)

    def __init__(self, title: str, parent: QObject | None = None, *, quiet: bool = False) -> None:
        super().__init__(parent)
        self._work = Work(title, self, quiet=quiet)
        self._work.failed.connect(self.failed.emit)
        self._next: Callable[[], Any] | None = None
        self._work.done.connect(lambda outcome: self.done.emit(outcome.value))
        self._work.ended.connect(self._ended)

    @property
    def running(self) -> bool:
        """Whether something is computed or waits."""
        return self._work.running or self._next is not None

    def ask(self, compute: Callable[[], Any]) -> None:
        """Compute this as soon as what is computed now is done."""
        self._next = compute
        if not self._work.running:
            self._ended()

    def _ended(self) -> None:
        if self._next is not None:
            compute, self._next = self._next, None
            self._work.start(lambda _: _computed(compute))


def _computed(compute: Callable[[], Any]) -> Generator[Event, None, Any]:
    """Work without events."""
    yield from ()
    return compute()
