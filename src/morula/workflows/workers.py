"""Independent pieces of work (tasks), one after the other or in worker processes; an `Executor` runs them there or elsewhere.

Tasks of images in blocks are functions of what is on the disk and of a number, and record their results on the disk. So it does not matter
where they run, in which order, and how often: an executor that loses a worker may run its tasks again. What workers do is written to a
file once; a task is the name of that file, its checksum and an item.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol, TypeVar

from morula.core.errors import DataError, OptionError

Item = TypeVar("Item")


class Executor(Protocol):
    """Where tasks run."""

    @property
    def count(self) -> int:
        """How many tasks run at the same time."""

    @property
    def remote(self) -> bool:
        """Whether they run in other programs, each with the whole limit of the memory, which also predict."""

    def run(self, work: Callable[[Item], object], items: Sequence[Item], folder: Path) -> Iterator[Item]:
        """Run a task for each item; yields the items in the order in which they are finished. `folder` is for a file that workers read."""

    def close(self) -> None:
        """End the processes that were started for an image."""


class Processes:
    """Tasks in this process, or in several processes of this computer, which are started for the first tasks and used until `close`.

    They are started anew, not forked, because the threads of the libraries do not survive a fork.

    Examples:
        >>> found = []
        >>> list(Processes(1).run(found.append, [3, -4], Path())), found
        ([3, -4], [3, -4])
    """

    remote = False

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def run(self, work: Callable[[Item], object], items: Sequence[Item], folder: Path) -> Iterator[Item]:
        """Run a task for each item, see `Executor`.

        Raises:
            DataError: ``workers.lost`` when a worker process was killed.
        """
        if min(self.count, len(items)) < 2:
            for item in items:
                work(item)
                yield item
            return
        file, digest = stored(work, folder)
        done = False
        try:
            yield from self._spread(functools.partial(applied, str(file), digest), items)
            done = True
        except BrokenProcessPool as error:
            remedy = "Give the same command again, which continues; if it was killed for lack of memory, with fewer workers."
            raise DataError("workers.lost", "a worker process was killed", remedy=remedy) from error
        finally:
            if not done:
                self.close()
            file.unlink(missing_ok=True)

    def _spread(self, task: Callable[[Item], object], items: Sequence[Item]) -> Iterator[Item]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), _start)
        waiting = iter(items)
        # few at a time, so that little is lost when the command ends
        running: dict[Future[object], Item] = {self._pool.submit(task, item): item for item in itertools.islice(waiting, 2 * self.count)}
        while running:
            done = wait(running, return_when=FIRST_COMPLETED).done
            running |= {self._pool.submit(task, item): item for item in itertools.islice(waiting, len(done))}
            for future in done:
                future.result()
                yield running.pop(future)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def check_workers(workers: int) -> None:
    """Reject a number of processes that is not positive.

    Raises:
        OptionError: for such a number.
    """
    if workers < 1:
        raise OptionError("workers.number", "must be 1 or more", key="workers", value=workers, remedy="Leave it out for one process.")


def stored(work: object, folder: Path) -> tuple[Path, str]:
    """The file from which workers read the work, and its checksum."""
    try:
        dumps = importlib.import_module("cloudpickle").dumps  # it also sends what is defined in a script or a notebook
    except ImportError:
        dumps = pickle.dumps
    content = dumps(work)
    digest = hashlib.sha256(content).hexdigest()
    file = folder / f"work_{digest[:16]}.pickle"
    file.write_bytes(content)
    return file, digest


def applied(file: str, digest: str, item: Any) -> None:
    """Run stored work with an item."""
    _loaded(file, digest)(item)


@functools.lru_cache(maxsize=2)
def _loaded(file: str, digest: str) -> Callable[[Any], object]:
    """The work in a file; the checksum, which came with the task, says that nobody has changed it."""
    content = Path(file).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError("workers.changed_work", "is not what the command has written", file=file, remedy="Give the same command again.")
    loaded: Callable[[Any], object] = pickle.loads(content)
    return loaded


def _start() -> None:
    """Prepare a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
