"""The figure that decides which weights are best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises
from morula.workflows.prepare import prepare

JOB = """\
images: {{train: {{raw: data/train/images, labels: data/train/labels}}, validate: {validate}}}
method: {method}
network: {{kind: unet, features: [4, 8]}}
sampling: {{patch: [16, 32, 32], batch: 2, patches_per_epoch: 4}}
training: {{epochs: 3, monitor: {monitor}, optimiser: {{kind: adamw, lr: 0.03}}, restarts: {restarts}}}
objects: {{calibrate: false}}
"""
MASKS, CLASSES = "{kind: channels, channels: [F, C]}", "{kind: semantic, classes: 2, losses: {ce: 1}, values: [0, [1, 99]]}"
WNET = "wnet3d"


def written(folder: Path, method: str, monitor: str, *, validate: str = "40%", restarts: int = 1) -> Path:
    path = folder / "monitor.yaml"
    text = JOB.format(method=method, monitor=monitor, validate=validate, restarts=restarts)
    path.write_text(text.replace("{kind: unet, f", "{kind: wnet, preset: light, f") if method == WNET else text)
    return path


@pytest.mark.parametrize(("method", "monitor"), [(MASKS, "dice"), (MASKS, "iou"), (MASKS, "loss"), (WNET, "score")])
def test_best_epoch_has_the_best_figure(data3d: Path, tmp_path: Path, method: str, monitor: str) -> None:
    list(morula.train(written(data3d.parent, method, monitor), output=tmp_path / "run"))
    table = read_table(tmp_path / "run/logs/training.csv")
    figures = -table["validation_loss"] if monitor == "loss" else table["score" if monitor == "score" else f"validation_{monitor}"]
    assert [bool(best) for best in table["best"]] == [value > max(figures[:i], default=-np.inf) for i, value in enumerate(figures)]


def test_best_restart_has_the_best_figure(data3d: Path, tmp_path: Path) -> None:
    list(morula.train(written(data3d.parent, MASKS, "dice", restarts=2), output=tmp_path / "run"))
    best = [read_table(tmp_path / f"run/starts/{start}/logs/training.csv")["validation_dice"].max() for start in (1, 2)]
    kept = (tmp_path / "run/model/weights.safetensors").read_bytes()
    assert kept == (tmp_path / f"run/starts/{1 + int(np.argmax(best))}/model/weights.safetensors").read_bytes()


def test_validation_patches_have_enough_labels(data3d: Path) -> None:
    path = written(data3d.parent, MASKS, "dice", validate="{raw: data/train/images, labels: data/train/labels}")
    every = prepare(load_job(path)).validation
    assert every is not None
    shares = [float((every.sample(0, index)["targets"][0] > 0).mean()) for index in range(len(every))]
    least = float(np.median(shares))
    some = prepare(load_job(path, overrides=[f"sampling.least_labelled_validation={least}"])).validation
    assert some is not None
    assert len(some) == sum(share > least for share in shares)
    assert 0 < len(some) < len(every)


@pytest.mark.parametrize(
    ("method", "monitor", "validate"),
    [
        (MASKS, "iou", "null"),
        ("{kind: channels, channels: [F, G]}", "dice", "40%"),
        (MASKS, "score", "40%"),
        (WNET, "iou", "40%"),
    ],
)
def test_figures_that_do_not_exist(data3d: Path, method: str, monitor: str, validate: str) -> None:
    path = written(data3d.parent, method, monitor, validate=validate)
    with raises("training.monitor", key="training.monitor", value=monitor):
        prepare(load_job(path))
