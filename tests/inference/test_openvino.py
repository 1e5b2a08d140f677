"""OpenVINO gives what torch gives."""

import importlib.util

import pytest
import torch

from morula.core.errors import OptionError
from morula.dialects.pytorch3dunet import build_model
from morula.inference.openvino import OpenVino, with_activation
from morula.nn.build import build_network
from morula.nn.fuse import fuse_for_inference
from morula.testing.errors import raises

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
SECTIONS = {
    "group norm": {"name": "UNet3D", "f_maps": [8, 16, 24], "num_groups": 4},
    "batch norm, two classes": {"name": "UNet3D", "f_maps": [8, 16], "layer_order": "cbr", "out_channels": 2, "final_sigmoid": False},
    "residual": {"name": "ResidualUNetSE3D", "f_maps": [8, 16], "num_groups": 4},
    "one plane": {"name": "UNet2D", "f_maps": [8, 16], "num_groups": 4},
}


@needs_openvino
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_equals_torch_for_every_size(section):
    torch.manual_seed(0)
    model = build_model({"in_channels": 1, "out_channels": 1, **section}).eval()
    fast = OpenVino(fuse_for_inference(model), model.network.multiple)
    flat = model.network.ndim == 2
    for shape in ((2, 1, 1 if flat else 20, 24, 32), (1, 1, 1 if flat else 9, 17, 22), (2, 1, 1 if flat else 20, 24, 32)):
        image = torch.randn(shape)
        with torch.inference_mode():
            expected = model(image)
        assert (fast(image) - expected).abs().max() < 1e-4


@needs_openvino
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_half_precision_decoder_changes_little(section):
    torch.manual_seed(0)
    model = build_model({"in_channels": 1, "out_channels": 1, **section}).eval()
    try:
        fast = OpenVino(fuse_for_inference(model), model.network.multiple, "fp16")
    except OptionError:
        pytest.skip("this processor does not compute in half precision")
    image = torch.randn((1, 1, 1 if model.network.ndim == 2 else 20, 24, 32))
    with torch.inference_mode():
        difference = (fast(image) - model(image)).abs().max()
    assert 0 < difference < 2e-3


@needs_openvino
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["unet", "resunet", "ordered_unet"])
def test_networks_with_activation(kind):
    torch.manual_seed(0)
    network = build_network({"kind": kind, "features": (8, 16)}, 2, 1, {"F": 1, "Db": 1}).eval()

    def activate(heads):
        return torch.cat([heads["F"].sigmoid(), heads["Db"]], dim=1)

    fast = OpenVino(with_activation(fuse_for_inference(network), activate), network.multiple)
    image = torch.randn(1, 1, 32, 48)
    with torch.inference_mode():
        assert (fast(image) - activate(network(image))).abs().max() < 1e-4


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="openvino is installed")
def test_not_installed():
    with raises("backend.not_installed", key="prediction.backend", value="openvino"):
        OpenVino(torch.nn.Identity(), (1, 1))
