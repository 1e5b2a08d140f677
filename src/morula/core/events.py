"""Events: what a workflow reports while it works. One stream serves the command line, viewers, the report, dialects and tests.

Every event names the run and the task it belongs to. A task is a path of names, because work is nested::

    ()                          the run itself
    ("predict",)                2 of 5 images
    ("predict", "a")            the image a
    ("predict", "a", "tiles")   34 of 100 tiles

Each task counts one unit. Code that does the work does not know where it is in this tree: it yields events of its own task, and its caller
places them with `below`::

    def tiles():                              # knows only its own counter
        yield Progress(34, 100, "tile")

    yield from below("a", below("tiles", tiles()))
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

from morula.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

Result = TypeVar("Result")
Task: TypeAlias = tuple[str, ...]
"""Names from the outermost task to the innermost one; empty for the run itself."""


class Artefact(StrEnum):
    """What a file of a run is. Members may be added, never renamed: their values are in ``events.jsonl``."""

    JOB = "job"
    PROVENANCE = "provenance"
    MODEL = "model"
    CHECKPOINT = "checkpoint"
    BEST_WEIGHTS = "best_weights"
    CURVES = "curves"
    PREVIEW = "preview"
    LOG = "log"
    CHANNELS = "channels"
    LABELS = "labels"
    RAW_LABELS = "raw_labels"
    CLASSES = "classes"
    INTERMEDIATE = "intermediate"
    IMAGE = "image"
    TABLE = "table"
    FULL_TABLE = "full_table"
    STATISTICS = "statistics"
    SCORES = "scores"
    CLASS_SCORES = "class_scores"
    BASELINES = "baselines"
    ASSOCIATIONS = "associations"
    PSEUDO_LABELS = "pseudo_labels"
    COMPARISON = "comparison"
    PICTURE = "picture"
    OUTLINES = "outlines"
    COLOURED = "coloured"
    EXPERIMENT = "experiment"
    SUMMARY = "summary"
    REPORT = "report"

    @property
    def meaning(self) -> str:
        """A few words for people.

        Examples:
            >>> Artefact.RAW_LABELS.meaning
            'labels before post-processing'
        """
        return _MEANINGS.get(self, self.value.replace("_", " "))


_MEANINGS = {
    Artefact.OUTLINES: "outlines of the objects, for other programs",
    Artefact.COLOURED: "labels in colours",
    Artefact.EXPERIMENT: "one row per object of all images",
    Artefact.SUMMARY: "one row per image",
    Artefact.JOB: "job with all defaults written out",
    Artefact.CHECKPOINT: "state to resume from",
    Artefact.BEST_WEIGHTS: "best weights so far",
    Artefact.CURVES: "learning curves",
    Artefact.CHANNELS: "predicted channels",
    Artefact.RAW_LABELS: "labels before post-processing",
    Artefact.CLASSES: "class of each object",
    Artefact.INTERMEDIATE: "intermediate result of the decoder",
    Artefact.IMAGE: "restored image",
    Artefact.TABLE: "one row per object",
    Artefact.FULL_TABLE: "one row per object, removed ones included",
    Artefact.STATISTICS: "number, size and area fraction of the objects",
    Artefact.SCORES: "scores per image and pooled",
    Artefact.CLASS_SCORES: "scores per class of objects",
    Artefact.BASELINES: "scores of plain methods",
    Artefact.ASSOCIATIONS: "found objects green, missed red, false blue",
    Artefact.PSEUDO_LABELS: "pseudo-labels and masks",
    Artefact.COMPARISON: "one row per representation",
}


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Where an event comes from: the run folder (or the output of a command without one) and the task."""

    run: str = ""
    task: Task = ()


@dataclass(frozen=True)
class Started(_Placed):
    """A task begins. `total` is the number of its units where known, `unit` the singular of what is counted (image, tile, step, ...)."""

    total: int | None = None
    unit: str = ""
    message: str = ""


@dataclass(frozen=True)
class Progress(_Placed):
    """`done` of `total` units of the task are finished; `note` is short (a file name, a loss)."""

    done: int
    total: int | None = None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Epoch(_Placed):
    """An epoch ended: its number from 1, the steps taken so far, and its figures by name (loss, validation_loss, rate, ...)."""

    epoch: int
    epochs: int
    step: int
    figures: dict[str, float]
    seconds: float
    best: bool = False


@dataclass(frozen=True)
class Preview(_Placed):
    """A picture to look at: (Y, X) or (Y, X, 3), uint8 or float in [0, 1].

    It may consist of tiles of equal size; `rows` and `columns` are their titles. `arrays` are what the picture was drawn from, by name:
    (Z)YX, or K(Z)YX for several channels; whole numbers are labels.
    """

    name: str
    image: np.ndarray
    epoch: int | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class FileWritten(_Placed):
    """A file (or folder) is complete. `note` is for people; programs use `kind`."""

    path: Path
    kind: Artefact
    note: str = ""


@dataclass(frozen=True)
class Warned(_Placed):
    """Something that the user should know, with a stable `code` (``area.problem``, as errors have) and the remedy in the message."""

    code: str
    message: str


@dataclass(frozen=True)
class Logged(_Placed):
    """A line for the log."""

    message: str


@dataclass(frozen=True)
class Finished(_Placed):
    """A task ended; `figures` are its results by name."""

    seconds: float
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(_Placed):
    """A run ended with an error. Only in ``events.jsonl``: a stream of events raises the error instead."""

    code: str
    message: str


Event: TypeAlias = Started | Progress | Epoch | Preview | FileWritten | Warned | Logged | Finished | Failed
_KINDS: dict[str, type[Event]] = {
    "started": Started,
    "progress": Progress,
    "epoch": Epoch,
    "file_written": FileWritten,
    "warned": Warned,
    "logged": Logged,
    "finished": Finished,
    "failed": Failed,
}


@overload
def below(  # type: ignore[overload-overlap]
    task: str, events: Generator[Event, None, Result], *, run: str = ""
) -> Generator[Event, None, Result]: ...
@overload
def below(task: str, events: Iterable[Event], *, run: str = "") -> Generator[Event, None, None]: ...
def below(task: str, events: Iterable[Event], *, run: str = "") -> Generator[Event, None, object]:
    """Place the events of an inner generator below a task. Its return value is passed on.

    Args:
        task: name of the task.
        events: events whose tasks are relative to this one.
        run: the run, for events that do not name one yet.

    Examples:
        >>> [event.task for event in below("predict", below("a", [Progress(1, 2), Logged("x")]))]
        [('predict', 'a'), ('predict', 'a')]
    """
    inner = iter(events)
    try:
        while True:
            try:
                event = next(inner)
            except StopIteration as end:
                return end.value
            yield replace(event, task=(task, *event.task), run=event.run or run)
    finally:
        if isinstance(inner, Generator):  # a reader that stops early stops the work at once, not when memory is collected
            inner.close()


def line(event: Event) -> str:
    """An event as a line of text.

    Examples:
        >>> line(Warned("image.constant", "the image is constant"))
        'warning: the image is constant'
        >>> line(Epoch(2, 10, 40, {"loss": 0.25}, 3.0, best=True))
        'epoch 2/10  loss 0.25  3.0 s *'
        >>> line(Progress(34, 100, "tile", task=("predict", "a", "tiles")))
        'predict > a > tiles: 34/100'
    """
    name = " > ".join(event.task)
    match event:
        case Started(total, unit, message):
            counted = f"{total} {unit}{'s' if total != 1 else ''}" if total and unit else ""
            return ": ".join(part for part in (name, message or counted) if part) or "started"
        case Progress(done, total, unit, note):
            counted = f"{done}/{total}" if total else f"{done} {unit}".rstrip()
            return " ".join(part for part in (f"{name}:" if name else unit, counted, note) if part)
        case Epoch():
            return f"epoch {event.epoch}/{event.epochs}  {_figures(event.figures)}  {event.seconds:.1f} s{' *' if event.best else ''}"
        case Preview():
            return f"preview {event.name}"
        case FileWritten(path, kind, note):
            return f"wrote {path} ({note or kind.meaning})"
        case Warned(_, message):
            return f"warning: {message}"
        case Failed(_, message):
            return f"error: {message}"
        case Logged(message):
            return message
        case Finished(seconds, figures):
            return (
                f"{name or 'result'}: {_figures(figures)} ({seconds:.0f} s)" if figures else f"{name} finished in {seconds:.0f} s".strip()
            )


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def to_record(event: Event, folder: Path | None = None) -> dict[str, object]:
    """An event as values that JSON can hold, as in ``events.jsonl``. Values that are not finite become `None`.

    Args:
        event: any event but a `Preview`, whose picture is a file of its own.
        folder: run folder; paths inside it are recorded relative to it, so that the record stays right when the folder moves.

    Raises:
        DataError: for a `Preview`.

    Examples:
        >>> to_record(Progress(1, 2, "image", run="runs/a", task=("predict",)))
        {'event': 'progress', 'run': 'runs/a', 'task': ['predict'], 'done': 1, 'total': 2, 'unit': 'image', 'note': ''}
    """
    name = next((name for name, kind in _KINDS.items() if type(event) is kind), None)
    if name is None:
        raise DataError("events.no_record", "a preview has no record; its picture is a file", value=type(event).__name__)
    values = {entry.name: getattr(event, entry.name) for entry in dataclasses.fields(event)}
    return {"event": name} | {key: _plain(value, folder) for key, value in values.items()}


def _plain(value: object, folder: Path | None) -> object:
    if isinstance(value, Path):
        inside = folder is not None and value.is_relative_to(folder)
        return (value.relative_to(folder) if folder is not None and inside else value).as_posix()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, folder) for key, inner in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):  # of NumPy, too
        return float(value) if math.isfinite(value) else None
    return value.value if isinstance(value, StrEnum) else value


def from_record(record: Mapping[str, object], folder: Path | None = None) -> Event:
    """The event of a record; `folder` as in `to_record`. Keys that are not known are ignored: later versions may add some.

    Raises:
        DataError: when it is no record of an event.

    Examples:
        >>> from_record({"event": "logged", "task": ["train"], "message": "resumed"})
        Logged(run='', task=('train',), message='resumed')
    """
    kind = _KINDS.get(str(record.get("event")))
    if kind is None:
        raise DataError("events.unknown_record", "is not the record of an event", value=record.get("event"))
    names = {entry.name for entry in dataclasses.fields(kind)}
    values: dict[str, object] = {key: value for key, value in record.items() if key in names}
    task, figures, path = record.get("task"), record.get("figures"), record.get("path")
    values["task"] = tuple(map(str, task)) if isinstance(task, list) else ()
    if isinstance(figures, Mapping):
        values["figures"] = {key: math.nan if value is None else value for key, value in figures.items()}
    if isinstance(path, str):
        values["path"] = Path(path) if folder is None else folder / path
    if kind is FileWritten:
        values["kind"] = Artefact(str(record.get("kind")))
    try:
        return kind(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError("events.incomplete_record", f"lacks a field of its kind ({error})", value=record.get("event")) from None


def drained(steps: Generator[object, None, Result]) -> Result:
    """What a generator of events returns; its events are dropped.

    Examples:
        >>> def steps():
        ...     yield "an event"
        ...     return 42
        >>> drained(steps())
        42
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
