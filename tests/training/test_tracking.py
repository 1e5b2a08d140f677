from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Logged, Preview, Warned
from morula.training.tracking import CurveTable, track


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epoch(number: int, *, best: bool = False, **figures: float) -> Epoch:
    return Epoch(number, 9, number * 10, figures, 1.5, best)


def test_passes_everything_through(tmp_path: Path) -> None:
    events: list[Event] = [Logged("a"), epoch(1, loss=0.5), Preview("x", np.zeros((4, 4)), 1), Finished(1.0)]
    seen = list(track(events, tmp_path))
    assert [event for event in seen if not isinstance(event, FileWritten)] == events
    written = [(event.kind, event.path.name) for event in seen if isinstance(event, FileWritten)]
    assert written == [(Artefact.PREVIEW, "x_0001.png"), (Artefact.CURVES, "training.csv")]


def test_table_gains_columns_and_keeps_their_order(tmp_path: Path) -> None:
    list(track([epoch(1, loss=0.5), epoch(2, loss=0.4, validation_loss=0.6), epoch(3, loss=0.25)], tmp_path))
    found = rows(tmp_path)
    assert list(found[0]) == ["epoch", "step", "seconds", "best", "loss", "validation_loss"]
    assert [r["validation_loss"] for r in found] == ["", "0.6", ""]
    assert float(found[2]["loss"]) == 0.25


def test_resumed_rows_replace_the_old_ones(tmp_path: Path) -> None:
    list(track([epoch(n, loss=n / 10, validation_loss=1.0) for n in (1, 2, 3)], tmp_path))
    list(track([epoch(n, loss=n / 100) for n in (3, 4)], tmp_path))
    assert [(r["epoch"], r["loss"]) for r in rows(tmp_path)] == [("1", "0.1"), ("2", "0.2"), ("3", "0.03"), ("4", "0.04")]
    assert list(rows(tmp_path)[0])[-1] == "validation_loss"


def test_table_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    path.write_text("epoch,step,seconds,best,loss\n1,10,1,0,0.5\n2")
    table = CurveTable(path)
    table.add(epoch(2, loss=0.4))
    assert [row["step"] for row in table.rows] == ["10", "20"]


def test_previews(tmp_path: Path) -> None:
    grey, colour = np.linspace(0, 1, 12).reshape(3, 4), np.full((3, 4, 3), 7, np.uint8)
    list(track([Preview("channel F/first", grey, 12), Preview("whole", colour)], tmp_path))
    folder = tmp_path / "logs" / "previews"
    assert sorted(p.name for p in folder.iterdir()) == ["channel-F-first_0012.png", "whole.png"]
    assert np.asarray(Image.open(folder / "channel-F-first_0012.png"))[-1, -1] == 255
    assert np.array_equal(np.asarray(Image.open(folder / "whole.png")), colour)


def test_tensorboard(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(track([epoch(1, loss=0.5), Preview("x", np.zeros((4, 4)), 1), epoch(2, loss=0.25)], tmp_path))
    log = reader.EventAccumulator(str(tmp_path / "logs"))
    log.Reload()
    assert [(e.step, e.value) for e in log.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert log.Images("x")[0].step == 1


def test_unwritable_log_warns_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "logs" / "training.csv.new").mkdir(parents=True)
    seen = list(track([epoch(1, loss=0.5), epoch(2, loss=0.4), Finished(1.0)], tmp_path))
    assert len([e for e in seen if isinstance(e, Warned)]) == 1
    assert next(e.code for e in seen if isinstance(e, Warned)) == "log.not_written"
    (tmp_path / "logs" / "training.csv.new").rmdir()
    assert [e.path.name for e in seen if isinstance(e, FileWritten)] == ["training.csv"]
