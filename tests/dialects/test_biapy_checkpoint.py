"""Checkpoints of BiaPy compute what BiaPy computed; what cannot be loaded is refused by code and fields."""

import json
import os
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import morula
from morula.core.errors import MissingFileError
from morula.core.events import Logged
from morula.dialects.biapy import CheckpointWarning, load_biapy_checkpoint
from morula.dialects.biapy.networks import native_network
from morula.testing.errors import raises

GOLDEN = Path(__file__).parents[1] / "golden" / "biapy"
CASES = {case["tag"]: case for case in json.loads((GOLDEN / "networks.json").read_text())}
OUTPUTS = np.load(GOLDEN / "networks.npz")


def drawn(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def values(name, shape):
    """Weights that depend on the tensor's name alone."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    draw = drawn(name).standard_normal(tuple(shape))
    if name.endswith("running_var") or "layer_scale" in name:
        made = 0.5 + np.abs(draw)
    elif name.endswith(("running_mean", "gamma", "beta")):
        made = 0.3 * draw
    elif "pos_embed" in name or "_token" in name:
        made = 0.2 * draw
    elif name.endswith("weight_g"):
        made = 1 + 0.1 * draw
    elif len(shape) <= 1:
        made = 0.2 * draw + (1 if name.endswith("weight") else 0)
    else:
        made = draw / np.sqrt(max(1, np.prod(shape[1:])))
    return made.astype(np.float32)


def tensors(case):
    return {name: torch.from_numpy(np.asarray(values(name, shape))) for name, shape in case["tensors"].items()}


def image(case):
    return torch.from_numpy(drawn(case["tag"]).standard_normal(case["input_shape"]).astype(np.float32))


@pytest.mark.parametrize("tag", [tag for tag in CASES if "two_decoders" not in tag])
def test_networks_compute_what_the_original_computes(tag):
    case = CASES[tag]
    network = native_network(case["cfg"]["MODEL"]["ARCHITECTURE"], tensors(case), case["kwargs"], version=case["version"], heads=["out"])
    with torch.no_grad():
        made = network(image(case))["out"].numpy()
    np.testing.assert_allclose(made, OUTPUTS[tag], rtol=0, atol=1e-4)


def checkpoint(tag="unet_2D", **changes):
    """What BiaPy would have stored, for channels F and C."""
    case = CASES[tag]
    normalisation = {"TYPE": "zero_mean_unit_variance", "ZERO_MEAN_UNIT_VAR": {"MEAN_VAL": [-1.0], "STD_VAL": [-1.0]}}
    section = {"DATA_CHANNELS": ["F", "C"], "DATA_CHANNELS_EXTRA_OPTS": [{"F": {"erosion": 1}, "C": {"mode": "inner"}}]}
    config = {
        "PROBLEM": {"TYPE": "INSTANCE_SEG", "NDIM": tag.split("_")[1], "INSTANCE_SEG": section},
        "MODEL": case["cfg"]["MODEL"],
        "DATA": {"PATCH_SIZE": [16, 16, 1], "NORMALIZATION": normalisation},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    return {
        "model": tensors(case),
        "model_build_kwargs": case["kwargs"],
        "cfg": config,
        "epoch": "best",
        "biapy_version": case["version"],
    }


def stored(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def test_a_checkpoint_predicts_segments_and_is_stored(tmp_path):
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint()))
    assert model.method.channels == ("F", "C")
    assert [channel.kind for channel in model.job.method.channels] == ["F", "C"]
    assert model.job.method.channels[0].erosion == 1
    raw = drawn("image").randint(0, 256, (16, 16)).astype(np.uint8)
    scaled = (raw - raw.mean()) / raw.std()
    with torch.no_grad():
        expected = model.network(torch.from_numpy(scaled.astype(np.float32))[None, None])["channels"].sigmoid()[0].numpy()
    predicted = model.predict(raw)
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-4)
    assert model.segment(raw).shape == (16, 16)
    model.save(tmp_path / "model", torch.rand(1, 1, 16, 16))
    again = morula.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict(raw), predicted, rtol=0, atol=1e-6)


def test_morula_load_and_segment_take_checkpoints(tmp_path):
    path = stored(tmp_path, checkpoint())
    raw = drawn("image").randint(0, 256, (16, 16)).astype(np.uint8)
    assert np.array_equal(morula.load(path).predict(raw), load_biapy_checkpoint(path).predict(raw))
    morula.write(tmp_path / "scan.tif", raw, axes="YX")
    list(morula.segment(tmp_path / "scan.tif", model=path, output=tmp_path / "labels.tif"))
    assert np.array_equal(np.asarray(morula.read(tmp_path / "labels.tif")), np.asarray(load_biapy_checkpoint(path).segment(raw)))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with raises("checkpoint.unknown_format", file=str(tmp_path / "other.pth")):
        morula.load(tmp_path / "other.pth")


def test_what_was_trained_otherwise_is_recorded(tmp_path):
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint("attention_unet_2D")))
    model.save(tmp_path / "model", torch.rand(1, 1, 16, 16))
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["network"]["options"]["as_trained"] is True


def test_classes(tmp_path):
    changes = {"PROBLEM": {"TYPE": "SEMANTIC_SEG"}, "DATA": {"PATCH_SIZE": [4, 8, 16, 1]}}
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint("unet_3D_anisotropic", **changes)))
    assert (model.ndim, model.method.classes) == (3, 3)
    assert float(abs(model.predict(np.ones((4, 8, 16), np.float32)).sum(axis=0) - 1).max()) < 1e-5


def test_pretrained_networks(tmp_path):
    masking = {"TYPE": "SELF_SUPERVISED", "SELF_SUPERVISED": {"PRETEXT_TASK": "masking"}}
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint("mae_2D", PROBLEM=masking)))
    assert (model.method.token, model.method.heads) == ((4, 4), {"image": 1})
    case = CASES["mae_2D"]
    with torch.no_grad():
        np.testing.assert_allclose(model.network(image(case))["image"].numpy(), OUTPUTS["mae_2D"], rtol=0, atol=1e-4)
    crappify = {"TYPE": "SELF_SUPERVISED", "SELF_SUPERVISED": {"PRETEXT_TASK": "crappify", "RESIZING_FACTOR": 4, "NOISE": 0.1}}
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint("dfcan_2D", PROBLEM=crappify, DATA={"PATCH_SIZE": [9, 10, 1]})))
    assert (model.method.factors, model.method.options.noise) == ((2.0, 2.0), 0.1)
    assert model.predict(np.ones((9, 10), np.float32) + np.eye(9, 10, dtype=np.float32)).shape == (1, 9, 10)


def test_settings_of_earlier_versions_need_no_class(tmp_path, monkeypatch):
    """BiaPy up to 3.6 stores an object of yacs, which need not be installed to read the file."""
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", module)
        content = checkpoint("unet_2D_3.5.10", PROBLEM={"INSTANCE_SEG": {"DATA_CHANNELS": "BC"}})
        content["cfg"] = module.CfgNode({name: module.CfgNode(section) for name, section in content["cfg"].items()})
        content["cfg"].__dict__["__immutable__"] = True
        path = stored(tmp_path, content)
    assert load_biapy_checkpoint(path).method.channels == ("F", "C")


@pytest.mark.parametrize(
    ("normalisation", "kind"),
    [
        ({"TYPE": "scale_range"}, "minmax"),
        ({"TYPE": "scale_range", "PERC_CLIP": {"ENABLE": True, "LOWER_PERC": 1.0, "UPPER_PERC": 99.0}}, "percentile"),
        ({"TYPE": "zero_mean_unit_variance", "ZERO_MEAN_UNIT_VAR": {"MEAN_VAL": [3.0], "STD_VAL": [2.0]}}, "fixed"),
    ],
)
def test_normalisations(tmp_path, normalisation, kind):
    model = load_biapy_checkpoint(stored(tmp_path, checkpoint(DATA={"NORMALIZATION": normalisation})))
    assert model.job.sampling.normalise.kind == kind


def test_division_by_the_largest_value_of_the_type_warns(tmp_path):
    with pytest.warns(CheckpointWarning):
        load_biapy_checkpoint(stored(tmp_path, checkpoint(DATA={"NORMALIZATION": {"TYPE": "div"}})))


@pytest.mark.parametrize(
    ("changes", "code", "fields"),
    [
        ({"MODEL": {"ARCHITECTURE": "stunet"}}, "checkpoint.unknown_network", {"value": "stunet"}),
        ({"PROBLEM": {"TYPE": "CLASSIFICATION"}}, "checkpoint.workflow", {"value": "CLASSIFICATION"}),
        ({"PROBLEM": {"INSTANCE_SEG": {"DATA_CHANNELS": ["F", "Q"]}}}, "checkpoint.unknown_channel", {"value": "Q"}),
        ({"PROBLEM": {"INSTANCE_SEG": {"DATA_CHANNELS": ["F"]}}}, "checkpoint.heads", {}),
        ({"PROBLEM": {"INSTANCE_SEG": {"DATA_CHANNELS": ["F", "R"]}}}, "checkpoint.activation", {"value": "sigmoid"}),
        ({"DATA": {"NORMALIZATION": {"TYPE": "rank"}}}, "checkpoint.normalisation", {"value": "rank"}),
    ],
)
def test_checkpoints_that_cannot_be_loaded(tmp_path, changes, code, fields):
    path = stored(tmp_path, checkpoint(**changes))
    with raises(code, file=str(path), **fields):
        load_biapy_checkpoint(path)


def test_tensors_that_fit_no_network_are_named(tmp_path):
    content = checkpoint()
    content["model"]["down_path.0.block.0.surprise"] = content["model"].pop("bottleneck.block.0.block.1.bias")
    with raises("checkpoint.tensors"):
        load_biapy_checkpoint(stored(tmp_path, content))


@pytest.mark.parametrize("architecture", ["multiresunet", "resunet++", "unext_v1", "rcan", "hrnet48", "unetr"])
def test_tensors_of_another_network_than_the_settings_say(tmp_path, architecture):
    path = stored(tmp_path, checkpoint(MODEL={"ARCHITECTURE": architecture}))
    with raises("checkpoint.tensors", key="MODEL.ARCHITECTURE", value=architecture, file=str(path)):
        load_biapy_checkpoint(path)


def test_other_outputs_and_blocks_of_hrnet_are_named(tmp_path):
    for name in ("heads.0.conv.0.weight", "stages.0.0.branches.0.0.conv3_block.block.0.weight"):
        content = checkpoint("hrnet_2D")
        content["model"][name] = torch.zeros(4, 4, 1, 1)
        with raises("checkpoint.unsupported_layers"):
            load_biapy_checkpoint(stored(tmp_path, content))


def test_hrnet_keeps_z_or_halves_it_as_its_version_does(tmp_path):
    for version, settings, expected in (("3.7.1", None, 1), ("3.6.8", None, 2), ("3.6.8", False, 1), ("3.6.8", True, 2)):
        section = {} if settings is None else {"HRNET": {"Z_DOWN": settings}}
        content = checkpoint("hrnet_3D", MODEL={"ARCHITECTURE": "hrnet48", **section}, DATA={"PATCH_SIZE": [6, 16, 16, 1]})
        content["model_build_kwargs"] = {name: value for name, value in content["model_build_kwargs"].items() if name != "cfg"}
        content["biapy_version"] = version
        assert load_biapy_checkpoint(stored(tmp_path, content)).network.multiple[0] == expected**3


def test_heads_with_decoders_of_their_own(tmp_path):
    content = checkpoint("unet_2D_two_decoders")
    model = load_biapy_checkpoint(stored(tmp_path, content))
    assert model.method.heads == {"F": 1, "C": 1}
    case = CASES["unet_2D_two_decoders"]
    with torch.no_grad():
        made = model.network(image(case))
    np.testing.assert_allclose(np.concatenate([made["F"], made["C"]], axis=1), OUTPUTS["unet_2D_two_decoders"], rtol=0, atol=1e-4)
    content["model"]["heads.2.weight"], content["model"]["heads.2.bias"] = torch.zeros(1, 4, 1, 1), torch.zeros(1)
    with raises("checkpoint.heads"):
        load_biapy_checkpoint(stored(tmp_path, content))


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(MissingFileError):
        load_biapy_checkpoint(tmp_path / "none.pth")
    with raises("checkpoint.not_biapy"):
        load_biapy_checkpoint(stored(tmp_path, {"model": {"a": torch.zeros(1)}}))


@pytest.mark.data
def test_a_really_trained_network_gives_its_own_probabilities(data_folder):
    """Needs MORULA_BIAPY: the folder of a checkpoint trained on nuclei2d and `probabilities_NAME.tif` of test images."""
    folder = Path(os.environ.get("MORULA_BIAPY", ""))
    files = sorted(folder.glob("probabilities_*.tif")) if os.environ.get("MORULA_BIAPY") else []
    if not files:
        pytest.skip("no trained checkpoint of BiaPy here; set MORULA_BIAPY to a folder with one and its probabilities_*.tif")
    model = load_biapy_checkpoint(next(folder.glob("*.pth")))
    for file in files:
        raw = morula.read(data_folder / "nuclei2d" / "test" / "images" / file.name.removeprefix("probabilities_"))
        np.testing.assert_allclose(model.predict(raw), np.asarray(morula.read(file, axes="CYX")), rtol=0, atol=1e-4)


def test_training_starts_from_a_checkpoint(tmp_path):
    masking = {"TYPE": "SELF_SUPERVISED", "SELF_SUPERVISED": {"PRETEXT_TASK": "masking"}}
    path = stored(tmp_path, checkpoint("mae_2D", PROBLEM=masking))
    rng = np.random.default_rng(0)
    for number in range(2):
        labels = np.zeros((32, 32), np.uint16)
        labels[4:14, 4:14], labels[18:28, 16:29] = 1, 2
        morula.write(tmp_path / "labels" / f"{number}.tif", labels, axes="YX", labels=True)
        raw = (500 * (labels > 0) + rng.normal(100, 9, labels.shape)).astype(np.uint16)
        morula.write(tmp_path / "raw" / f"{number}.tif", raw, axes="YX")
    job = {
        "images": {"train": {"raw": str(tmp_path / "raw"), "labels": str(tmp_path / "labels")}, "validate": None},
        "method": {"kind": "channels", "channels": ["F", "C"]},
        "network": {"kind": "unetr", "from": str(path), "features": 4},
        "sampling": {"patch": [16, 16], "batch": 2},
        "training": {"epochs": 1, "steps_per_epoch": 2, "freeze": ["encoder.*"]},
        "augment": "none",
    }
    told = [event.message for event in morula.train(job, output=tmp_path / "run") if isinstance(event, Logged)]
    assert any("100.0% of the encoder" in text for text in told)
    former = load_biapy_checkpoint(path).network.encoder.state_dict()
    later = morula.load(tmp_path / "run").network.encoder.state_dict()
    assert all(torch.equal(values, former[name]) for name, values in later.items())
    with raises("transfer.other_network", key="network.from"):
        list(morula.train({**job, "network": {"kind": "unet", "from": str(path)}}, output=tmp_path / "other"))
