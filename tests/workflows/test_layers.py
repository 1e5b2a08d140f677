"""Training on images that are in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morula
from morula.testing.errors import raises

JOB: dict[str, Any] = {
    "images": {"validate": None, "voxel_size": {"z": 2.0, "y": 1.0, "x": 1.0, "unit": "um"}},
    "method": "wnet3d",
    "network": {"kind": "wnet", "features": [4, 8]},
    "sampling": {"patch": [8, 16, 16], "batch": 1, "patches_per_epoch": 2},
    "training": {"epochs": 1},
}


def volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((10, 20, 24)).astype(np.float32)


def test_training_on_arrays_is_repeatable(tmp_path: Path) -> None:
    list(morula.train(JOB, layers={"left": volume(), "right": volume(1)}, output=tmp_path / "run"))
    model = morula.load(tmp_path / "run")
    assert model.segment(volume(2)).shape == (10, 20, 24)
    assert model.voxel_size.spacing(3) == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(np.asarray(morula.read(tmp_path / "run/layers/images/left.tif")), volume())
    list(morula.train(tmp_path / "run/job.yaml", output=tmp_path / "again"))
    one, other = ((tmp_path / name / "model/weights.safetensors").read_bytes() for name in ("run", "again"))
    assert one == other


def test_pairs_of_image_and_labels_are_learned_from(tmp_path: Path) -> None:
    labels = np.zeros((10, 20, 24), np.int64)
    labels[2:8, 4:12, 4:12] = 1
    job = {**JOB, "method": "channels", "network": {"kind": "unet", "features": [4, 8]}}
    list(morula.train(job, layers={"one": (volume(), labels)}, output=tmp_path / "run"))
    np.testing.assert_array_equal(np.asarray(morula.read(tmp_path / "run/layers/labels/one.tif")), labels)
    assert (tmp_path / "run/model/model.json").is_file()


def test_an_image_brings_its_axes_and_voxel_size(tmp_path: Path) -> None:
    job = {**JOB, "images": {"validate": None}}
    image = morula.Image(volume(), "ZYX", morula.VoxelSize(0.5, 0.5, z=1.5))
    list(morula.train(job, layers={"one": image}, output=tmp_path / "run"))
    assert morula.load(tmp_path / "run").voxel_size.spacing(3) == (1.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("job", "layers", "code"),
    [
        ({**JOB, "images": {"train": {"raw": "here"}}}, {"a": volume()}, "layers.and_images"),
        (JOB, {"a": volume(), "b": (volume(), volume() > 0.5)}, "layers.some_labelled"),
        (JOB, {}, "layers.none"),
        ({**JOB, "methods": "wnet3d"}, {"a": volume()}, "option.unknown"),
    ],
)
def test_unsuitable_layers_are_rejected(tmp_path: Path, job: Any, layers: Any, code: str) -> None:
    with raises(code):
        list(morula.train(job, layers=layers, output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_job_file_names_its_own_images(tmp_path: Path) -> None:
    with raises("layers.job_file", key="job"):
        list(morula.train(tmp_path / "job.yaml", layers={"a": volume()}, output=tmp_path / "run"))


def test_whole_images_are_patches(tmp_path: Path) -> None:
    from morula.jobs.load import load_job
    from morula.workflows.prepare import prepare

    job = {**JOB, "sampling": {"patch": "whole"}}
    list(morula.train(job, layers={"left": volume(), "right": volume(1)[:, :, :17]}, output=tmp_path / "run"))
    prepared = prepare(load_job(tmp_path / "run/job.yaml"))
    assert prepared.job.sampling.patch == (16, 24, 24)
    assert (len(prepared.train), prepared.job.sampling.patches_per_epoch) == (2, 2)
    seen = {len(np.unique(prepared.train.sample(0, index)["image"])) for index in range(2)}
    assert max(seen) > 0.9 * volume().size * 0.995  # all voxels but those that the percentiles clip


def test_a_plan_for_layers_is_the_plan_of_the_training(tmp_path: Path) -> None:
    from morula.jobs.load import load_job
    from morula.workflows.in_memory_images import plan_for_layers

    job = {"images": {"validate": None}, "method": "wnet3d", "network": {"kind": "wnet", "features": [4, 8]}}
    overrides = ["training.epochs=1", "sampling.patches_per_epoch=2"]
    planned = plan_for_layers(job, {"one": volume()}, overrides=overrides)
    list(morula.train(job, layers={"one": volume()}, output=tmp_path / "run", overrides=overrides))
    trained = load_job(tmp_path / "run/job.yaml")
    for section in ("method", "network", "sampling", "augment", "training", "objects"):
        assert getattr(planned, section) == getattr(trained, section)
    assert (planned.training.schedule.kind, planned.training.patience) == ("plateau", 15)
