"""Image-to-image jobs of BiaPy: conversion, runs to the end with scores of an independent program, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tests.dialects.test_biapy_results import files, run
from tests.dialects.test_biapy_versions import Keys, job, written

import morula
from morula.core.errors import JobError
from morula.dialects.biapy import load_biapy_checkpoint
from morula.dialects.biapy.predict import predict
from morula.dialects.biapy.results.names import biapy_tensors
from morula.dialects.biapy.settings import read_settings
from morula.dialects.biapy.today import with_defaults
from morula.dialects.converted import nested
from morula.dialects.verbs import check
from morula.measurement.csv_table import read_table
from morula.models.zoo.package import exportable
from morula.nn.build import build_network
from morula.testing.errors import raises
from morula.workflows.run_settings import RunSettings

I2I, TARGET = "PROBLEM.IMAGE_TO_IMAGE", "DATA.NORMALIZATION.TARGET"
IMAGES: Keys = {"PROBLEM.TYPE": "IMAGE_TO_IMAGE"}


def method(folder: Path, keys: Keys) -> dict[str, Any]:
    found = job(folder, IMAGES | keys).job["method"]
    assert isinstance(found, dict)
    return dict(found)


def pairs(folder: Path, ndim: int) -> Keys:
    """Images with noise and of another brightness each, and the same without noise, as whole numbers; a job that learns these."""
    rng, shape = np.random.default_rng(0), (8, 16, 16)[-ndim:] if ndim == 3 else (32, 24)
    keys: Keys = IMAGES | {"PROBLEM.NDIM": f"{ndim}D", "DATA.PATCH_SIZE": f"({', '.join(['8', '16', '16'][-ndim:])}, 1)"}
    for part, count in (("train", 3), ("test", 1)):
        for number in range(count):
            smooth = np.cumsum(rng.normal(size=shape), axis=-1)
            clean = 1000 * (number + 1) + 40 * smooth
            noisy = clean + rng.normal(size=shape) * 20
            for kind, image in (("x", noisy), ("y", clean)):
                morula.write(folder / f"{part}/{kind}/im_{number}.tif", np.rint(image).astype(np.uint16), axes="ZYX"[-ndim:])
        keys |= {f"DATA.{part.upper()}.PATH": str(folder / part / "x"), f"DATA.{part.upper()}.GT_PATH": str(folder / part / "y")}
    return keys | {
        "DATA.VAL.SPLIT_TRAIN": 0.34, "DATA.TEST.LOAD_GT": True, "MODEL.FEATURE_MAPS": [2, 4, 4], "TRAIN.ENABLE": True,
        "TRAIN.EPOCHS": 2, "TRAIN.LR": 0.01, "TEST.ENABLE": True, "TEST.AUGMENTATION": True, "AUGMENTOR.ENABLE": True,
        "AUGMENTOR.RANDOM_ROT": True, "AUGMENTOR.AUG_NUM_SAMPLES": 1, "LOG.CHART_CREATION_FREQ": 1,
        **({"MODEL.Z_DOWN": [1, 1]} if ndim == 3 else {}),
    }  # fmt: skip


def test_losses_and_units(tmp_path: Path) -> None:
    assert method(tmp_path, {}) == {"kind": "regression", "channels": 1, "units": "image", "losses": {"l1": 1.0}}
    three: Keys = {f"{I2I}.OUTPUT_CHANNELS": 3, f"{I2I}.CHANNELS_PER_HEAD_INFO": [1, 2], f"{I2I}.OUTPUT_CHANNEL_ACT": ["linear"] * 3}
    assert method(tmp_path, three)["channels"] == 3
    for losses, found in (
        ({"LOSS.TYPE": "W_MSE_SSIM"}, {"mse": 0.66, "ssim": 0.34}),
        ({"LOSS.TYPE": ["MAE", "MSE", "SSIM"], "LOSS.WEIGHTS": [1, 0, 0.5]}, {"l1": 1.0, "ssim": 0.5}),
        ({"LOSS.TYPE": "CE"}, {"l1": 1.0}),
    ):
        assert method(tmp_path, losses)["losses"] == found  # type: ignore[arg-type]
    standard: Keys = {f"{TARGET}.ZERO_MEAN_UNIT_VAR.MEAN_VAL": 100.0, f"{TARGET}.ZERO_MEAN_UNIT_VAR.STD_VAL": 20.0}
    limits: Keys = {f"{TARGET}.TYPE": "scale_range", f"{TARGET}.PERC_CLIP.ENABLE": True}
    limits |= {f"{TARGET}.PERC_CLIP.LOWER_VALUE": 10.0, f"{TARGET}.PERC_CLIP.UPPER_VALUE": 90.0}
    for keys, offset, scale in ((standard, 100.0, 20.0), (limits, 10.0, 80.0)):
        made = method(tmp_path, {f"{TARGET}.ENABLE": True, **keys})
        assert (made["offset"], made["scale"], "units" in made) == (offset, scale, False)


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        ({f"{I2I}.OUTPUT_CHANNELS": 0}, "biapy.out_of_range", f"{I2I}.OUTPUT_CHANNELS"),
        ({f"{I2I}.CHANNELS_PER_HEAD_INFO": [1, 2]}, "biapy.contradiction", f"{I2I}.CHANNELS_PER_HEAD_INFO"),
        ({f"{I2I}.OUTPUT_CHANNEL_ACT": "sigmoid"}, "biapy.not_supported", f"{I2I}.OUTPUT_CHANNEL_ACT"),
        ({f"{I2I}.SEPARATED_DECODERS_PER_HEAD": True}, "biapy.not_supported", f"{I2I}.SEPARATED_DECODERS_PER_HEAD"),
        ({f"{I2I}.MEMBRANE_REPAIR.ENABLE": True}, "biapy.not_supported", f"{I2I}.MEMBRANE_REPAIR.ENABLE"),
        ({"MODEL.ARCHITECTURE": "mae"}, "biapy.contradiction", "MODEL.ARCHITECTURE"),
        ({"MODEL.ARCHITECTURE": "nafnet"}, "biapy.unknown_value", "MODEL.ARCHITECTURE"),
        ({"DATA.EXTRACT_RANDOM_PATCH": True, "DATA.PROBABILITY_MAP": True}, "biapy.not_supported", "DATA.PROBABILITY_MAP"),
        *(({"LOSS.TYPE": name}, "biapy.not_supported", "LOSS.TYPE") for name in ("PCC", "VGG", "BCE", "FFT")),
        ({"LOSS.TYPE": "MEA"}, "biapy.unknown_value", "LOSS.TYPE"),
        ({"LOSS.TYPE": ["MAE", "SSIM"], "LOSS.WEIGHTS": [1]}, "biapy.wrong_length", "LOSS.WEIGHTS"),
        ({"LOSS.TYPE": ["MAE"], "LOSS.WEIGHTS": [0]}, "biapy.out_of_range", "LOSS.WEIGHTS"),
        ({f"{TARGET}.ENABLE": True}, "biapy.missing_key", f"{TARGET}.ZERO_MEAN_UNIT_VAR.STD_VAL"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, keys: Keys, code: str, key: str) -> None:
    with raises(code, key=key) as caught:
        method(tmp_path, keys)
    assert caught.problem is not None
    assert caught.problem.remedy


def test_a_check_finds_targets_of_other_channels(tmp_path: Path) -> None:
    path = written(tmp_path, pairs(tmp_path, 2))
    for file in (tmp_path / "train/y").glob("*.tif"):
        morula.write(file, np.zeros((3, 32, 24), np.uint16), axes="CYX", overwrite=True)
    with raises("targets.channels", key="DATA.TRAIN.GT_PATH") as caught:
        check(path, prove=False)
    assert caught.problem is not None
    assert "OUTPUT_CHANNELS" in caught.problem.remedy


def test_keys_of_other_workflows_have_no_effect(tmp_path: Path) -> None:
    keys: Keys = {"DATA.N_CLASSES": 4, "TEST.POST_PROCESSING.FILL_HOLES": True, "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": ["F"]}
    made = job(tmp_path, IMAGES | keys | {f"{I2I}.MEMBRANE_REPAIR.POSTPROCESS.MERGE_TH": 0.7})
    assert {remark.key for remark in made.remarks} == {*keys, f"{I2I}.MEMBRANE_REPAIR.POSTPROCESS.MERGE_TH"}
    assert "objects" not in made.job
    other = job(tmp_path, {f"{I2I}.OUTPUT_CHANNELS": 2, f"{TARGET}.ENABLE": True})
    assert [remark.rule for remark in other.remarks] == ["has no effect: PROBLEM.TYPE is INSTANCE_SEG"] * 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_results_of_images(tmp_path: Path, ndim: int) -> None:
    keys = pairs(tmp_path, ndim) | {"LOSS.TYPE": "W_MAE_SSIM"}
    run(tmp_path, keys, name="im")
    out = tmp_path / "out/im/results/im_1"
    names = {"per_image/im_0.tif", "charts/im_1_loss.png", "train_logs/im_1_log.txt", "test_results_metrics.csv", "report.html"}
    assert names <= files(out)
    assert len([name for name in files(out) if name.startswith("aug/")]) == 4
    predicted, truth = (np.asarray(morula.read(place)) for place in (out / "per_image/im_0.tif", tmp_path / "test/y/im_0.tif"))
    truth, width = truth.astype(np.float64), np.ptp(truth)
    metrics = read_table(out / "test_results_metrics.csv")
    assert list(metrics) == ["file", "psnr", "mae", "mse", "ssim"]
    expected = {
        "psnr": peak_signal_noise_ratio(truth, predicted, data_range=width),
        "ssim": structural_similarity(truth, predicted.astype(np.float64), data_range=width),
        "mae": np.abs(truth - predicted).mean(),
        "mse": np.square(truth - predicted).mean(),
    }
    for name, value in expected.items():
        assert metrics[name][0] == pytest.approx(value, rel=1e-4), name
    assert expected["mae"] < 400  # in the units of the image, not of the network
    # the checkpoint predicts the same, in a job that does not train
    stored = str(tmp_path / "out/im/checkpoints/im_1-checkpoint-best.pth")
    keys |= {"TRAIN.ENABLE": False, "MODEL.LOAD_CHECKPOINT": True, "PATHS.CHECKPOINT_FILE": stored}
    list(predict(written(tmp_path, keys), RunSettings(tmp_path / "again", device="cpu")))
    assert np.array_equal(np.asarray(morula.read(tmp_path / "again/predictions/im_0_predicted.tif")), predicted)


def test_the_converted_job_gives_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, pairs(tmp_path, 2) | {"TRAIN.EPOCHS": 1, "DATA.NORMALIZATION.TYPE": "custom"})
    morula.run(path, output=tmp_path / "biapy", device="cpu")
    (tmp_path / "native.yaml").write_text(morula.dialects.biapy.convert.convert(path).text())
    morula.run(tmp_path / "native.yaml", output=tmp_path / "native", device="cpu")
    for name in ("predictions/im_0_predicted.tif", "model/weights.safetensors", "scores.csv"):
        assert (tmp_path / "biapy" / name).read_bytes() == (tmp_path / "native" / name).read_bytes()


def checkpoint(folder: Path, keys: Keys) -> tuple[Path, torch.nn.Module]:
    """A checkpoint as BiaPy writes it, and its network."""
    torch.manual_seed(0)
    network = build_network({"kind": "classic_unet", "features": [4, 8], "activation": "elu", "norm": "instance"}, 2, 1, {"image": 2})
    settings = read_settings(written(folder, IMAGES | {"MODEL.FEATURE_MAPS": [4, 8], "DATA.PATCH_SIZE": "(16, 16, 1)"} | keys))
    built = {"output_channels": [2], "head_activations": ["linear", "linear"], "activation": "elu", "normalization": "in"}
    content = {"model": biapy_tensors(network, (16, 16)), "cfg": nested(with_defaults(settings)), "model_build_kwargs": built}
    torch.save(content | {"biapy_version": "3.7.1"}, folder / "biapy.pth")
    return folder / "biapy.pth", network.eval()


def test_a_checkpoint_predicts_in_the_units_of_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(500, 40, (16, 16)).astype(np.float32)
    standard: Keys = {f"{TARGET}.ZERO_MEAN_UNIT_VAR.MEAN_VAL": 100.0, f"{TARGET}.ZERO_MEAN_UNIT_VAR.STD_VAL": 20.0}
    for keys, offset, scale in (({}, image.mean(), image.std()), ({f"{TARGET}.ENABLE": True, **standard}, 100.0, 20.0)):
        path, network = checkpoint(tmp_path, {f"{I2I}.OUTPUT_CHANNELS": 2, **keys})  # type: ignore[dict-item]
        model = load_biapy_checkpoint(path)
        assert model.job.method.kind == "regression"
        with torch.inference_mode():
            output = network(torch.from_numpy((image - image.mean()) / image.std())[None, None])["image"][0].numpy()
        np.testing.assert_allclose(model.predict(image), output * scale + offset, rtol=1e-4)
        if not keys:  # a package of bioimage.io would give values of another scale
            with raises("zoo.units"):
                exportable(model)


def test_colours_become_one_channel(tmp_path: Path) -> None:
    keys = pairs(tmp_path, 2) | {"DATA.PATCH_SIZE": "(16, 16, 3)", "TRAIN.EPOCHS": 1, "AUGMENTOR.ENABLE": False}
    for file in tmp_path.glob("*/x/*.tif"):
        image = np.asarray(morula.read(file))
        morula.write(file, np.stack([image, image // 2, image // 3], axis=-1), axes="YXC", overwrite=True)
    keys |= {f"DATA.{part}.INPUT_IMG_AXES_ORDER": "YXC" for part in ("TRAIN", "TEST")}
    keys |= {f"DATA.{part}.INPUT_MASK_AXES_ORDER": "YX" for part in ("TRAIN", "TEST")}
    morula.run(written(tmp_path, keys), output=tmp_path / "run", device="cpu")
    assert np.asarray(morula.read(tmp_path / "run/predictions/im_0_predicted.tif")).shape == (32, 24)


def shared(folder: Path) -> Keys:
    """Three folders, with two images each that share a target, and one of images to predict."""
    keys = pairs(folder, 2)
    for number in range(3):
        for kind, names in (("x", ("a", "b")), ("y", ("t",))):
            image = np.asarray(morula.read(folder / f"train/{kind}/im_{number}.tif"))
            for name in names:
                morula.write(folder / f"{kind}/s{number}/{name}.tif", image, axes="YX")
    return keys | {
        f"{I2I}.MULTIPLE_RAW_ONE_TARGET_LOADER": True,
        "DATA.TRAIN.PATH": str(folder / "x"),
        "DATA.TRAIN.GT_PATH": str(folder / "y"),
    }


def test_images_of_a_folder_share_a_target(tmp_path: Path) -> None:
    keys = shared(tmp_path)
    images = job(tmp_path, keys).job["images"]
    assert isinstance(images, dict)
    # 0.34 of three folders is validated: images of one target are on one side
    sides = [
        [
            (Path(raw).parent.name, Path(raw).stem, Path(label).parent.name)
            for raw, label in zip(images[side]["raw"], images[side]["labels"], strict=True)
        ]
        for side in ("train", "validate")
    ]
    assert sorted(sides[0] + sides[1]) == [(f"s{number}", name, f"s{number}") for number in range(3) for name in "ab"]
    assert sorted(len({folder for folder, *_ in side}) for side in sides) == [1, 2]
    assert images["test"]["raw"] == str(tmp_path / "test/x")  # without folders, as in BiaPy
    keys |= {"DATA.VAL.FROM_TRAIN": False, "DATA.VAL.PATH": str(tmp_path / "x"), "DATA.VAL.GT_PATH": str(tmp_path / "y"), "TRAIN.EPOCHS": 1}
    for part in ("TEST.PATH", "TEST.GT_PATH"):
        keys[f"DATA.{part}"] = keys[f"DATA.{part.replace('TEST', 'TRAIN')}"]
    run(tmp_path, keys, name="im")
    assert len(list((tmp_path / "out/im/results/im_1/per_image").iterdir())) == 6


@pytest.mark.parametrize("wrong", ["several", "none", "flat"])
def test_folders_without_exactly_one_target(tmp_path: Path, wrong: str) -> None:
    keys = shared(tmp_path)
    if wrong == "several":
        morula.write(tmp_path / "y/s1/u.tif", np.zeros((32, 24), np.uint16), axes="YX")
    elif wrong == "none":
        (tmp_path / "y/s1/t.tif").unlink()
    else:
        keys |= {"DATA.TRAIN.PATH": str(tmp_path / "train/x")}
    key = "DATA.TRAIN.PATH" if wrong == "flat" else "DATA.TRAIN.GT_PATH"
    with raises("images.none_in_folder" if wrong == "none" else "biapy.images", key=key) as caught:
        job(tmp_path, keys)
    assert isinstance(caught.error, JobError)
    assert len(caught.error.problems) == 1
    assert caught.error.problems[0].remedy
