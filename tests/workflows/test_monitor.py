"""The figure that decides which weights are best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.methods.patch_scores import figure_of
from morula.testing.errors import raises
from morula.training.monitors import Objects
from morula.workflows.prepare import prepare

JOB = """\
images: {{train: {{raw: data/train/images, labels: data/train/labels}}, validate: {validate}}}
method: {method}
network: {{kind: unet, features: [4, 8]}}
sampling: {{patch: [16, 32, 32], batch: 2, patches_per_epoch: 4}}
training: {{epochs: 3, monitor: {monitor}, optimiser: {{kind: adamw, lr: 0.03}}, restarts: {restarts}}}
objects: {{calibrate: false}}
"""
MASKS, WNET = "{kind: channels, channels: [F, C]}", "wnet3d"


def written(folder: Path, method: str, monitor: str, *, validate: str = "40%", restarts: int = 1) -> Path:
    path = folder / "monitor.yaml"
    text = JOB.format(method=method, monitor=monitor, validate=validate, restarts=restarts)
    path.write_text(text.replace("{kind: unet, f", "{kind: wnet, preset: light, f") if method == WNET else text)
    return path


@pytest.mark.parametrize(
    ("method", "monitor"),
    [
        (MASKS, "dice"),
        (MASKS, "{kind: iou, channels: [0]}"),
        (MASKS, "loss"),
        (MASKS, "{kind: objects, channels: [0], minus: 1}"),
        (MASKS, "{kind: objects, measure: adapted_rand_error, channels: [1], inverted: true}"),
        (MASKS, "{kind: psnr, better: lower}"),
        (WNET, "score"),
    ],
)
def test_best_epoch_has_the_best_figure(data3d: Path, tmp_path: Path, method: str, monitor: str) -> None:
    path = written(data3d.parent, method, monitor)
    stated = load_job(path).training.monitor
    assert stated is not None
    list(morula.train(path, output=tmp_path / "run"))
    table = read_table(tmp_path / "run/logs/training.csv")
    figures = table[stated.monitor.figure] * (1 if stated.monitor.higher_is_better else -1)
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
    some = prepare(load_job(path, overrides=[f"sampling.validation.least_labelled={least}"])).validation
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
        (WNET, "objects", "40%"),
        (MASKS, "{kind: objects, minus: 2}", "40%"),
    ],
)
def test_figures_that_do_not_exist(data3d: Path, method: str, monitor: str, validate: str) -> None:
    path = written(data3d.parent, method, monitor, validate=validate)
    with raises("training.monitor", key="training.monitor"):
        prepare(load_job(path))


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        ("sampling.cell=[16, 16]", "sampling.cell"),
        ("sampling.validation={patch: [16, 16]}", "sampling.validation.patch"),
        ("sampling.validation.cell=[16, 16]", "sampling.validation.cell"),
    ],
)
def test_patches_of_another_number_of_axes(data3d: Path, stated: str, key: str) -> None:
    job = load_job(written(data3d.parent, MASKS, "dice"), overrides=["sampling.kind=grid", stated])
    with raises("patch.dimensions", key=key):
        prepare(job)


def test_parts_of_classes_are_no_objects(data3d: Path) -> None:
    job = load_job(written(data3d.parent, "regression", "mse"), overrides=["objects={}", "sampling.separate_parts=true"])
    with raises("sampling.separate_parts"):
        prepare(job)


TOUCHING = np.array([[[1, 1, 1, 2, 2, 2, 0, 3, 3]]])
FOREGROUND = (TOUCHING > 0).astype(np.float32)
CONTOUR = np.array([[[0, 0, 0.6, 0.6, 0, 0, 0, 0, 0]]], np.float32)


def test_objects_of_a_patch() -> None:
    predicted, known = np.stack([FOREGROUND, CONTOUR], axis=1), np.ones((1, 1, 1, 9), bool)

    def score(counted: np.ndarray = known, **options: Any) -> float:
        return figure_of(Objects(**options), predicted, predicted, counted, labels=TOUCHING)

    assert score(channels=(0,), iou=(0.5,)) == pytest.approx(2 / 3)  # one of two objects that touch, and a third
    assert score(channels=(0,), minus=1, iou=(0.5,), thresholds=(0.1, 0.5)) == 1
    assert score(channels=(1,), inverted=True, iou=(0.5,)) == 0.25  # what is not contour is in two parts, one of which is an object
    assert score(channels=(1, 0), inverted=(1,), iou=(0.5,)) == pytest.approx(2 / 3)  # the better channel counts
    assert score(channels=(0,), iou=(0.5,), least_size=3) == 0.5
    assert score(TOUCHING[:, None] != 2, channels=(0,)) == 1  # what is not annotated is no object
    assert score(channels=(0,), iou=(0.5,), truth=0) == 0.5
    rand = Objects(measure="adapted_rand_error", channels=(0,), thresholds=(0.5,))
    assert figure_of(rand, TOUCHING[:, None], predicted, known, labels=TOUCHING) == 0  # whole numbers are objects themselves
    assert figure_of(rand, predicted, predicted, known, labels=TOUCHING) > 0.1
    with raises("metric.no_such_channel"):
        score(channels=(2,))
