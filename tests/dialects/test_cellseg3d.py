"""Checkpoints of WNet3D, by the names of their tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import morula
from morula.core.errors import MissingFileError
from morula.dialects.cellseg3d import load_wnet, names
from morula.testing.errors import raises

LISTED = Path(__file__).parent.parent / "golden/cellseg3d/wnet3d_tensors.txt"
WIDTHS = (4, 8, 16, 32)


def listed():
    """Names and shapes of all tensors of ``wnet_latest.pth``."""
    rows = [line.split(" ", 1) for line in LISTED.read_text().splitlines() if not line.startswith("#")]
    return {name: tuple(int(n) for n in shape.strip("(),").split(",")) for name, shape in rows}


def reduced(shape, name, classes, widths):
    """A shape of the list with other widths and another number of classes."""
    table = dict(zip((64, 128, 256, 512), widths, strict=True))
    sizes = [table.get(n, n) for n in shape]
    if name.startswith("encoder.out_b.module.8"):
        sizes[0] = classes
    if name == "decoder.in_b.module.0.weight":
        sizes[1] = classes
    return sizes


def checkpoint(path, classes=2, widths=WIDTHS):
    generator = torch.Generator().manual_seed(3)
    tensors = {name: torch.randn(reduced(shape, name, classes, widths), generator=generator) * 0.3 for name, shape in listed().items()}
    torch.save(tensors, path)
    return tensors


def test_every_tensor_has_its_place():
    assert sorted(theirs for theirs, _ in names()) == sorted(listed())
    assert len({ours for _, ours in names()}) == 168


def test_shapes_are_those_of_the_original():
    from morula.nn.options import WNetOptions
    from morula.nn.wnet import WNet

    with torch.device("meta"):
        own = WNet(WNetOptions(), ndim=3, in_channels=1, heads={"classes": 2}).state_dict()
    assert {theirs: tuple(own[ours].shape) for theirs, ours in names()} == listed()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_any_number_of_classes_loads(tmp_path, classes):
    tensors = checkpoint(tmp_path / "wnet.pth", classes)
    network = load_wnet(tmp_path / "wnet.pth")
    assert network.heads == {"classes": classes, "reconstruction": 1}
    torch.testing.assert_close(network.encoder.output.weight.data, tensors["encoder.out_b.module.8.weight"])
    assert not network.training


class _Theirs:
    """The forward pass of the encoder or decoder written out from its description, on the tensors as the file names them."""

    def __init__(self, tensors, half):
        self.t = {name.removeprefix(f"{half}."): values for name, values in tensors.items() if name.startswith(f"{half}.")}

    def conv(self, x, name):
        weight = self.t[f"{name}.weight"]
        return functional.conv3d(x, weight, self.t[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def act(self, x, name):
        return functional.group_norm(functional.relu(x), 4, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def outer(self, x, name):
        x = self.act(self.conv(x, f"{name}.module.0"), f"{name}.module.3")
        return self.act(self.conv(x, f"{name}.module.4"), f"{name}.module.7")

    def inner(self, x, name):
        x = self.act(self.conv(self.conv(x, f"{name}.module.0"), f"{name}.module.1"), f"{name}.module.4")
        return self.act(self.conv(self.conv(x, f"{name}.module.5"), f"{name}.module.6"), f"{name}.module.9")

    def up(self, x, name):
        return functional.conv_transpose3d(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], stride=2)

    def __call__(self, x):
        pool = nn.MaxPool3d(2)
        e0 = self.outer(x, "in_b")
        e1 = self.inner(pool(e0), "conv1")
        e2 = self.inner(pool(e1), "conv2")
        bottom = self.inner(pool(e2), "bot")
        d = self.inner(torch.cat([e2, self.up(bottom, "conv_trans2")], dim=1), "deconv2")
        d = self.inner(torch.cat([e1, self.up(d, "conv_trans3")], dim=1), "deconv3")
        return self.conv(self.outer(torch.cat([e0, self.up(d, "conv_trans_out")], dim=1), "out_b"), "out_b.module.8")


def test_the_outputs_are_those_of_the_written_out_network(tmp_path):
    tensors = checkpoint(tmp_path / "wnet.pth", classes=3)
    x = torch.rand(1, 1, 16, 16, 24, generator=torch.Generator().manual_seed(0)) * 100
    with torch.no_grad():
        outputs = load_wnet(tmp_path / "wnet.pth")(x)
        classes = _Theirs(tensors, "encoder")(x)
        rebuilt = _Theirs(tensors, "decoder")(classes.softmax(dim=1))
    torch.testing.assert_close(outputs["classes"], classes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs["reconstruction"], rebuilt, rtol=1e-4, atol=1e-4)


def test_morula_load_gives_a_model_that_segments(tmp_path):
    checkpoint(tmp_path / "wnet.pth", classes=3)
    model = morula.load(tmp_path / "wnet.pth")
    volume = np.random.default_rng(0).integers(0, 4000, (16, 16, 24)).astype(np.uint16)
    volume[4:12, 4:12, 4:12] += 9000
    assert (model.ndim, model.in_channels, model.method.heads["classes"]) == (3, 1, 3)
    assert model.predict(volume).shape[1:] == volume.shape
    assert model.segment(volume).shape == volume.shape


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError):
        load_wnet(tmp_path / "wnet.pth")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with raises("checkpoint.not_wnet3d", file=str(tmp_path / "other.pth")):
        load_wnet(tmp_path / "other.pth")
    tensors = checkpoint(tmp_path / "wnet.pth")
    del tensors["encoder.bot.module.0.weight"]
    torch.save(tensors, tmp_path / "wnet.pth")
    with raises("weights.other_network", file=str(tmp_path / "wnet.pth")) as caught:
        load_wnet(tmp_path / "wnet.pth")
    assert "encoder.down.3.0.convolution.weight" in str(caught.error)
