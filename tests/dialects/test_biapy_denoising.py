"""Denoising jobs of BiaPy (Noise2Void): conversion, runs to the end with scores of an independent program, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from tests.dialects.test_biapy_images import pairs
from tests.dialects.test_biapy_results import files, run
from tests.dialects.test_biapy_versions import Keys, job, written

import morula
from morula.dialects.biapy import load_biapy_checkpoint
from morula.dialects.biapy.predict import predict
from morula.dialects.biapy.results.names import biapy_tensors
from morula.dialects.biapy.settings import read_settings
from morula.dialects.biapy.today import with_defaults
from morula.dialects.converted import nested
from morula.measurement.csv_table import read_table
from morula.methods.noise2void_options import Options
from morula.nn.build import build_network
from morula.testing.errors import raises
from morula.workflows.run_settings import RunSettings

N2V = "PROBLEM.DENOISING"
DENOISING: Keys = {"PROBLEM.TYPE": "DENOISING"}


def method(folder: Path, keys: Keys) -> dict[str, Any]:
    found = job(folder, DENOISING | keys).job["method"]
    assert isinstance(found, dict)
    return dict(found)


def noisy(folder: Path, ndim: int) -> Keys:
    """A job that learns from the images with noise alone, and compares the test image with the one without noise."""
    keys = pairs(folder, ndim) | DENOISING | {f"{N2V}.N2V_PERC_PIX": 1.0}
    return {key: value for key, value in keys.items() if key != "DATA.TRAIN.GT_PATH"}


def test_hidden_voxels(tmp_path: Path) -> None:
    assert method(tmp_path, {}) == {"kind": "noise2void", "share": 22**-2, "replacement": "voxel", "radius": 5}
    stated: Keys = {f"{N2V}.N2V_PERC_PIX": 1.0, f"{N2V}.N2V_MANIPULATOR": "median", f"{N2V}.N2V_NEIGHBORHOOD_RADIUS": 3}
    assert method(tmp_path, stated | {f"{N2V}.N2V_STRUCTMASK": True}) == {
        "kind": "noise2void", "share": 0.01, "replacement": "median", "radius": 3, "line": 4
    }  # fmt: skip
    # one voxel per cube of the same edge
    made = job(tmp_path, DENOISING | {"PROBLEM.NDIM": "3D", "DATA.PATCH_SIZE": "(16, 32, 32, 1)"})
    assert made.job["method"]["share"] == 22**-3  # type: ignore[call-overload,index]
    assert any("cube of 22 voxels" in note for note in made.notes)


def test_manipulators_have_native_names(tmp_path: Path) -> None:
    names = {
        "uniform_withCP": "voxel", "uniform_withoutCP": "other_voxel", "normal_withoutCP": "near_voxel", "normal_additive": "noise",
        "normal_fitted": "normal", "mean": "mean", "median": "median",
    }  # fmt: skip
    found = {name: Options(**method(tmp_path, {f"{N2V}.N2V_MANIPULATOR": name})).replacement for name in names}
    assert found == names


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        ({f"{N2V}.N2V_PERC_PIX": 0.0}, "biapy.out_of_range", f"{N2V}.N2V_PERC_PIX"),
        ({f"{N2V}.N2V_PERC_PIX": 40.0}, "biapy.out_of_range", f"{N2V}.N2V_PERC_PIX"),
        ({f"{N2V}.N2V_MANIPULATOR": "identity"}, "biapy.not_supported", f"{N2V}.N2V_MANIPULATOR"),
        ({f"{N2V}.N2V_MANIPULATOR": "uniform"}, "biapy.unknown_value", f"{N2V}.N2V_MANIPULATOR"),
        ({f"{N2V}.N2V_NEIGHBORHOOD_RADIUS": 0}, "biapy.out_of_range", f"{N2V}.N2V_NEIGHBORHOOD_RADIUS"),
        ({f"{N2V}.LOAD_GT_DATA": True}, "biapy.not_supported", f"{N2V}.LOAD_GT_DATA"),
        ({"LOSS.TYPE": "MAE"}, "biapy.not_supported", "LOSS.TYPE"),
        ({"LOSS.TYPE": ["MSE", "BCE"]}, "biapy.not_supported", "LOSS.TYPE"),
        ({"MODEL.ARCHITECTURE": "mae"}, "biapy.contradiction", "MODEL.ARCHITECTURE"),
        ({"MODEL.ARCHITECTURE": "nafnet"}, "biapy.unknown_value", "MODEL.ARCHITECTURE"),
        ({"DATA.EXTRACT_RANDOM_PATCH": True, "DATA.PROBABILITY_MAP": True}, "biapy.not_supported", "DATA.PROBABILITY_MAP"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, keys: Keys, code: str, key: str) -> None:
    with raises(code, key=key) as caught:
        method(tmp_path, keys)
    assert caught.problem is not None
    assert caught.problem.remedy


def test_keys_without_effect(tmp_path: Path) -> None:
    keys: Keys = {"DATA.N_CLASSES": 4, "PROBLEM.IMAGE_TO_IMAGE.OUTPUT_CHANNELS": 2, "DATA.NORMALIZATION.TARGET.ENABLE": True}
    made = job(tmp_path, DENOISING | keys)
    assert {remark.key for remark in made.remarks} == set(keys)
    other = job(tmp_path, {f"{N2V}.N2V_PERC_PIX": 0.3, f"{N2V}.N2V_STRUCTMASK": True})
    assert [remark.rule for remark in other.remarks] == ["has no effect: PROBLEM.TYPE is INSTANCE_SEG"] * 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_results_of_denoising(tmp_path: Path, ndim: int) -> None:
    keys = noisy(tmp_path, ndim)
    run(tmp_path, keys, name="den")
    out = tmp_path / "out/den/results/den_1"
    names = {"per_image/im_0.tif", "charts/den_1_loss.png", "train_logs/den_1_log.txt", "test_results_metrics.csv", "report.html"}
    assert names <= files(out)
    assert len([name for name in files(out) if name.startswith("aug/")]) == 4
    denoised, clean = (np.asarray(morula.read(place)) for place in (out / "per_image/im_0.tif", tmp_path / "test/y/im_0.tif"))
    metrics = read_table(out / "test_results_metrics.csv")
    assert list(metrics) == ["file", "psnr", "mae", "mse", "ssim"]
    assert metrics["psnr"][0] == pytest.approx(peak_signal_noise_ratio(clean, denoised, data_range=int(np.ptp(clean))), rel=1e-4)
    assert metrics["mse"][0] == pytest.approx(np.square(clean - denoised.astype(np.float64)).mean(), rel=1e-4)
    # the checkpoint denoises alike, in a job that does not train
    stored = str(tmp_path / "out/den/checkpoints/den_1-checkpoint-best.pth")
    keys |= {"TRAIN.ENABLE": False, "MODEL.LOAD_CHECKPOINT": True, "PATHS.CHECKPOINT_FILE": stored}
    list(predict(written(tmp_path, keys), RunSettings(tmp_path / "again", device="cpu")))
    assert np.array_equal(np.asarray(morula.read(tmp_path / "again/predictions/im_0_denoised.tif")), denoised)


def test_the_converted_job_gives_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, noisy(tmp_path, 2) | {"TRAIN.EPOCHS": 1, "DATA.TEST.LOAD_GT": False})
    morula.run(path, output=tmp_path / "biapy", device="cpu")
    (tmp_path / "native.yaml").write_text(morula.dialects.biapy.convert.convert(path).text())
    morula.run(tmp_path / "native.yaml", output=tmp_path / "native", device="cpu")
    for name in ("predictions/im_0_denoised.tif", "model/weights.safetensors", "scores.csv"):
        assert (tmp_path / "biapy" / name).read_bytes() == (tmp_path / "native" / name).read_bytes()
    assert list(read_table(tmp_path / "native/scores.csv")) == ["image"]  # nothing to compare with


def test_clean_images_of_a_part_of_the_training(tmp_path: Path) -> None:
    keys = noisy(tmp_path, 2) | {"DATA.TEST.USE_VAL_AS_TEST": True}
    made = job(tmp_path, keys)
    (remark,) = [remark for remark in made.remarks if remark.key == "DATA.TEST.LOAD_GT"]
    assert "no clean ones" in remark.rule
    own: Keys = {"DATA.VAL.FROM_TRAIN": False, "DATA.VAL.PATH": str(tmp_path / "test/x"), "DATA.VAL.GT_PATH": str(tmp_path / "test/y")}
    images = job(tmp_path, keys | own).job["images"]
    assert isinstance(images, dict)
    assert images["test"]["labels"] == str(tmp_path / "test/y")
    assert "labels" not in images["train"] | images["validate"]


def test_a_checkpoint_denoises_in_the_units_of_the_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network({"kind": "classic_unet", "features": [4, 8], "activation": "elu", "norm": "instance"}, 2, 1, {"image": 1})
    settings = read_settings(written(tmp_path, DENOISING | {"MODEL.FEATURE_MAPS": [4, 8], "DATA.PATCH_SIZE": "(16, 16, 1)"}))
    built = {"output_channels": [1], "head_activations": ["linear"], "activation": "elu", "normalization": "in"}
    content = {"model": biapy_tensors(network, (16, 16)), "cfg": nested(with_defaults(settings)), "model_build_kwargs": built}
    torch.save(content | {"biapy_version": "3.7.1"}, tmp_path / "biapy.pth")
    image = np.random.default_rng(1).normal(500, 40, (16, 16)).astype(np.float32)
    model = load_biapy_checkpoint(tmp_path / "biapy.pth")
    assert model.job.method.kind == "noise2void"
    with torch.inference_mode():
        output = network.eval()(torch.from_numpy((image - image.mean()) / image.std())[None, None])["image"][0].numpy()
    np.testing.assert_allclose(model.predict(image), output * image.std() + image.mean(), rtol=1e-4)
