"""The events of a workflow, which works while they are read, and what it made when they have ended."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec

from morula.core.errors import DataError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Progress, Started, Warned

if TYPE_CHECKING:
    import pandas as pd

    from morula.models.model import Model

P = ParamSpec("P")


@dataclass(frozen=True)
class Outcome:
    """What a workflow made.

    Attributes:
        folder: the run folder, or the output of a workflow without one.
        files: the files that were written, in their order, with their kinds.
        figures: results by name, for example mean scores.
        warnings: what the user should know.
        seconds: how long it took.
        finished: whether it came to its end; false where `stop` ended a training.

    Examples:
        >>> outcome = morula.run("nuclei.yaml")  # doctest: +SKIP
        >>> outcome.scores[["image", "threshold", "f1"]]  # doctest: +SKIP
        >>> labels = outcome.model.segment(image)  # doctest: +SKIP
    """

    folder: Path
    files: tuple[FileWritten, ...] = ()
    figures: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    finished: bool = False

    def paths(self, kind: Artefact | str) -> list[Path]:
        """The files of a kind that still exist, for example of ``"labels"``; each once.

        Examples:
            >>> Outcome(Path("runs/a"), (FileWritten(Path("gone.tif"), Artefact.LABELS),)).paths("labels")
            []
        """
        found = dict.fromkeys(file.path for file in self.files if file.kind == Artefact(kind))
        return [path for path in found if path.exists()]

    @property
    def report(self) -> Path | None:
        """The HTML report, if one was written."""
        return next(iter(self.paths(Artefact.REPORT)), None)

    @cached_property
    def model(self) -> Model:
        """The trained model of the run folder.

        Raises:
            MissingFileError: when the workflow has made none.
        """
        from morula.models.load import load

        return load(self.folder)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per image and threshold, and the pooled ones.

        Raises:
            DataError: when nothing was scored.
        """
        return self._table(Artefact.SCORES)

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row per object of all images; the column `image` holds the name of its table.

        Raises:
            DataError: when nothing was measured.
        """
        return self._table(Artefact.TABLE, image=True)

    def _table(self, kind: Artefact, *, image: bool = False) -> pd.DataFrame:
        import pandas as pd

        paths = self.paths(kind)
        if not paths:
            remedy = "Give the job test images with labels." if kind is Artefact.SCORES else "Give images to predict."
            raise DataError("outcome.no_table", f"the work wrote no file of the kind {kind.value}", file=self.folder, remedy=remedy)
        tables = [pd.read_csv(path) for path in paths]
        if not image:
            return tables[-1]
        return pd.concat([table.assign(image=path.stem) for path, table in zip(paths, tables, strict=True)], ignore_index=True)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.figures) or "none"
        return (
            f"Outcome of {str(self.folder)!r}: {'finished' if self.finished else 'stopped'} after {self.seconds:.0f} s\n"
            f"  figures:  {figures}\n"
            f"  files:    {len(self.files)} written, {len(self.paths(Artefact.LABELS))} of them label images\n"
            f"  warnings: {len(self.warnings)}\n"
            f"  report:   {self.report or 'none'}"
        )


class Events(Generator[Event, None, None]):
    """Events of a workflow. The work is done while they are read: by a loop, or at once by `result`.

    Events that are thrown away unread mean work that was never done, so that a warning says so.

    Examples:
        >>> for event in morula.train("nuclei.yaml"):  # doctest: +SKIP
        ...     print(event)
        >>> outcome = morula.train("nuclei.yaml").result()  # doctest: +SKIP
    """

    def __init__(self, events: Iterator[Event], name: str) -> None:
        self._events, self._name, self._read = events, name, False

    def __next__(self) -> Event:
        self._read = True
        return next(self._events)

    def send(self, value: None) -> Event:
        """As `next`; events take no values."""
        del value
        return next(self)

    def throw(self, kind: object, value: object = None, traceback: TracebackType | None = None) -> Event:
        """Raise an error in the work."""
        self._read = True
        if isinstance(self._events, Generator):
            return self._events.throw(kind, value, traceback)  # type: ignore[call-overload]
        raise value if isinstance(value, BaseException) else kind  # type: ignore[misc]

    def close(self) -> None:
        """End the work; what is unfinished is removed."""
        self._read = True
        if isinstance(self._events, Generator):
            self._events.close()

    def result(self) -> Outcome:
        """Do the work to its end.

        Raises:
            MorulaError: as the work does.
        """
        return outcome_of(self)

    def __repr__(self) -> str:
        state = "reading" if self._read else "not started: loop over them, or call .result()"
        return f"<events of {self._name}, {state}>"

    def __del__(self) -> None:
        if not self._read and not sys.is_finalizing():
            text = f"{self._name}(...) was never started: loop over its events, or call {self._name}(...).result()."
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)


def events_of(name: str) -> Callable[[Callable[P, Iterator[Event]]], Callable[P, Events]]:
    """Decorator of a workflow: its events are `Events`. `name` is what users call it."""

    def decorate(work: Callable[P, Iterator[Event]]) -> Callable[P, Events]:
        @wraps(work)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Events:
            return Events(work(*args, **kwargs), name)

        return stream

    return decorate


def outcome_of(events: Iterator[Event]) -> Outcome:
    """Read events to their end.

    Examples:
        >>> events = iter([Warned("a.b", "dim", run="runs/a"), Finished(3.0, {"f1": 0.5}, run="runs/a")])
        >>> outcome = outcome_of(events)
        >>> outcome.folder.name, outcome.warnings, outcome.figures, outcome.finished
        ('a', ('dim',), (('f1', 0.5),), True)
    """
    files: list[FileWritten] = []
    told: list[str] = []
    figures: dict[str, float] = {}
    run, seconds, finished = "", 0.0, False
    for event in events:
        run = event.run or run
        match event:
            case FileWritten():
                files.append(event)
            case Warned(_, message):
                told.append(message)
            case Finished(spent, found):
                seconds, finished = spent, True
                figures |= found
            case Started() | Progress() | Epoch():
                finished = False
    return Outcome(Path(run), tuple(files), tuple(figures.items()), tuple(told), seconds, finished)
