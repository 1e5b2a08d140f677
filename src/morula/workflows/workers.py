"""Independent pieces of work (tasks), one after the other or in worker processes; an `Executor` runs them there or elsewhere.

Tasks of images in blocks are functions of what is on the disk and of a number, and record their results on the disk. So it does not matter
where they run, in which order, and how often: an executor that loses a worker may run its tasks again.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from morula.core.errors import DataError, OptionError

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Callable[[Any], object] | None = None
"""What this worker process does with each item."""


class Executor(Protocol):
    """Where tasks run."""

    @property
    def count(self) -> int:
        """How many tasks run at the same time."""

    @property
    def remote(self) -> bool:
        """Whether they run in other programs, each with the whole limit of the memory, which also predict."""

    def results(self, work: Callable[[Item], Result], items: Sequence[Item], folder: Path) -> Iterator[Result]:
        """The result of each task, in the order in which they are finished; `folder` is for files that remote workers read."""


@dataclass(frozen=True)
class Processes:
    """Tasks in this process, or in several processes of this computer."""

    count: int = 1
    remote: bool = False

    def results(self, work: Callable[[Item], Result], items: Sequence[Item], folder: Path) -> Iterator[Result]:
        """As `results`."""
        del folder
        return results(work, items, self.count)


def check_workers(workers: int) -> None:
    """Reject a number of processes that is not positive.

    Raises:
        OptionError: for such a number.
    """
    if workers < 1:
        raise OptionError("workers.number", "must be 1 or more", key="workers", value=workers, remedy="Leave it out for one process.")


def results(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """The result of each piece of work, in the order in which they are finished.

    Args:
        work: what is done with an item. With several workers it is sent to them once; they are started anew, not forked, because the
            threads of the libraries do not survive a fork.
        items: what it is done with.
        workers: number of processes.

    Raises:
        DataError: ``workers.lost`` when a worker process was killed.

    Examples:
        >>> list(results(abs, [3, -4], 1))
        [3, 4]
    """
    workers = min(workers, len(items))
    if workers < 2:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (work,))
    try:
        waiting = iter(items)
        # few at a time, so that little is lost when the command ends
        running: set[Future[Any]] = {pool.submit(_call, item) for item in itertools.islice(waiting, 2 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_call, item) for item in itertools.islice(waiting, len(done))}
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        remedy = "Give the same command again, which continues; if it was killed for lack of memory, with fewer workers."
        raise DataError("workers.lost", "a worker process was killed", remedy=remedy) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(work: Callable[[Any], object]) -> None:
    """Prepare a worker process."""
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> object:
    assert _work is not None
    return _work(item)
