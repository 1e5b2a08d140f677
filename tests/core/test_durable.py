"""Atomic writes: the content is on the disk before the name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.atomic import atomic
from morula.core.manifest import RESULTS, is_result, recording
from morula.measurement.csv_table import write_table
from morula.testing.errors import raises


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Calls of fsync and rename, in order, with the names of the files."""
    made: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        made.append(("fsync", os.path.realpath(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        made.append(("rename", os.path.realpath(source)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return made


def _text(path: Path) -> None:
    with atomic(path) as part:
        part.write_text("done")


LABELS = np.eye(9, dtype=np.uint16)
WRITERS: dict[str, Callable[[Path], object]] = {
    "a.txt": _text,
    "a.csv": lambda path: write_table(path, {"label": [1], "voxels": [2]}),
    "a.tif": lambda path: morula.write(path, LABELS, labels=True),
    "a.h5": lambda path: morula.write(path, LABELS, labels=True),
    "a.ome.zarr": lambda path: morula.write(path, LABELS, axes="YX", labels=True),
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads the names of open files in /proc")
@pytest.mark.parametrize("name", WRITERS)
def test_content_is_flushed_before_it_gets_its_name(tmp_path: Path, name: str, steps: list[tuple[str, str]]) -> None:
    folder = tmp_path.resolve()
    with recording(folder, RESULTS):
        WRITERS[name](folder / name)
    renames = [step for step in steps if step[0] == "rename" and Path(step[1]).parent == folder]
    (last,) = renames
    before, after = steps[: steps.index(last)], steps[steps.index(last) + 1 :]
    assert ("fsync", last[1]) in before
    assert ("fsync", str(folder)) in after
    if (folder / name).is_dir():  # all that is in it, too
        inner = {str(Path(last[1]) / file.relative_to(folder / name)) for file in (folder / name).rglob("*")}
        assert inner <= {path for _, path in before}
    else:  # its line in the record is on the disk before its name
        assert ("fsync", str(folder / RESULTS)) in before
        assert is_result(folder / name)


@pytest.mark.parametrize("error", [28, 5])
def test_a_failed_flush_leaves_no_file(tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fail)
    with raises("file.not_written"):
        _text(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_file_systems_without_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> None:
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(os, "fsync", unsupported)
    _text(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "done"
