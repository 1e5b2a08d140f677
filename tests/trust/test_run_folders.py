"""Run folders: what --overwrite removes, who may write, and what is left of killed processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from morula.core.atomic import atomic
from morula.core.leftovers import temporary_name
from morula.core.lock import is_locked, locked
from morula.core.manifest import discard, foreign_entries, record, recorded, recording, run_folder_of
from morula.core.outputs import check_outputs
from morula.jobs.run_folder import RunFolder
from morula.testing.errors import raises


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(folder: Path) -> Path:
    with RunFolder(folder).new():
        for name in ("job.yaml", "objects/a.tif", "checkpoints/last/state.pt"):
            with atomic(folder / name) as part:
                part.write_text(name)
        (folder / "logs").mkdir()
        (folder / "logs" / "log.txt").write_text("a line")
    return folder


def test_a_run_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    assert not list(foreign_entries(folder))
    assert not (folder / ".lock").exists()
    with raises("run_folder.not_empty"), RunFolder(folder).new():
        pass
    with RunFolder(folder).new(overwrite=True):
        assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("change", ["added", "changed", "link", "empty folder", "in objects", "no manifest", "manifest of others"])
def test_anything_else_keeps_the_whole_folder(tmp_path: Path, change: str) -> None:
    folder = made(tmp_path / "run")
    name = {"added": "notes.txt", "changed": "job.yaml", "in objects": "objects/mine.tif"}.get(change)
    if name:
        (folder / name).write_text("mine")
    elif change == "link":
        (folder / "link").symlink_to(tmp_path)
    elif change == "empty folder":
        (folder / "mine").mkdir()
    elif change == "no manifest":
        (folder / "manifest.jsonl").unlink()
    else:
        (folder / "manifest.jsonl").write_text('{"path": "job.yaml"}\n')
    before = files(folder)
    with raises("run_folder.foreign_files", file=str(folder)) as caught, RunFolder(folder).new(overwrite=True):
        pass
    assert caught.error.rule.count(name or "")
    assert files(folder) == before


def test_a_job_file_is_no_proof(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("images: {}")
    (tmp_path / "thesis.txt").write_text("mine")
    with raises("run_folder.foreign_files"), RunFolder(tmp_path).new(overwrite=True):
        pass
    assert set(files(tmp_path)) == {"job.yaml", "thesis.txt"}


def test_a_demo_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from morula.cli.demo import demo

    (tmp_path / "job.yaml").write_text("images: {}")
    with raises("run_folder.foreign_files"):
        list(demo(tmp_path, overwrite=True))
    monkeypatch.setattr("os.access", lambda *_: False)
    with raises("file.not_written"):
        list(demo(tmp_path / "new"))
    assert set(files(tmp_path)) == {"job.yaml"}


def test_runs_inside_recorded_folders(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "demo").new():
        with atomic(tmp_path / "demo" / "job.yaml") as part:
            part.write_text("a job")
        made(tmp_path / "demo" / "run")
    assert not list(foreign_entries(tmp_path / "demo"))
    (tmp_path / "demo" / "run" / "mine").write_text("mine")
    assert list(foreign_entries(tmp_path / "demo")) == ["run/mine"]


@pytest.mark.parametrize("place", ["runs", "run"])
def test_a_run_does_not_replace_other_runs(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    inner = made((made(folder) if place == "run" else folder) / "second")
    before = files(folder)
    with raises("run_folder.foreign_files") as caught, RunFolder(folder).new(overwrite=True):
        pass
    assert f"{inner.name}/" in caught.error.rule
    assert files(folder) == before


def test_files_of_a_run_are_no_outputs_of_others(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    assert run_folder_of(folder / "objects" / "a.tif") == folder.resolve()
    with raises("output.of_run"):
        check_outputs([folder / "objects" / "a.tif"], overwrite=True)
    check_outputs([folder / "objects" / "b.csv"])


def test_results_are_discarded_only_as_they_were_written(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    (folder / "objects" / "mine.tif").write_text("mine")
    assert discard(folder, "objects", "scores.csv") == ["objects"]
    assert [path.name for path in (folder / "objects").iterdir()] == ["mine.tif"]


def test_lines_that_a_killed_process_left_unfinished(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    with (folder / "manifest.jsonl").open("a") as file:
        file.write('{"path": "obj')
    with recording(folder):
        (folder / "more").write_text("more")
        record(folder / "more")
    assert "more" in (recorded(folder) or {})
    assert all(json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines() if line != '{"path": "obj')


HOLD = """
import sys, time
from pathlib import Path
from morula.jobs.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).in_use():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "locked\n"
    before = files(folder)
    try:
        for overwrite in (False, True):
            with raises("run_folder.in_use", file=str(folder)), RunFolder(folder).new(overwrite=overwrite):
                pass
        with raises("run_folder.in_use"), RunFolder(folder).in_use():
            pass
        assert files(folder) == before
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    with RunFolder(folder).in_use():
        pass
    assert not (folder / ".lock").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    ended, start = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if not child:
            os.close(start)
            os.read(ended, 1)  # until the parent closes its end
            os._exit(0)
    with locked(tmp_path):
        assert is_locked(tmp_path / ".lock")
    os.close(start)
    assert os.waitpid(child, 0)[1] == 0


def test_leftovers_of_killed_processes(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.communicate()
    target = tmp_path / "cells.tif"
    of_dead = temporary_name(target, "part").name.replace(f"-p{os.getpid()}-", f"-p{dead.pid}-")
    alive = temporary_name(target, "part").name.replace(f"-p{os.getpid()}-", f"-p{os.getppid()}-")
    others = ".other.tif.part-0123abcd.tif"
    for name in (of_dead, alive, others, ".cells.tif.part-0123abcd.tif", ".cells.tif.notes"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".cells.tif.old-0123abcd.tif").mkdir()
    with atomic(target) as part:
        part.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"cells.tif", alive, others, ".cells.tif.notes"}


def test_a_live_temporary_file_of_this_process_stays(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as first:
        first.write_text("first")
        with atomic(tmp_path / "a") as second:
            second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"
    assert time.time() - (tmp_path / "a").stat().st_mtime < 60
