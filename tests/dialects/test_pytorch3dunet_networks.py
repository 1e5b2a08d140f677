"""Networks and checkpoints of pytorch-3dunet against its own outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from morula.dialects import pytorch3dunet
from morula.dialects.pytorch3dunet import IgnoredKeyWarning, build_model, load_state_dict, original_state_dict
from morula.dialects.pytorch3dunet.networks import NETWORKS
from morula.testing.errors import raises

GOLDEN = Path(__file__).parent.parent / "golden" / "pytorch3dunet"
TAGS = sorted(path.stem for path in GOLDEN.glob("*.npz") if path.stem not in ("losses_metrics", "transforms", "res3d_version_1_6_1"))
SMALL = {"in_channels": 1, "out_channels": 2, "f_maps": [4, 8], "num_groups": 2}


def golden(tag):
    with np.load(GOLDEN / f"{tag}.npz") as file:
        state = {name.removeprefix("state/"): torch.from_numpy(file[name]) for name in file.files if name.startswith("state/")}
        config = json.loads(str(file["config"])) if "config" in file.files else None
        return config, state, torch.from_numpy(file["input"]), torch.from_numpy(file["output"])


@pytest.mark.parametrize("tag", TAGS)
def test_original_outputs(tag):
    config, state, image, expected = golden(tag)
    model = build_model(config).eval()
    load_state_dict(model, {"model_state_dict": {f"module.{name}": values for name, values in state.items()}, "num_epochs": 3})
    with torch.no_grad():
        output, logits = model(image), model.logits(image)
    assert (output - expected).abs().max() < 1e-5
    if config.get("is_segmentation", True):
        activated = logits.sigmoid() if config["final_sigmoid"] else logits.softmax(dim=1)
        torch.testing.assert_close(activated, output)
    own = original_state_dict(model)
    assert list(own) == list(state)  # the order too: an optimiser's state goes by it
    assert all(torch.equal(own[name], values) for name, values in state.items())


def test_checkpoint_of_1_6_1():
    _, state, image, expected = golden("res3d_version_1_6_1")
    config = {"name": "ResidualUNet3D", **SMALL, "f_maps": 4, "num_levels": 3}
    model = build_model(config).eval()
    fresh = model.network
    load_state_dict(model, state)
    assert model.network is not fresh
    with torch.no_grad():
        assert (model(image) - expected).abs().max() < 1e-5
    assert list(original_state_dict(model)) == list(state)
    biasless = {name: values for name, values in state.items() if not name.endswith("upsample.bias")}  # 1.7.0 to 1.8.1
    load_state_dict(model, biasless)
    assert not model.network.decoder[0].resize.convolution.bias.any()
    newer = {name.replace("upsampling.upsample.", "upsampling.upsample.conv_transposed."): values for name, values in biasless.items()}
    load_state_dict(model, newer)
    assert model.network.options.upsample == "stretch"
    assert list(original_state_dict(model)) == list(newer)


def test_checkpoint_of_other_dimensions():
    section = {"in_channels": 1, "out_channels": 1, "f_maps": [4, 8], "num_groups": 4}
    flat = original_state_dict(build_model({"name": "UNet2D", **section}))
    with raises("checkpoint.dimensions"):
        load_state_dict(build_model({"name": "UNet3D", **section}), flat)


def test_mismatched_checkpoint_changes_nothing():
    model = build_model({"name": "ResidualUNet3D", **SMALL})
    before = model.network
    state = {"decoders.0.upsampling.upsample.weight": torch.zeros(8, 4, 3, 3, 3)}
    with raises("weights.other_network"):
        load_state_dict(model, state)
    assert model.network is before
    with raises("checkpoint.no_weights"):
        load_state_dict(model, {"num_epochs": 3})
    with raises("model.foreign_network"):
        load_state_dict(nn.Identity(), state)
    with raises("model.foreign_network"):
        original_state_dict(nn.Identity())


@pytest.mark.parametrize(
    ("name", "f_maps", "expected"),
    [
        ("UNet3D", 16, 1_021_115),
        ("UNet3D", 32, 4_081_267),
        ("UNet2D", 32, 1_362_259),
        ("UNet2D", [32, 64, 128], 328_531),
        ("UNet3D", [16, 32, 64, 128, 256], 4_119_227),
        ("ResidualUNet2D", 32, 9_599_777),
    ],
)
def test_parameter_counts(name, f_maps, expected):
    model = build_model({"name": name, "in_channels": 1, "out_channels": 1, "f_maps": f_maps})
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("upsample", ["default", "nearest", "linear", "bilinear", "trilinear", "area", "deconv"])
def test_all_upsamplings_and_sizes(name, upsample):
    model = build_model(
        {"name": name, **SMALL, "f_maps": [4, 6, 10], "upsample": upsample, "layer_order": "gcrd", "dropout_prob": [0.1, 0.2]}
    )
    shape = (9, 10, 11) if "3D" in name else (9, 11)
    output = model(torch.rand(1, 1, *shape))
    assert tuple(output.shape) == (1, 2, *shape)
    assert 0 <= output.min() <= output.max() <= 1
    output.sum().backward()


def test_flat_z_axis():
    model = build_model({"name": "UNet2D", **SMALL}).eval()
    image = torch.rand(2, 1, 1, 12, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(image[:, :, 0])[:, :, None])


def test_padding_and_sizes_per_level():
    config = {"name": "UNet3D", **SMALL}
    with torch.no_grad():
        assert build_model({**config, "conv_padding": 0})(torch.rand(1, 1, 24, 24, 24)).shape[2:] == (16, 16, 16)
        assert build_model({**config, "conv_padding": [1, 0, 1]})(torch.rand(1, 1, 8, 24, 8)).shape[2:] == (8, 16, 8)
        same = build_model({**config, "conv_padding": 1, "kernels": [[1, 3, 3], 3], "pools": [[1, 2, 2]]})
        assert same(torch.rand(1, 1, 1, 24, 24)).shape[2:] == (1, 24, 24)
    assert build_model({**config, "name": "ResidualUNet3D", "conv_padding": 0}).padding is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "UNet4D"}, "job.unknown_name"),
        ({"name": None}, "job.name_missing"),
        ({"f_maps": [8]}, "model.levels"),
        ({"f_maps": 8, "num_levels": 1}, "model.levels"),
        ({"num_groups": None}, "model.num_groups"),
        ({"layer_order": "rc"}, "network.order"),
        ({"upsample": "none"}, "model.upsample"),
        ({"upsample": None}, "model.upsample"),
        ({"conv_padding": -1}, "model.conv_padding"),
        ({"conv_padding": [1, 1]}, "model.conv_padding"),
        ({"conv_upscale": 3}, "model.conv_upscale"),
        ({"in_channels": 0}, "option.range"),
    ],
)
def test_invalid_networks(change, code):
    with raises(code):
        build_model({"name": "UNet3D", **SMALL, **change})


def test_unread_keys():
    with pytest.warns(IgnoredKeyWarning, match=r"model\.pool_kernel_size"):
        build_model({"name": "UNet3D", **SMALL, "pool_kernel_size": [1, 2, 2]})
    with pytest.warns(IgnoredKeyWarning, match=r"model\.num_level .*'num_levels'"):
        build_model({"name": "UNet3D", **SMALL, "num_level": 3})


def test_invalid_images():
    model = build_model({"name": "UNet3D", **SMALL, "f_maps": [4, 4, 4]})
    with raises("image.axes"):
        model(torch.zeros(1, 2, 8, 8, 8))
    with raises("image.too_small"):
        model(torch.zeros(1, 1, 2, 8, 8))


def test_no_upsampling_without_pooling():
    model = build_model({"name": "UNet2D", **SMALL, "upsample": "none", "pools": 1})
    assert model(torch.zeros(1, 1, 5, 5)).shape[2:] == (5, 5)


def test_public_names():
    assert set(dir(pytorch3dunet)) == set(pytorch3dunet.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = pytorch3dunet.nothing
