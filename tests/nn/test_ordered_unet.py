"""The U-Net with its layers in any order; numbers against the original stand in tests/dialects/test_pytorch3dunet_networks.py."""

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from morula.nn.build import build_network
from morula.nn.layers import enlarge_nearest, one_voxel
from morula.nn.options import OrderedUNetOptions
from morula.nn.ordered_unet import OrderedUNet, Resize
from morula.testing.errors import option_codes
from morula.training.state import of_patches

WAYS = [("nearest", "concatenate"), ("linear", "concatenate"), ("area", "concatenate"), ("transpose", "concatenate"), ("stretch", "add")]


def network(ndim=2, in_channels=1, **options):
    torch.manual_seed(0)
    return build_network({"kind": "ordered_unet", "features": (4, 6, 8), **options}, ndim, in_channels, {"F": 1, "rays": 5})


@pytest.mark.parametrize("block", ["double", "residual", "residual_se"])
@pytest.mark.parametrize(("upsample", "join"), WAYS)
@pytest.mark.parametrize(("ndim", "shape"), [(2, (33, 20)), (2, (1, 1)), (3, (1, 5, 12))])
def test_any_size_comes_back_and_every_parameter_learns(block, upsample, join, ndim, shape):
    net = network(ndim, block=block, upsample=upsample, join=join, order="cbe", pools=((2,) * (ndim - 1) + (1,), 2))
    outputs = net(torch.rand(2, 1, *shape))
    assert {name: tuple(out.shape) for name, out in outputs.items()} == {"F": (2, 1, *shape), "rays": (2, 5, *shape)}
    sum(out.square().mean() for out in net(torch.rand(2, 1, *(16,) * ndim)).values()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(("shape", "padded"), [((6, 9), (6, 9)), ((4, 9), (4, 9)), ((3, 9), (4, 12)), ((5, 6), (8, 8))])
def test_patches_of_any_size_are_not_padded_in_training(shape, padded):
    """Where the coarsest level has two voxels; whole images are always padded, so that tiles fit each other."""
    net = network()
    assert net.train().padded_shape(shape) == padded
    assert net(torch.zeros(1, 1, *shape))["F"].shape[2:] == shape
    assert all(n % 4 == 0 for n in net.eval().padded_shape(shape))
    with of_patches(net):  # in validation
        assert net.padded_shape(shape) == padded


@pytest.mark.parametrize("order", ["c", "cr", "crg", "gcr", "cbl", "bce", "crdgD", "crl", "crcg", "gcrg", "dc", "cer"])
@pytest.mark.parametrize("block", ["double", "residual"])
def test_every_order_learns(order, block):
    net = network(order=order, block=block, dropout=(0.1, 0.2), groups=3)
    sum(out.sum() for out in net(torch.rand(2, 1, 12, 12)).values()).backward()
    assert all(p.grad is not None for p in net.parameters())
    biased = net.encoder[0].first.convolution.bias is not None
    assert biased is not bool({"g", "b"} & set(order))


def test_layers_stand_in_the_order_of_the_letters():
    first = list(network(order="gcrdD", dropout=(0.25, 0.5)).encoder[1].first)
    assert [type(part) for part in first] == [nn.GroupNorm, nn.Conv2d, nn.ReLU, nn.Dropout, nn.Dropout2d]
    assert [part.p for part in first[3:]] == [0.25, 0.25]
    assert network(order="crd", dropout=(0.25, 0.5)).encoder[1].second[-1].p == 0.5


@pytest.mark.parametrize(("channels", "groups", "expected"), [(4, 8, 1), (8, 8, 8), (16, 8, 8), (12, 8, 6), (10, 8, 5), (7, 3, 1)])
def test_groups_fall_back(channels, groups, expected):
    net = network(features=(channels, channels), order="cg", groups=groups, widen="first")
    assert net.encoder[0].first.group_norm.num_groups == expected


def test_the_first_convolution_widens_or_the_second():
    narrow, wide = network(features=(8, 16)), network(features=(8, 16), widen="first")
    assert [tuple(net.encoder[1].first.convolution.weight.shape[:2]) for net in (narrow, wide)] == [(8, 8), (16, 8)]
    assert network(in_channels=6, features=(8, 16)).encoder[0].first.convolution.out_channels == 6


@pytest.mark.parametrize(("upsample", "join"), WAYS)
@pytest.mark.parametrize(("kernels", "pools"), [(3, 2), (((1, 3), 3, (3, 5)), ((1, 2), (2, 2)))])
def test_nothing_beyond_the_halo_changes_a_voxel(upsample, join, kernels, pools):
    net = network(order="ce", upsample=upsample, join=join, kernels=kernels, pools=pools, features=(1, 1, 1)).double().eval()
    for parameter in net.parameters():
        parameter.data = torch.ones_like(parameter)
    for axis, phase in itertools.product(range(2), range(4)):
        shape = [4, 4]
        shape[axis] = 96
        image = torch.zeros(1, 1, *shape, dtype=torch.float64)
        plain = net(image)["F"].detach()
        image.select(2 + axis, 48 + phase)[...] = 1
        changed = (net(image)["F"] != plain).movedim(2 + axis, 0).flatten(1).any(1).nonzero().flatten() - 48 - phase
        assert changed.abs().max() <= net.receptive_halo[axis] <= changed.abs().max() + 2 * net.multiple[axis]


@pytest.mark.parametrize(("upsample", "join"), WAYS)
def test_a_tile_with_its_halo_equals_the_whole(upsample, join):
    net = network(features=(4, 6), order="cbl", upsample=upsample, join=join).double().eval()
    image = torch.rand(1, 1, 96, 64, dtype=torch.float64)
    margin = -(-net.receptive_halo[0] // 2) * 2
    with torch.no_grad():
        whole = net(image)["F"]
        tile = net(image[..., 32 - margin : 48 + margin, :])["F"][..., margin:-margin, :]
    torch.testing.assert_close(tile, whole[..., 32:48, :], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"order": "cbr"}, False), ({"order": "cr"}, False), ({"order": "gcr"}, True), ({"order": "cbr", "block": "residual_se"}, True)],
)
def test_norm_over_space_says_whether_far_voxels_matter(options, expected):
    net = network(features=(4, 6), **options).eval()
    image = torch.rand(1, 1, 64, 64)
    other = image.clone()
    other[..., -1] += 1
    with torch.no_grad():
        assert torch.equal(net(image)["F"][..., 0], net(other)["F"][..., 0]) is not expected
    assert net.norm_over_space is expected


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_transposed_convolution_to_the_size_is_torchs(ndim):
    resize = Resize(OrderedUNetOptions(upsample="transpose"), ndim, 3, 2, (2,) * ndim)
    x = torch.rand(1, 3, *(4, 5, 6)[:ndim])
    kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    own = kind(3, 2, 3, stride=2, padding=1)
    own.load_state_dict(resize.convolution.state_dict())
    size = [2 * n for n in x.shape[2:]]
    torch.testing.assert_close(resize(x, size), own(x, output_size=size), rtol=0, atol=0)
    assert resize(x, [n + 1 for n in size]).shape[2:] == torch.Size([n + 1 for n in size])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"order": "gr"}, "network.order"),
        ({"order": "rc"}, "network.order"),
        ({"order": "gcx"}, "network.order"),
        ({"kernels": 4}, "network.even_kernel"),
        ({"kernels": (3, 3)}, "network.entries"),
        ({"pools": (2,)}, "network.entries"),
        ({"join": "add"}, "network.join"),
        ({"upsample": "stretch", "pools": 3}, "network.upsample"),
    ],
)
def test_invalid_options(options, code):
    with pytest.raises(ValidationError) as caught:
        OrderedUNetOptions(**options)
    assert option_codes(caught.value) == [code]


@pytest.mark.parametrize(("shape", "size"), [((2, 3, 4, 5), (8, 10)), ((1, 4, 2, 3, 5), (2, 6, 10)), ((2, 3, 4, 5), (7, 10))])
def test_enlarging_has_the_same_gradient_in_both_layouts(shape, size):
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    torch.manual_seed(0)
    plain = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    last = plain.detach().clone(memory_format=layout).requires_grad_()
    weight = torch.randn((*shape[:2], *size), dtype=torch.float64)
    results = []
    for image in (plain, last):
        out = enlarge_nearest(image, size)
        (out * weight).sum().backward()
        results.append((out, image.grad))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[0][0], torch.nn.functional.interpolate(plain, size=size))


def test_a_first_norm_learns_from_channels_last_images():
    torch.manual_seed(0)
    options = OrderedUNetOptions(features=(4, 8), order="gcr", groups=2)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        torch.manual_seed(1)
        network = OrderedUNet(options, ndim=3, in_channels=1, heads={"a": 1}).to(memory_format=layout)
        image = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(2)).to(memory_format=layout)
        network.logits(image)["a"].square().mean().backward()
        gradients.append([weight.grad for weight in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (2, 6, 3, 5, 4)])
def test_one_voxel_convolutions_are_the_same_in_both_layouts(shape):
    torch.manual_seed(0)
    layer = (nn.Conv2d if len(shape) == 4 else nn.Conv3d)(6, 3, 1)
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    plain = torch.randn(shape, requires_grad=True)
    last = plain.detach().clone(memory_format=layout).requires_grad_()
    found = []
    for image in (plain, last):
        layer.zero_grad()
        out = one_voxel(layer, image)
        out.square().sum().backward()
        found.append((out, image.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    torch.testing.assert_close(found[1], found[0])
