"""The records of the events of a run: ``logs/log.txt`` for people, ``events.jsonl`` for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from morula.core.errors import DataError, MorulaError
from morula.core.events import Artefact, Event, Failed, FileWritten, Preview, Progress, Task, Warned, from_record, line, to_record
from morula.jobs.run_folder import RunFolder

PROGRESS_SECONDS = 60.0
"""Progress is written to the log at most this often."""
RECORD_SECONDS = 1.0
"""Progress of one task is written to ``events.jsonl`` at most this often; the last unit of a task always is."""


def logged(events: Iterable[Event], folder: RunFolder) -> Iterator[Event]:
    """Pass events through, name their run, and append them to the two logs of the run folder.

    ``logs/log.txt`` holds a line with its time per event (progress once a minute), ``events.jsonl`` one JSON object per event. A resumed
    run appends to both. The error that ends the stream is written too. A log that cannot be written causes one warning and does not end
    the run.

    Examples:
        >>> import tempfile
        >>> from morula.core.events import Logged
        >>> folder = RunFolder(Path(tempfile.mkdtemp()))
        >>> _ = list(logged([Logged("two images"), Warned("image.constant", "one is constant")], folder))
        >>> [text.partition("  ")[2] for text in folder.log_file.read_text().splitlines()]
        ['two images', 'warning: one is constant']
        >>> [event.run == str(folder.path) for event in read_events(folder.path)]
        [True, True]
    """
    logs, run, warned, begun = _Logs(folder), str(folder.path), False, False
    try:
        for event in events:
            begun = True
            placed = event if event.run else replace(event, run=run)
            problem = logs.add(placed)
            yield placed
            if problem and not warned:
                warned = True
                yield Warned("log.not_written", problem, run=run)
    except MorulaError as error:
        if begun:  # a command that is refused before its first event changes nothing
            logs.add(Failed(error.code, str(error), run=run))
        raise
    except KeyboardInterrupt:
        logs.add(Failed("run.interrupted", "interrupted", run=run))
        raise


class _Logs:
    """The two files, opened for each line: another process may read, move or truncate them at any time."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.last_line = time.monotonic()
        self.last_record: dict[Task, float] = {}

    def add(self, event: Event) -> str | None:
        """Append an event to both files. Returns what went wrong, or nothing."""
        try:
            if self._in_log(event):
                self.last_line = time.monotonic()
                moment = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
                text = "interrupted" if isinstance(event, Failed) and event.code == "run.interrupted" else line(event)
                _append(self.folder.log_file, f"{moment}  {text.replace(chr(10), chr(10) + '    ')}\n")
            if self._in_records(event):
                record = {"time": datetime.now().astimezone().isoformat(timespec="milliseconds"), **to_record(event, self.folder.path)}
                _append(self.folder.events_file, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:  # a full disk must not end a training of days because of its log
            return (
                f"the logs of {self.folder.path} cannot be written: {error}. The run continues; free disk space or correct the permissions."
            )
        return None

    def _in_log(self, event: Event) -> bool:
        if isinstance(event, Progress):
            return time.monotonic() - self.last_line > PROGRESS_SECONDS
        return not isinstance(event, Preview) and not (isinstance(event, FileWritten) and event.kind is Artefact.PREVIEW)

    def _in_records(self, event: Event) -> bool:
        if isinstance(event, Preview):  # the file that holds the picture has an event of its own
            return False
        if isinstance(event, Progress) and event.done != event.total:
            now = time.monotonic()
            if now - self.last_record.get(event.task, -RECORD_SECONDS) < RECORD_SECONDS:
                return False
            self.last_record[event.task] = now
        return True


def _append(file: Path, text: str) -> None:
    """Append whole lines in one write. A line that a killed process left unfinished is ended first, so that it spoils no other."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                text = "\n" + text
        stream.write(text.encode())


def read_events(run: str | Path) -> Iterator[Event]:
    """The events that a run recorded, in order, without previews. Lines that a killed process left unfinished are skipped.

    Examples:
        >>> for event in read_events("runs/nuclei"):  # doctest: +SKIP
        ...     print(event)
    """
    folder = RunFolder(Path(run))
    if not folder.events_file.is_file():
        return
    with folder.events_file.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                yield from_record(json.loads(text), folder.path)
            except (json.JSONDecodeError, AttributeError, DataError):  # an unfinished line, or an event of a newer version
                continue
