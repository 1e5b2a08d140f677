"""Commands on folders that no run has written into: one error, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.jobs.run_folder import RunFolder
from morula.report.build import write_report
from morula.testing.errors import raises
from morula.workflows.compare import compare

LABELS = np.kron(np.eye(3, dtype=np.uint16), np.ones((6, 6), np.uint16))
JOB = "images:\n  train: {raw: data, labels: data}\nmethod: {kind: channels, channels: [F, C]}\n"


def folders(place: Path) -> dict[str, Path]:
    """An empty folder, a project with a job file and results of `segment`, a comparison, and one that does not exist."""
    for name in ("empty", "project", "labels"):
        (place / name).mkdir()
    (place / "project" / "job.yaml").write_text(JOB)
    (place / "project" / "cells.csv").write_text("label\n1\n")
    morula.write(place / "labels" / "a.tif", LABELS, labels=True)
    list(compare(place / "labels", ["F+C"], output=place / "comparison"))
    return {name: place / name for name in ("empty", "project", "comparison", "gone")}


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


CALLS = {
    "report": ["report", "FOLDER"],
    "predict": ["predict", "FOLDER"],
    "evaluate": ["evaluate", "FOLDER"],
    "evaluate --run": ["evaluate", "LABELS", "--run", "FOLDER", "-o", "new"],
    "tune": ["tune", "FOLDER"],
    "replay": ["replay", "FOLDER"],
    "train --resume": ["train", "JOB", "-o", "FOLDER", "--resume"],
    "run --resume": ["run", "JOB", "-o", "FOLDER", "--resume"],
    "segment": ["segment", "LABELS", "-m", "FOLDER"],
    "export": ["export", "FOLDER", "--bioimageio", "-o", "m.zip"],
}


def test_commands_on_a_folder_that_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = folders(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    named = {"JOB": str(tmp_path / "project" / "job.yaml"), "LABELS": str(tmp_path / "labels" / "a.tif")}
    before, wrong = contents(tmp_path), {}
    for command, call in CALLS.items():
        for name, folder in known.items():
            result = CliRunner().invoke(app, [{**named, "FOLDER": str(folder)}.get(word, word) for word in call])
            errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
            if result.exit_code != 1 or len(errors) != 1 or str(folder) not in result.output or contents(tmp_path) != before:
                wrong[command, name] = result.output
    assert wrong == {}, wrong


def test_a_run_is_known_by_what_it_wrote(finished: Path, tmp_path: Path) -> None:
    with raises("run_folder.missing", file=str(tmp_path / "gone")):
        RunFolder.existing(tmp_path / "gone")
    for folder in (tmp_path, finished):  # the folder of a project holds the job file
        with raises("run_folder.no_run", file=str(folder)):
            RunFolder.existing(folder)
        with raises("run_folder.no_run", file=str(folder)):
            write_report(folder)
    assert RunFolder.existing(finished / "run").path == finished / "run"
