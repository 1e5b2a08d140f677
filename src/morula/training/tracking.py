"""Readers of the event stream that write the logs of a training: a CSV table, TensorBoard files, and pictures."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula.core.durable import put_in_place
from morula.core.errors import FileReadError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Preview, Warned
from morula.core.manifest import record

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

_FIXED = ["epoch", "step", "seconds", "best"]


def track(events: Iterable[Event], folder: Path) -> Iterator[Event]:
    """Pass events through and write them to ``logs/`` of the run folder.

    ``training.csv`` has one row per `Epoch` event, ``previews/`` one PNG per `Preview`, and where the package tensorboard
    is installed (the extra ``track``) its event files hold both. After a resume, repeated rows replace the old ones. A log
    that cannot be written causes one warning and does not end the training.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for event in track([Epoch(1, 5, 40, {"loss": 0.5}, 2.0)], Path(folder)):
        ...         print((Path(folder) / "logs/training.csv").read_text().split())
        ['epoch,step,seconds,best,loss', '1,40,2.0,0,0.5']
    """
    logs = folder / "logs"
    table, board = CurveTable(logs / "training.csv"), Board(logs)
    warned = False
    try:
        for event in events:
            problem, picture = None, None
            try:  # before the event is passed on: a reader of the event finds the file
                if isinstance(event, Epoch):
                    table.add(event)
                    board.add(event)
                elif isinstance(event, Preview):
                    picture = save_preview(event, logs / "previews")
                    board.show(event)
            except OSError as error:
                problem = f"a log in {logs} cannot be written: {error}. The training continues; free disk space."
            yield event
            if picture:
                yield FileWritten(picture, Artefact.PREVIEW)
            if problem and not warned:
                warned = True
                yield Warned("log.not_written", problem)
            if isinstance(event, Finished):
                yield FileWritten(table.path, Artefact.CURVES)
    finally:
        board.close()


class CurveTable:
    """The learning curves, ``training.csv``: columns epoch, step, seconds, best, then the figures in order of appearance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = list(_FIXED)
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    reader = csv.DictReader(file)
                    self.columns += [name for name in reader.fieldnames or [] if name not in self.columns]
                    self.rows = [row for row in reader if (row.get("step") or "").isdecimal()]
            except (OSError, ValueError, csv.Error) as error:
                remedy = "Delete or rename it; a new table begins then."
                raise FileReadError("run_folder.damaged_file", f"is damaged: {error}", file=path, remedy=remedy) from error

    def add(self, event: Epoch) -> None:
        """Add a row; existing rows of this step or later ones, which a resumed training repeats, are removed.

        Raises:
            OSError: when the file cannot be written; the row is kept and written with the next one.
        """
        self.rows = [row for row in self.rows if int(row["step"]) < event.step]
        fixed = {"epoch": event.epoch, "step": event.step, "seconds": round(event.seconds, 3), "best": int(event.best)}
        self.columns += [name for name in event.figures if name not in self.columns]
        self.rows.append({name: str(value) for name, value in {**fixed, **event.figures}.items()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # written completely before it replaces the old table, which other programs may have open
        fresh = self.path.with_suffix(".csv.new")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        record(self.path, fresh)
        put_in_place(fresh, self.path)


class Board:
    """Event files of TensorBoard; does nothing where the package is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.present = importlib.util.find_spec("tensorboard") is not None
        self.writer: SummaryWriter | None = None

    def _open(self, step: int) -> SummaryWriter:
        if self.writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=step)  # hides later points of an interrupted run
        return self.writer

    def add(self, event: Epoch) -> None:
        """Add the figures to the curves over steps."""
        if self.present:
            for name, value in event.figures.items():
                self._open(event.step).add_scalar(name, value, event.step)

    def show(self, event: Preview) -> None:
        """Add the picture to the series over epochs."""
        if self.present:
            image = as_uint8(event.image)
            self._open(event.epoch or 0).add_image(event.name, image, event.epoch or 0, dataformats="HW" if image.ndim == 2 else "HWC")

    def close(self) -> None:
        """Write buffered events."""
        if self.writer is not None:
            self.writer.close()


def as_uint8(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 or float in [0, 1], as uint8; NaN becomes 0.

    Examples:
        >>> as_uint8(np.array([0.0, 0.5, 2.0])).tolist()
        [0, 128, 255]
    """
    return image if image.dtype == np.uint8 else np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)


def save_preview(event: Preview, folder: Path) -> Path:
    """Write the picture as ``NAME_EPOCH.png``, with the titles of its tiles as text entries.

    Characters that are not allowed in file names become ``-``.

    Raises:
        OSError: when it cannot be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    name = re.sub(r"[^\w.+-]+", "-", event.name).strip("-.") or "preview"
    path = folder / (f"{name}.png" if event.epoch is None else f"{name}_{event.epoch:04d}.png")
    folder.mkdir(parents=True, exist_ok=True)
    titles = PngInfo()
    for key, values in (("rows", event.rows), ("columns", event.columns)):
        if values:
            titles.add_text(key, json.dumps(values))
    Image.fromarray(as_uint8(event.image)).save(path, pnginfo=titles)
    record(path)
    return path
