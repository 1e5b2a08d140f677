"""The two logs of a run: complete, appended to, and readable after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from morula.core.errors import DataError
from morula.core.events import Artefact, Event, Failed, FileWritten, Logged, Progress, Warned
from morula.jobs.run_folder import RunFolder
from morula.workflows.log import logged, read_events


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_events_name_their_run(folder: RunFolder) -> None:
    written = FileWritten(folder.objects / "a.tif", Artefact.LABELS, task=("predict", "a"))
    passed = list(logged([written], folder))
    assert passed == list(read_events(folder.path)) == [FileWritten(written.path, written.kind, run=str(folder.path), task=written.task)]


def test_resumed_run_appends_after_unfinished_line(folder: RunFolder) -> None:
    list(logged([Logged("one")], folder))
    with folder.events_file.open("a") as stream:
        stream.write('{"time": "2026-01-01T00:00:00", "event": "log')  # killed in the middle of a write
    list(logged([Logged("two")], folder))
    assert [event.message for event in read_events(folder.path) if isinstance(event, Logged)] == ["one", "two"]
    assert len(folder.events_file.read_text().splitlines()) == 3


def test_progress_is_thinned_but_ends(folder: RunFolder) -> None:
    list(logged((Progress(done, 1000, "tile", task=("tiles",)) for done in range(1001)), folder))
    counts = [event.done for event in read_events(folder.path) if isinstance(event, Progress)]
    assert counts[0] == 0
    assert counts[-1] == 1000
    assert len(counts) < 10


def test_error_is_recorded(folder: RunFolder) -> None:
    def failing() -> Iterator[Event]:
        yield Logged("one")
        raise DataError("image.empty", "the image is empty", file="a.tif")

    with pytest.raises(DataError):
        list(logged(failing(), folder))
    *_, last = read_events(folder.path)
    assert isinstance(last, Failed)
    assert last.code == "image.empty"
    assert json.loads(folder.events_file.read_text().splitlines()[-1])["event"] == "failed"


def test_log_that_cannot_be_written_warns_once(folder: RunFolder) -> None:
    folder.path.mkdir()
    folder.logs.write_text("a file where the folder should be")
    events = list(logged([Logged("one"), Logged("two")], folder))
    assert [event.code for event in events if isinstance(event, Warned)] == ["log.not_written"]
    assert [event.message for event in events if isinstance(event, Logged)] == ["one", "two"]
