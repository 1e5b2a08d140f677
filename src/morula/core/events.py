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
