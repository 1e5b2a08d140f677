"""Training on labels that cover a part of the images, from files to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import morula
from morula.jobs.load import load_job
from morula.measurement.csv_table import read_table
from morula.metrics.matching import match
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.prepare import prepare

JOB = """\
images:
  train: {{raw: train/raw, labels: train/labels{more}}}
  validate: 0%
  test: {{raw: test/raw, labels: test/labels}}
  {value}
method: {{kind: channels, channels: [F, C]}}
network: {{kind: unet, features: [8, 16]}}
sampling: {{patch: [8, 32, 32], batch: 2, patches_per_epoch: 24}}
augment: none
training: {{epochs: 5, optimiser: {{kind: adamw, lr: 1e-2}}}}
"""
SLICES = (3, 8, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two volumes: of one, three slices are painted, as a value in the labels and as a mask; of the other, all labels are there."""
    for name, seed in (("train", 1), ("test", 2)):
        made = simulate(shape=(16, 64, 64), n_objects=14, rng=np.random.default_rng(seed), spacing=(1.0, 1.0, 1.0))
        painted = np.zeros(made.labels.shape, np.uint8)
        painted[list(SLICES)] = 1
        sparse = np.where(painted, made.labels, 60_000).astype(np.uint16)
        for part, values in (("raw", made.image), ("mask", painted), ("value", sparse), ("labels", made.labels.astype(np.uint16))):
            (tmp_path / name / part).mkdir(parents=True)
            morula.write(tmp_path / name / part / "v.tif", values, axes="ZYX", voxel_size=1.0, labels=part != "raw")
    return tmp_path


def _job(folder: Path, more: str = "", value: str = "ignore_label: 60000", labels: str = "value") -> Path:
    job = folder / "job.yaml"
    job.write_text(JOB.format(more=more, value=value).replace("train/labels", f"train/{labels}"))
    return job


@pytest.mark.slow
def test_three_painted_slices_are_enough(folder: Path) -> None:
    list(morula.iter_run(_job(folder), output=folder / "run"))
    truth, found = (np.asarray(morula.read(folder / place)) for place in ("test/labels/v.tif", "run/objects/v.tif"))
    figure = match(truth, found, (0.5,))[0].f1
    assert figure > 0.5
    scores = read_table(folder / "run/scores.csv")
    assert scores["f1"][(scores["image"] == "pooled") & (scores["threshold"] == 0.5)].tolist() == [figure]


def test_a_mask_and_a_value_give_the_same_patches(folder: Path) -> None:
    by_value = prepare(load_job(_job(folder))).train
    by_mask = prepare(load_job(_job(folder, more=", mask: train/mask", value="", labels="labels"))).train
    for index in range(4):
        one, two = by_value.sample(0, index), by_mask.sample(0, index)
        assert (one["weights"] > 0).any()
        for name in ("image", "targets", "weights"):
            np.testing.assert_array_equal(one[name], two[name])


WAYS = {
    "F, C, Db": "{kind: channels}",
    "stardist": "{kind: channels, preset: stardist, channels: {Db: {}, R: {nrays: 12}}}",
    "embedseg": "{kind: channels, preset: embedseg}",
    "affinities": "{kind: channels, preset: affinities}",
    "flows": "{kind: channels, preset: flows}",
    "offsets": "{kind: channels, channels: [F, H, V, Z]}",
    "others": "{kind: channels, channels: [B, C, T, P, Dn, Dc, D, M]}",
    "semantic": "{kind: semantic, classes: 60}",
}


@pytest.mark.parametrize("way", WAYS)
def test_only_annotated_slices_are_learned(folder: Path, way: str) -> None:
    """Beneath the mask lie the true labels, beneath the value none: samples and gradients are the same, and 0 between the slices."""
    overrides = [f"method={WAYS[way]}"]
    by_value = prepare(load_job(_job(folder), overrides=overrides))
    by_mask = prepare(load_job(_job(folder, more=", mask: train/mask", value="", labels="labels"), overrides=overrides))
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        one, two = by_value.train.sample(0, index), by_mask.train.sample(0, index)
        assert set(one) == set(two)
        for name in set(one) - {"name"}:
            np.testing.assert_array_equal(one[name], two[name])
        _, box = by_value.train.place(0, index)
        between = ~np.isin(np.arange(box.start[0], box.stop[0]), SLICES)
        assert not one["weights"][:, between].any()
        batch = {name: torch.from_numpy(values)[None] for name, values in one.items() if name != "name"}
        outputs = {
            head: torch.randn((1, number, *one["image"].shape[1:]), generator=generator, requires_grad=True)
            for head, number in by_value.method.heads.items()
        }
        total = sum(sums.total for sums in by_value.method.loss(outputs, batch).values())
        assert isinstance(total, torch.Tensor)
        gradients = torch.autograd.grad(total, list(outputs.values()))
        for each in gradients:
            assert torch.isfinite(each).all()
            assert not each[:, :, torch.from_numpy(between)].any()
            assert each.any()


def test_unannotated_slices_are_ignored(folder: Path) -> None:
    data = prepare(load_job(_job(folder))).train
    for index in range(6):
        sample, (_, box) = data.sample(0, index), data.place(0, index)
        painted = np.isin(np.arange(box.start[0], box.stop[0]), SLICES)
        assert not sample["weights"][:, ~painted].any()
        assert sample["weights"][0][painted].all()


def test_unlabelled_parts_of_test_images_are_not_scored(folder: Path) -> None:
    list(
        morula.iter_run(
            _job(folder),
            output=folder / "run",
            overrides=["training.epochs=1", "sampling.patches_per_epoch=2", "images.test.labels=test/value"],
        )
    )
    truth, found = (np.asarray(morula.read(folder / place)) for place in ("test/value/v.tif", "run/objects/v.tif"))
    inside = truth != 60_000
    expected = match(np.where(inside, truth, 0), np.where(inside, found, 0), (0.5,))[0]
    scores = read_table(folder / "run/scores.csv")
    assert (scores["n_true"][0], scores["n_pred"][0], scores["tp"][0]) == (expected.n_true, expected.n_pred, expected.tp)
    assert "60000" not in (folder / "run/report.html").read_text().split("<h2>How it was made")[0]


@pytest.mark.parametrize(
    ("more", "value", "code", "key"),
    [
        ("", "ignore_label: 0", "option.range", "images.ignore_label"),
        (", mask: train/nothing", "", "file.missing", "images.train.mask"),
    ],
)
def test_wrong_masks_are_rejected(folder: Path, more: str, value: str, code: str, key: str) -> None:
    with raises(code, key=key):
        prepare(load_job(_job(folder, more=more, value=value, labels="labels")))


def test_a_value_that_no_label_image_has_is_told(folder: Path) -> None:
    assert not any("every voxel of the label images" in text for text in prepare(load_job(_job(folder))).warnings)
    (told,) = (
        text for text in prepare(load_job(_job(folder, value="ignore_label: 255"))).warnings if "every voxel of the label images" in text
    )
    assert "value 255" in told


def test_a_mask_of_another_shape_is_refused(folder: Path) -> None:
    (folder / "train/other").mkdir()
    morula.write(folder / "train/other/v.tif", np.ones((16, 64, 60), np.uint8), axes="ZYX", labels=True)
    with raises("images.labels_do_not_match", key="images.train.mask"):
        prepare(load_job(_job(folder, more=", mask: train/other", value="", labels="labels")))


def _weighted(folder: Path, weights: np.ndarray, axes: str = "ZYX") -> Path:
    (folder / "train/weights").mkdir(exist_ok=True)
    morula.write(folder / "train/weights/v_weights.tif", weights, axes=axes, overwrite=True)
    return _job(folder, more=", weights: train/weights", value="", labels="labels")


def test_weights_multiply_those_of_the_voxels(folder: Path) -> None:
    values = np.random.default_rng(3).uniform(0, 4, (16, 64, 64)).astype(np.float32)
    plain = prepare(load_job(_job(folder, value="", labels="labels"))).train
    weighted = prepare(load_job(_weighted(folder, values))).train
    for index in range(3):
        _, box = weighted.place(0, index)
        one, two = plain.sample(0, index), weighted.sample(0, index)
        np.testing.assert_allclose(two["weights"], one["weights"] * values[box.slices], rtol=1e-6)
        np.testing.assert_array_equal(two["targets"], one["targets"])


def test_weights_move_with_the_image(folder: Path) -> None:
    job = _weighted(folder, np.asarray(morula.read(folder / "train/raw/v.tif")).astype(np.float32))
    moved = ["augment=[flip, rotate90, {rotate: {degrees: 30}}]", "sampling.normalise={kind: fixed}", "method.channels=[F]"]
    data = prepare(load_job(job, overrides=moved)).train
    for index in range(3):
        sample = data.sample(0, index)
        inside = sample["weights"][0] > 0
        assert inside.mean() > 0.5
        np.testing.assert_allclose(sample["weights"][0][inside], sample["image"][0][inside], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("value", "shape", "axes", "code", "key"),
    [
        (-1, (16, 64, 64), "ZYX", "weights.value", "images.train"),
        (np.nan, (16, 64, 64), "ZYX", "weights.value", "images.train"),
        (1, (16, 64, 60), "ZYX", "images.labels_do_not_match", "images.train.weights"),
    ],
)
def test_wrong_weights_are_rejected(folder: Path, value: float, shape: tuple[int, ...], axes: str, code: str, key: str) -> None:
    weights = np.ones(shape, np.float32)
    weights[0, 0, 0] = value
    with raises(code, key=key):
        prepare(load_job(_weighted(folder, weights, axes)))


@pytest.mark.parametrize(
    ("images", "code", "key"),
    [
        ("{train: {raw: a, weights: b}}", "images.labels_missing", "images.train.weights"),
        ("{train: {raw: a, labels: b}, test: {raw: c, labels: d, weights: e}}", "images.test_weights", "images.test.weights"),
    ],
)
def test_weights_without_effect_are_rejected(images: str, code: str, key: str) -> None:
    with raises(code, key=key):
        load_job({"method": "channels", "images": yaml.safe_load(images)})
