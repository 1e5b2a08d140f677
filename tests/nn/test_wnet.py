"""W-Net: the structure of the original, in 2D and 3D, and what makes it lighter."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from morula.nn.build import build_network
from morula.nn.options import WNetOptions
from morula.nn.wnet import WNet
from morula.testing.errors import option_codes, raises


def wnet(ndim=3, classes=2, in_channels=1, **options):
    torch.manual_seed(0)
    return build_network({"kind": "wnet", "features": (4, 8, 8), **options}, ndim, in_channels, {"classes": classes})


def weights(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("classes", "expected"), [(2, 50_531_843), (3, 50_533_636), (4, 50_535_429)])
def test_the_default_has_the_weights_of_wnet3d(classes, expected):
    with torch.device("meta"):
        network = WNet(WNetOptions(), ndim=3, in_channels=1, heads={"classes": classes})
    assert weights(network) == expected
    assert network.multiple == (8, 8, 8)
    assert len(network.state_dict()) == 168


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_heads_are_classes_and_the_image_rebuilt(ndim, classes):
    network = wnet(ndim, classes, in_channels=2)
    outputs = network(torch.rand(1, 2, *(9, 13, 20)[:ndim]))
    assert {name: tuple(values.shape[1:]) for name, values in outputs.items()} == {
        "classes": (classes, *(9, 13, 20)[:ndim]),
        "reconstruction": (2, *(9, 13, 20)[:ndim]),
    }


def test_the_decoder_sees_nothing_but_the_probabilities():
    network = wnet(2).eval()
    x = torch.rand(1, 1, 16, 16)
    outputs = network(x)
    again = network.decoder(outputs["classes"].softmax(dim=1))
    torch.testing.assert_close(outputs["reconstruction"], again)
    shifted = network.decoder((outputs["classes"] + 7).softmax(dim=1))  # the same probabilities
    torch.testing.assert_close(outputs["reconstruction"], shifted, rtol=1e-4, atol=1e-5)


def test_activation_then_dropout_then_normalisation():
    unit = wnet(2, dropout=0.5).encoder.down[1][0]
    x = torch.rand(1, 4, 8, 8)
    expected = unit.norm(nn.functional.relu(unit.mixing(unit.convolution(x))))
    torch.testing.assert_close(unit.eval()(x), expected)
    assert isinstance(unit.norm, nn.GroupNorm)
    assert unit.norm.num_groups == 4


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_encoder_alone_predicts_the_same(ndim):
    network = wnet(ndim).eval()
    alone = network.for_prediction()
    x = torch.rand(1, 1, *(8, 17, 12)[:ndim])
    torch.testing.assert_close(alone(x)["classes"], network(x)["classes"])
    assert set(alone(x)) == {"classes"}
    assert weights(alone) < 0.6 * weights(network)
    assert network.decoder is not None


def test_the_halo_is_as_far_as_the_encoder_sees():
    network = wnet(2, norm="none", features=(8, 8), dropout=0.0).double().eval().for_prediction()
    reach = 0
    for place in (24, 25):
        x = torch.rand(1, 1, 48, 8, dtype=torch.float64).requires_grad_()
        network(x)["classes"][0, :, place].sum().backward()
        rows = torch.nonzero(x.grad.abs().sum(dim=(0, 1, 3)))
        reach = max(reach, place - int(rows.min()), int(rows.max()) - place)
    assert reach == network.receptive_halo[0]


def test_separable_convolutions_have_fewer_weights():
    plain, separable = wnet(features=(8, 16, 32)), wnet(features=(8, 16, 32), separable=True)
    assert weights(separable) < 0.5 * weights(plain)
    assert separable.encoder.down[1][0].convolution.groups == 8
    assert separable.encoder.down[0][0].convolution.groups == 1


def test_checkpointing_changes_no_gradient():
    x = torch.rand(1, 1, 8, 16, 16)
    gradients = []
    for checkpoint in (False, True):
        network = wnet(dropout=0.3, checkpoint=checkpoint).train()
        torch.manual_seed(1)
        sum(values.square().mean() for values in network(x).values()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_preset_fills_missing_options():
    light = WNetOptions(preset="light", features=(8, 16))
    assert (light.features, light.separable, light.norm) == ((8, 16), True, "batch")
    assert WNetOptions(preset="original") == WNetOptions(preset="original", dropout=0.65)
    with pytest.raises(ValidationError) as caught:
        WNetOptions(preset="heavy")
    assert option_codes(caught.value) == ["literal_error"]


def test_classes_are_required():
    with raises("network.heads", key="heads"):
        build_network("wnet", 2, 1, {"reconstruction": 1})
