"""What is wrong with what a user gives is said in words, with the file and the remedy, and leaves nothing half-done."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import morula
from morula.cli.app import app
from morula.core.errors import FileReadError, FileWriteError, JobError, Problem
from morula.core.events import Event, Finished, Progress, Warned
from morula.jobs.provenance import checksum
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises


@pytest.fixture
def mine(data2d: Path, tmp_path: Path, job_text: Callable[..., str]) -> Path:
    """A folder with a copy of the images in ``data`` and a job."""
    shutil.copytree(data2d, tmp_path / "data")
    (tmp_path / "job.yaml").write_text(job_text())
    return tmp_path


@pytest.fixture
def trained(run2d: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, without its results."""
    folder = tmp_path / "trained"
    shutil.copytree(run2d, folder)
    for name in ("objects", "report"):
        shutil.rmtree(folder / name)
    (folder / "scores.csv").unlink()
    return folder


def refused(folder: Path) -> list[Problem]:
    """The problems of the job; nothing was started."""
    with pytest.raises(JobError) as raised:
        list(morula.iter_run(folder / "job.yaml", output=folder / "run"))
    assert not (folder / "run").exists()
    return raised.value.problems


def finished(folder: Path) -> list[Warned]:
    """The warnings of a run that ends well."""
    events = list(morula.iter_run(folder / "job.yaml", output=folder / "run"))
    assert isinstance(events[-1], Finished)
    return [event for event in events if isinstance(event, Warned)]


def test_binary_masks_cause_a_warning(mine: Path) -> None:
    for file in (mine / "data/train/labels").iterdir():
        replaced(file, (np.asarray(morula.read(file)) > 0).astype(np.uint8))
    assert [warned.code for warned in finished(mine)] == ["labels.mask"]


def replaced(path: Path, values: np.ndarray) -> None:
    morula.write(path, values, axes="YX", overwrite=True)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".part-" in path.name or path.name.endswith((".new", ".tmp"))]


# files


def test_all_missing_files_are_reported(mine: Path) -> None:
    shutil.rmtree(mine / "data/train/images")
    shutil.rmtree(mine / "data/test/labels")
    problems = refused(mine)
    assert [(problem.code, problem.key) for problem in problems] == [("file.missing", "images.train"), ("file.missing", "images.test")]
    assert str(mine / "data/train/images") in problems[0].rule


def test_file_that_is_no_image(mine: Path) -> None:
    (mine / "data/train/images/nuclei_001.tif").write_text("a thesis")
    (problem,) = refused(mine)
    assert (problem.code, problem.key) == ("images.labels_do_not_match", "images.train")
    assert "nuclei_001.tif" in problem.rule


@pytest.mark.parametrize("part", ["train/images", "train/labels", "test/images", "test/labels"])
def test_a_truncated_file_is_named(mine: Path, part: str) -> None:
    path = mine / "data" / part / "nuclei_000.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((FileReadError, JobError)) as raised:
        list(morula.iter_run(mine / "job.yaml", output=mine / "run"))
    error = raised.value
    (fault,) = error.problems if isinstance(error, JobError) else [error]
    assert fault.code in ("file.unreadable", "images.labels_do_not_match")
    assert str(path) in str(fault)
    assert leftovers(mine) == []


def test_a_damaged_chunk_of_a_zarr_image_is_named(trained: Path, data2d: Path, tmp_path: Path) -> None:
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    path = morula.write(tmp_path / "scan.ome.zarr", image)
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-100])
    with raises("file.unreadable", file=str(path / "0")):
        list(morula.segment(path, model=trained, output=tmp_path / "cells.tif"))
    assert not (tmp_path / "cells.tif").exists()
    assert leftovers(tmp_path) == []


# what does not belong together


def test_all_shape_and_count_errors_are_reported(mine: Path) -> None:
    for name in ("nuclei_000.tif", "nuclei_002.tif"):
        replaced(mine / "data/train/labels" / name, np.zeros((64, 32), np.uint16))
    (mine / "data/test/labels/nuclei_001.tif").unlink()
    problems = refused(mine)
    assert [(problem.code, problem.key) for problem in problems] == [
        ("images.labels_do_not_match", "images.train"),
        ("images.labels_do_not_match", "images.test"),
    ]
    assert all(problems[0].rule.count(shape) == 2 for shape in ("64 x 64", "64 x 32"))
    assert "nuclei_001" in problems[1].rule


def test_labels_with_fractions(mine: Path) -> None:
    replaced(mine / "data/train/labels/nuclei_000.tif", np.full((64, 64), 1.5, np.float32))
    (problem,) = refused(mine)
    assert (problem.code, problem.key, problem.value) == ("labels.fraction", "images.train", 1.5)
    assert "nuclei_000.tif" in problem.rule


def test_labels_of_whole_floats_are_taken(mine: Path) -> None:
    path = mine / "data/train/labels/nuclei_000.tif"
    replaced(path, np.asarray(morula.read(path)).astype(np.float32))
    assert not [warned for warned in finished(mine) if warned.code.startswith("labels.")]


# values


def test_an_image_without_voxels(mine: Path) -> None:
    (mine / "data/train/images/nuclei_000.tif").unlink()
    np.save(mine / "data/train/images/nuclei_000.npy", np.zeros((0, 64)))
    (problem,) = refused(mine)
    assert (problem.code, problem.key) == ("images.labels_do_not_match", "images.train")
    assert "(0, 64)" in problem.rule


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(mine: Path, trained: Path, value: float) -> None:
    path = mine / "data/train/images/nuclei_003.tif"
    values = np.asarray(morula.read(path)).astype(np.float32)
    values[5, 6] = value
    replaced(path, values)
    (problem,) = refused(mine)
    assert (problem.code, problem.key) == ("image.not_finite", "images.train")
    with raises("image.not_finite", file=str(path)):
        list(morula.segment(path, model=trained, output=mine / "cells.tif"))
    assert not (mine / "cells.tif").exists()


def test_a_constant_image_is_told_and_trained_on(mine: Path) -> None:
    for part in ("train", "test"):
        replaced(mine / f"data/{part}/images/nuclei_000.tif", np.full((64, 64), 7, np.uint16))
    warnings = finished(mine)
    assert [warned.code for warned in warnings] == ["job.doubtful", "images.values"]
    assert "is constant" in (mine / "run/logs/log.txt").read_text()
    assert "is constant" in (mine / "run/report.html").read_text()


def test_small_image_is_padded_with_a_warning(mine: Path) -> None:
    for part in ("train", "test"):
        for kind in ("images", "labels"):
            path = mine / f"data/{part}/{kind}/nuclei_000.tif"
            replaced(path, np.asarray(morula.read(path))[:20, :50])
    warnings = finished(mine)
    assert [warned.code for warned in warnings] == ["job.doubtful"]
    assert "(32, 32)" in warnings[0].message
    assert morula.read(mine / "run/objects/nuclei_000.tif").shape == (20, 50)


@pytest.mark.parametrize("objects", [0, 1])
@pytest.mark.parametrize("method", ["{kind: channels, channels: [F, C, Db]}", "{kind: semantic}"])
def test_images_with_no_or_one_object(mine: Path, job_text: Callable[..., str], method: str, objects: int) -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 10:30] = objects
    for path in [*(mine / "data").rglob("labels/*.tif")]:
        replaced(path, labels)
    (mine / "job.yaml").write_text(job_text(method))
    finished(mine)
    scores = read_table(mine / "run/scores.csv")
    if "n_true" in scores:
        assert set(scores["n_true"][scores["image"] != "pooled"].tolist()) == {objects}
    assert (mine / "run/objects/nuclei_000.csv").is_file()


def test_a_prediction_without_objects_has_an_empty_table(trained: Path, tmp_path: Path) -> None:
    list(morula.segment(np.zeros((48, 48), np.uint8), model=trained, output=tmp_path / "none.tif"))
    labels = np.asarray(morula.read(tmp_path / "none.tif"))
    table = read_table(tmp_path / "none.csv")
    assert len(table["label"]) == labels.max()


# the disk


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only")])
def test_a_disk_that_takes_no_more_leaves_no_half_file(
    trained: Path, run2d: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    import tifffile

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(tifffile.TiffWriter, "write", full)
        with raises("file.not_written") as caught:
            list(morula.predict(trained))
        assert said in str(caught.error)
    assert leftovers(trained) == []
    assert list((trained / "objects").iterdir()) == []
    assert f"error: {trained}" in (trained / "logs/log.txt").read_text()
    list(morula.predict(trained))
    assert checksum(trained / "objects") == checksum(run2d / "objects")


def test_run_folder_that_cannot_be_created(mine: Path) -> None:
    (mine / "notes.txt").write_text("a file")
    with raises("file.not_written"):
        list(morula.train(mine / "job.yaml", output=mine / "notes.txt" / "run"))
    if sys.platform == "linux":
        with pytest.raises(FileWriteError) as caught:  # the administrator learns it when the folder is made, others before
            list(morula.train(mine / "job.yaml", output="/proc/run"))
        assert caught.value.code in ("run_folder.not_made", "file.not_written")


def on_a_full_disk(folder: Path, answers: Any) -> None:
    """Train where no file may have more than 6,000 bytes."""
    import resource  # not on Windows

    os.chdir(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
    done = CliRunner().invoke(app, ["train", "job.yaml", "-o", "run"])
    answers.send((done.exit_code, done.stderr, repr(done.exception)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on file sizes")
def test_training_on_a_full_disk(mine: Path) -> None:
    list(morula.train(mine / "job.yaml", output=mine / "first"))  # Numba stores what it compiles, which is larger, too
    answers, send = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=on_a_full_disk, args=(mine, send))
    process.start()
    assert answers.poll(120)
    code, told, _ = answers.recv()
    process.join()
    assert code == 1, told
    assert "error: " in told
    assert "cannot be written" in told
    assert "free disk space" in told
    assert leftovers(mine) == []
    assert not (mine / "run/model/model.json").exists()


# Ctrl-C


@pytest.fixture(autouse=True)
def _keys_are_heard() -> Iterator[None]:
    """A shell may have started the tests in the background, where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pressing(events: Iterator[Event], task: str, at: int) -> None:
    """Read events; press Ctrl-C after so many units of a task."""
    for event in events:
        if isinstance(event, Progress) and event.task == (task,) and event.done == at:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_training_resumes_to_the_same_weights(run2d: Path, mine: Path) -> None:
    shutil.copy(run2d.parent / "job.yaml", mine / "job.yaml")
    with pytest.raises(KeyboardInterrupt):
        pressing(morula.iter_run(mine / "job.yaml", output=mine / "run"), "train", 2)
    assert not (mine / "run/model").exists()
    assert "interrupted" in (mine / "run/logs/log.txt").read_text()
    events = list(morula.iter_run(mine / "job.yaml", output=mine / "run", resume=True))
    assert isinstance(events[-1], Finished)
    assert (mine / "run/model/weights.safetensors").read_bytes() == (run2d / "model/weights.safetensors").read_bytes()
    assert (mine / "run/report.html").is_file()


@pytest.mark.parametrize("place", ["predict.write_labels", "predict.table_path", "evaluate.columns_of"])
def test_ctrl_c_in_prediction_and_evaluation(trained: Path, run2d: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    module, _, name = f"morula.workflows.{place}".rpartition(".")
    real = getattr(importlib.import_module(module), name)

    def pressed(*args: object, **kwargs: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return real(*args, **kwargs)

    job = run2d.parent / "job.yaml"
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{name}", pressed)
        with pytest.raises(KeyboardInterrupt):
            list(morula.iter_run(job, output=trained, resume=True))
    assert leftovers(trained) == []
    assert not (trained / "scores.csv").exists()
    list(morula.iter_run(job, output=trained, resume=True))
    assert checksum(trained / "objects") == checksum(run2d / "objects")
    assert (trained / "scores.csv").read_bytes() == (run2d / "scores.csv").read_bytes()
