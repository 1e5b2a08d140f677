"""What a workflow tells while it works: one stream, read by the command line, the viewer, the report and the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Started:
    """A stage (train, predict, decode, evaluate, report, ...) begins; `total` counts its steps where known."""

    stage: str
    total: int | None = None
    message: str = ""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of a stage are finished; `note` is short (a file name, a loss)."""

    stage: str
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Epoch:
    """An epoch ended: its number from 1, the steps taken so far, and its figures by name (loss, validation_loss, rate, ...)."""

    epoch: int
    epochs: int
    step: int
    figures: dict[str, float]
    seconds: float
    best: bool = False


@dataclass(frozen=True)
class Preview:
    """A picture to look at: (Y, X) or (Y, X, 3), uint8 or float in [0, 1]."""

    name: str
    image: np.ndarray
    epoch: int | None = None


@dataclass(frozen=True)
class FileWritten:
    """A file was finished. `what` says in a few words what it holds."""

    path: Path
    what: str = ""


@dataclass(frozen=True)
class Warned:
    """Something that the user should know, with the remedy."""

    message: str


@dataclass(frozen=True)
class Logged:
    """A plain line for the log."""

    message: str


@dataclass(frozen=True)
class Finished:
    """A stage ended; `figures` are its results by name."""

    stage: str
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)


Event: TypeAlias = Started | Progress | Epoch | Preview | FileWritten | Warned | Logged | Finished


def line(event: Event) -> str:
    """An event as a line of text.

    Examples:
        >>> line(Warned("the image is constant"))
        'warning: the image is constant'
        >>> line(Epoch(2, 10, 40, {"loss": 0.25}, 3.0, best=True))
        'epoch 2/10  loss 0.25  3.0 s *'
    """
    match event:
        case Started(stage, _, message):
            return f"{stage}{f': {message}' if message else ''}"
        case Progress(stage, done, total, note):
            return f"{stage} {done}{f'/{total}' if total else ''} {note}".rstrip()
        case Epoch():
            return f"epoch {event.epoch}/{event.epochs}  {_figures(event.figures)}  {event.seconds:.1f} s{' *' if event.best else ''}"
        case Preview(name):
            return f"preview {name}"
        case FileWritten(path, what):
            return f"wrote {path}{f' ({what})' if what else ''}"
        case Warned(message):
            return f"warning: {message}"
        case Logged(message):
            return message
        case Finished(stage, seconds, figures):
            return f"{stage}: {_figures(figures)} ({seconds:.0f} s)" if figures else f"{stage} finished in {seconds:.0f} s"


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
