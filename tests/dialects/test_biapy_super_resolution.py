"""Super-resolution jobs of BiaPy: conversion, sizes of images and targets, runs to the end with scores of an independent program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tests.dialects.test_biapy_images import pairs
from tests.dialects.test_biapy_results import files, run
from tests.dialects.test_biapy_versions import Keys, job, written

import morula
from morula.dialects.biapy import load_biapy_checkpoint
from morula.dialects.biapy.predict import predict
from morula.dialects.converted import Converted
from morula.dialects.verbs import check
from morula.measurement.csv_table import read_table
from morula.testing.errors import raises
from morula.workflows.run_settings import RunSettings

SR = "PROBLEM.SUPER_RESOLUTION.UPSCALING"
RESOLUTION: Keys = {"PROBLEM.TYPE": "SUPER_RESOLUTION", SR: "(2, 2)"}


def made(folder: Path, keys: Keys) -> Converted:
    return job(folder, RESOLUTION | keys)


def finer(folder: Path, ndim: int) -> Keys:
    """A job whose images are means of 2 x 2 voxels of their targets."""
    keys = pairs(folder, ndim) | RESOLUTION | {SR: "(2, 2)" if ndim == 2 else "(1, 2, 2)"}
    for file in folder.glob("*/x/*.tif"):
        image = np.asarray(morula.read(file)).astype(np.float64)
        coarse = image.reshape(*image.shape[:-2], image.shape[-2] // 2, 2, image.shape[-1] // 2, 2).mean(axis=(-3, -1))
        morula.write(file, np.rint(coarse).astype(np.uint16), axes="ZYX"[-ndim:], overwrite=True)
    return keys | {"DATA.PATCH_SIZE": "(8, 8, 1)" if ndim == 2 else "(8, 8, 8, 1)"}


def test_targets_on_a_finer_grid(tmp_path: Path) -> None:
    found = made(tmp_path, {})
    expected: dict[str, Any] = {"kind": "regression", "channels": 1, "enlarge": [2, 2], "units": "image", "losses": {"l1": 1.0}}
    assert found.job["method"] == expected
    assert found.job["sampling"]["patch"] == [128, 128]  # type: ignore[index,call-overload]
    volumes: Keys = {"PROBLEM.NDIM": "3D", SR: [1, 2, 3], "DATA.PATCH_SIZE": "(8, 16, 16, 2)", "LOSS.TYPE": "W_MSE_SSIM"}
    found = made(tmp_path, volumes | {"DATA.TRAIN.OVERLAP": "(0, 0.25, 0.25)"})
    assert found.job["method"] == expected | {"channels": 2, "enlarge": [1, 2, 3], "losses": {"mse": 0.66, "ssim": 0.34}}
    assert found.job["sampling"]["patch"] == [8, 32, 48]  # type: ignore[index,call-overload]
    assert found.job["sampling"]["overlap"] == [0, 8, 12]  # type: ignore[index,call-overload]
    assert made(tmp_path, {SR: 3}).job["method"] == expected | {"enlarge": [3, 3]}  # one number, as in former versions
    assert any("UPSCALING" in note for note in found.notes)


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        ({SR: "()"}, "biapy.missing_key", SR),
        ({SR: "(2, 2, 2)"}, "biapy.wrong_length", SR),
        ({SR: [2, 0]}, "biapy.wrong_length", SR),
        ({SR: [2, 1.5]}, "biapy.wrong_length", SR),
        ({"MODEL.ARCHITECTURE": "mae"}, "biapy.contradiction", "MODEL.ARCHITECTURE"),
        ({"LOSS.TYPE": "VGG"}, "biapy.not_supported", "LOSS.TYPE"),
        ({"DATA.EXTRACT_RANDOM_PATCH": True, "DATA.PROBABILITY_MAP": True}, "biapy.not_supported", "DATA.PROBABILITY_MAP"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, keys: Keys, code: str, key: str) -> None:
    with raises(code, key=key) as caught:
        made(tmp_path, keys)
    assert caught.problem is not None
    assert caught.problem.remedy


def test_keys_without_effect(tmp_path: Path) -> None:
    keys: Keys = {"MODEL.UNET_SR_UPSAMPLE_POSITION": "post", "DATA.N_CLASSES": 4, "PROBLEM.IMAGE_TO_IMAGE.OUTPUT_CHANNELS": 2}
    assert {remark.key for remark in made(tmp_path, keys).remarks} == set(keys)
    (remark,) = job(tmp_path, {SR: "(2, 2)"}).remarks
    assert remark.rule == "has no effect: PROBLEM.TYPE is INSTANCE_SEG"


def test_targets_of_another_size_are_found_by_check(tmp_path: Path) -> None:
    path = written(tmp_path, finer(tmp_path, 2) | {SR: "(2, 4)"})
    with raises("images.labels_do_not_match") as caught:
        check(path, prove=False)
    assert caught.problem is not None
    text = str(caught.problem)
    assert all(part in text for part in ("x/im_0.tif", "y/im_0.tif", "16 x 12", "32 x 24", "32 x 48"))


@pytest.mark.parametrize("ndim", [2, 3])
def test_results_of_super_resolution(tmp_path: Path, ndim: int) -> None:
    keys = finer(tmp_path, ndim) | {"DATA.NORMALIZATION.TYPE": "scale_range"}
    run(tmp_path, keys, name="sr")
    out = tmp_path / "out/sr/results/sr_1"
    names = {"per_image/im_0.tif", "charts/sr_1_loss.png", "train_logs/sr_1_log.txt", "test_results_metrics.csv", "report.html"}
    assert names <= files(out)
    predicted, truth = (np.asarray(morula.read(place)) for place in (out / "per_image/im_0.tif", tmp_path / "test/y/im_0.tif"))
    assert predicted.shape == truth.shape == ((32, 24) if ndim == 2 else (8, 16, 16))
    truth, width = truth.astype(np.float64), np.ptp(truth)
    metrics = read_table(out / "test_results_metrics.csv")
    assert list(metrics) == ["file", "psnr", "mae", "mse", "ssim"]
    assert metrics["psnr"][0] == pytest.approx(peak_signal_noise_ratio(truth, predicted, data_range=width), rel=1e-4)
    assert metrics["ssim"][0] == pytest.approx(structural_similarity(truth, predicted.astype(np.float64), data_range=width), rel=1e-3)
    # the checkpoint predicts alike, in a job that does not train
    stored = tmp_path / "out/sr/checkpoints/sr_1-checkpoint-best.pth"
    keys |= {"TRAIN.ENABLE": False, "MODEL.LOAD_CHECKPOINT": True, "PATHS.CHECKPOINT_FILE": str(stored)}
    list(predict(written(tmp_path, keys), RunSettings(tmp_path / "again", device="cpu")))
    assert np.array_equal(np.asarray(morula.read(tmp_path / "again/predictions/im_0_predicted.tif")), predicted)
    with raises("biapy.contradiction", key=SR):
        list(predict(written(tmp_path, keys | {SR: [3] * ndim}), RunSettings(tmp_path / "other", device="cpu")))
    image = morula.read(tmp_path / "test/x/im_0.tif")
    assert load_biapy_checkpoint(stored).predict(image).shape == (1, *truth.shape)


def test_the_converted_job_gives_the_same_bytes(tmp_path: Path) -> None:
    keys = finer(tmp_path, 2) | {"TRAIN.EPOCHS": 1, "DATA.VAL.CROSS_VAL": True, "DATA.VAL.CROSS_VAL_NFOLD": 3, "MODEL.ARCHITECTURE": "edsr"}
    path = written(tmp_path, keys)
    morula.run(path, output=tmp_path / "biapy", device="cpu")
    (tmp_path / "native.yaml").write_text(morula.dialects.biapy.convert.convert(path).text())
    morula.run(tmp_path / "native.yaml", output=tmp_path / "native", device="cpu")
    for name in ("predictions/im_0_predicted.tif", "model/weights.safetensors", "scores.csv"):
        assert (tmp_path / "biapy" / name).read_bytes() == (tmp_path / "native" / name).read_bytes()
