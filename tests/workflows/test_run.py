"""A whole job, from images to scores and a report, in 2D and 3D, for objects and for classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Epoch, FileWritten, Finished
from morula.measurement.csv_table import read_table

THRESHOLDS = 3
CHANNELS = "{kind: channels, channels: [F, C, Db]}"


def test_a_run_leaves_all_that_the_user_is_told_of(run2d: Path) -> None:
    for name in (
        "report.html",
        "job.yaml",
        "provenance.json",
        "scores.csv",
        "model/weights.safetensors",
        "model/model.json",
        "logs/training.csv",
    ):
        assert (run2d / name).is_file(), name
    assert (run2d / "checkpoints/last").is_dir()
    assert (run2d / "checkpoints/best").is_dir()
    assert sorted(path.name for path in (run2d / "objects").iterdir()) == [
        "nuclei_000.csv",
        "nuclei_000.tif",
        "nuclei_001.csv",
        "nuclei_001.tif",
    ]
    scores = read_table(run2d / "scores.csv")
    assert scores["image"].tolist() == ["nuclei_000"] * THRESHOLDS + ["nuclei_001"] * THRESHOLDS + ["pooled"] * THRESHOLDS
    provenance = json.loads((run2d / "provenance.json").read_text())
    assert len(provenance["inputs"]) == 8
    assert provenance["environment"]["torch"]
    assert len(provenance["weights"]) == 64


def test_the_scores_are_those_of_the_written_labels(run2d: Path, data2d: Path) -> None:
    pairs = [
        (np.asarray(morula.read(data2d / "test/labels" / name)), np.asarray(morula.read(run2d / "objects" / name)))
        for name in ("nuclei_000.tif", "nuclei_001.tif")
    ]
    tp = sum(morula.match(*pair, thresholds=(0.5,))[0].tp for pair in pairs)
    scores = read_table(run2d / "scores.csv")
    row = (scores["image"] == "pooled") & (scores["threshold"] == 0.5)
    assert scores["tp"][row].tolist() == [tp]


def test_the_resolved_job_gives_the_same_weights(run2d: Path, tmp_path: Path) -> None:
    list(morula.train(run2d / "job.yaml", output=tmp_path / "again"))
    first, second = ((folder / "model/weights.safetensors").read_bytes() for folder in (run2d, tmp_path / "again"))
    assert first == second


def test_nothing_of_the_users_is_modified(data2d: Path, run2d: Path) -> None:
    from morula.jobs.provenance import checksum

    before = checksum(data2d)
    list(morula.predict(run2d))
    assert checksum(data2d) == before


def test_a_stopped_training_resumes_to_the_same_weights(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True] * 9)
    events = list(morula.train(data2d.parent / "job.yaml", output=tmp_path / "run", stop=lambda: next(asked)))
    assert not any(isinstance(event, Finished) for event in events)
    assert not (tmp_path / "run/model").exists()
    events = list(morula.train(data2d.parent / "job.yaml", output=tmp_path / "run", resume=True))
    assert isinstance(events[-1], Finished)
    assert (tmp_path / "run/model/weights.safetensors").read_bytes() == (run2d / "model/weights.safetensors").read_bytes()


def test_finished_training_resumes_at_prediction(run2d: Path, data2d: Path) -> None:
    events = list(morula.iter_run(data2d.parent / "job.yaml", output=run2d, resume=True))
    assert not any(isinstance(event, Epoch) for event in events)
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("method", [CHANNELS, "{kind: semantic}"])
def test_3d_with_anisotropic_voxels(data3d: Path, tmp_path: Path, job_text: Callable[..., str], method: str) -> None:
    job = data3d.parent / "job.yaml"
    text = job_text(method, "[8, 32, 32]")
    if "semantic" in method:  # the ids as classes: a class for every pixel
        for path in [*(data3d / "train/labels").glob("*.tif"), *(data3d / "test/labels").glob("*.tif")]:
            labels = np.asarray(morula.read(path))
            target = tmp_path / path.parent.parent.name / path.name
            target.parent.mkdir(exist_ok=True)
            morula.write(target, (labels > 0).astype(np.uint8), axes="ZYX", voxel_size=[2, 0.5, 0.5], labels=True)
        text = text.replace("data/train/labels", str(tmp_path / "train")).replace("data/test/labels", str(tmp_path / "test"))
    job.write_text(text)
    events = list(morula.iter_run(job, output=tmp_path / "run", overwrite=True))
    assert isinstance(events[-1], Finished)
    labels = morula.read(tmp_path / "run/objects/nuclei_000.tif")
    assert labels.spacing == pytest.approx((2.0, 0.5, 0.5))
    table = read_table(tmp_path / "run/objects/nuclei_000.csv")
    assert "volume_um3" in table
    assert (tmp_path / "run/scores.csv").is_file()


def test_several_classes(data2d: Path, tmp_path: Path, job_text: Callable[..., str]) -> None:
    for path in [*(data2d / "train/labels").glob("*.tif"), *(data2d / "test/labels").glob("*.tif")]:
        labels = np.asarray(morula.read(path))
        target = tmp_path / path.parent.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        classes = np.where(labels == 0, 0, labels % 2 + 1).astype(np.uint8)
        classes[0, :4] = 255
        morula.write(target, classes, labels=True)
    job = data2d.parent / "classes.yaml"
    text = job_text("{kind: semantic, ignore: 255, names: [background, even, odd]}")
    job.write_text(text.replace("data/train/labels", str(tmp_path / "train")).replace("data/test/labels", str(tmp_path / "test")))
    list(morula.iter_run(job, output=tmp_path / "run"))
    scores = read_table(tmp_path / "run/scores.csv")
    assert set(scores["class"]) == {"even", "odd", "mean"}
    assert np.nanmax(scores["iou"]) <= 1
    assert int(np.asarray(morula.read(tmp_path / "run/objects/nuclei_000.tif")).max()) <= 2


def test_files_are_told_as_they_are_written(run2d: Path) -> None:
    events = list(morula.predict(run2d))
    written = {event.path.name for event in events if isinstance(event, FileWritten)}
    assert {"nuclei_000.tif", "nuclei_000.csv"} <= written


def test_run_without_test_images(data2d: Path, tmp_path: Path, job_text: Callable[..., str]) -> None:
    job = data2d.parent / "no_test.yaml"
    job.write_text("\n".join(line for line in job_text().splitlines() if "test:" not in line))
    list(morula.iter_run(job, output=tmp_path / "run"))
    assert (tmp_path / "run/report.html").is_file()
    assert not (tmp_path / "run/scores.csv").exists()
