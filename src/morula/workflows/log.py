"""The log of a run: what it told, line by line, with the time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from morula.core.errors import MorulaError
from morula.core.events import Event, Progress, Warned, line

PROGRESS_SECONDS = 60.0
"""Progress comes into the log at most so often."""


def logged(events: Iterable[Event], file: Path) -> Iterator[Event]:
    """Pass events through and add each to a log as a line with its time; so is the error that ends them.

    A resumed run adds to the log that is there. Of progress a line a minute is kept. A log that cannot be written is warned of once
    and ends nothing.

    Examples:
        >>> import tempfile
        >>> from morula.core.events import Logged
        >>> file = Path(tempfile.mkdtemp()) / "logs" / "log.txt"
        >>> _ = list(logged([Logged("two images"), Warned("one is constant")], file))
        >>> [text.partition("  ")[2] for text in file.read_text().splitlines()]
        ['two images', 'warning: one is constant']
    """
    said, warned = time.monotonic(), False
    try:
        for event in events:
            problem = None
            if not isinstance(event, Progress) or time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                problem = _add(file, line(event))
            yield event
            if problem and not warned:
                warned = True
                yield Warned(problem)
    except MorulaError as error:
        _add(file, f"error: {error}")
        raise
    except KeyboardInterrupt:
        _add(file, "interrupted")
        raise


def _add(file: Path, text: str) -> str | None:
    """Add a line; what went wrong, or nothing."""
    moment = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{moment}  {text.replace(chr(10), chr(10) + '    ')}\n")
    except OSError as error:
        return f"the log {file} cannot be written: {error}. The run goes on; free space or correct the folder's permissions."
    return None
