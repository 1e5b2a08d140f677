"""Ctrl-C and SIGTERM as requests that are answered between two steps, so that no work is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems (SLURM) and ``docker stop`` send before they kill."""


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Inside the context the first Ctrl-C or SIGTERM is only recorded; a second one raises `KeyboardInterrupt` at once.

    Yields:
        A function that returns whether a signal arrived. Outside of the main thread, where Python delivers no signals, it is always
        `False`.
    """
    received = False

    def record(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received:
            signal.default_int_handler(number, frame)
        received = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, record) for number in _SIGNALS}
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
