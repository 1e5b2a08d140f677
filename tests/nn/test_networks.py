"""Laws that every network of the family keeps, in 2D and 3D."""

import itertools

import pytest
import torch
from torch import nn

from morula.core.options import Options
from morula.core.variants import variant_types
from morula.nn import NETWORKS
from morula.nn.build import build_network, kind_of, to_channels_last
from morula.nn.fuse import fuse_for_inference
from morula.nn.options import ResidualUNetOptions, UNetOptions
from morula.testing.errors import raises

KINDS = ["unet", "resunet"]  # the native family; those with options of their own have a file each
HEADS = {"F": 1, "rays": 5}


def network(kind="unet", ndim=2, in_channels=1, heads=None, **options):
    torch.manual_seed(0)
    return build_network({"kind": kind, "features": (4, 6, 8), **options}, ndim, in_channels, heads or HEADS)


def shake(net):
    """Normalisation parameters and statistics away from their initial values, so that a mistake with them shows."""
    generator = torch.Generator().manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            for values, low in ((part.weight, 0.5), (part.bias, -0.5), (part.running_mean, -0.5), (part.running_var, 0.5)):
                values.data = low + torch.rand(values.shape, generator=generator)
    return net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ndim", "shape"), [(2, (33, 20)), (2, (1, 1)), (2, (3, 64)), (3, (5, 9, 12)), (3, (1, 1, 1)), (3, (8, 8, 8))])
@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
def test_any_size_comes_back_with_its_heads(kind, ndim, shape, norm):
    net = network(kind, ndim, in_channels=2, norm=norm)
    for mode in (True, False):
        outputs = net.train(mode)(torch.rand(1, 2, *shape))
        assert {name: tuple(out.shape) for name, out in outputs.items()} == {"F": (1, 1, *shape), "rays": (1, 5, *shape)}
        assert all(out.isfinite().all() for out in outputs.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upsample", ["transpose", "linear", "nearest"])
@pytest.mark.parametrize("separate", [False, True])
def test_every_parameter_learns(kind, upsample, separate):
    net = network(kind, upsample=upsample, separate_decoders=separate, activation="gelu", dropout=0.1)
    sum(out.square().mean() for out in net(torch.rand(2, 1, 24, 24)).values()).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_separate_decoders_do_not_touch_each_other(kind):
    net = network(kind, separate_decoders=True)
    net(torch.rand(1, 1, 16, 16))["F"].sum().backward()
    touched = {name.split(".")[1] for name, p in net.named_parameters() if p.grad is not None and name.startswith(("decoders", "outputs"))}
    assert touched == {"F"}


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_fit_a_picture(kind, activation):
    net = network(kind, heads={"F": 1}, activation=activation)
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 1, 16, 16, generator=generator)
    target = (nn.functional.avg_pool2d(image, 3, 1, 1) > 0.5).float()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(image)["F"], target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


GEOMETRIES = [
    pytest.param({"kernels": 3, "pools": 2}, 2, id="plain"),
    pytest.param({"kernels": (3, 5, 3), "pools": (2, 3)}, 2, id="uneven"),
    pytest.param({"kernels": ((1, 3), 3, (3, 5)), "pools": ((1, 2), (3, 2))}, 2, id="anisotropic"),
    pytest.param({"convolutions": 1, "decoder_convolutions": 2, "pools": ((2, 4), 2)}, 2, id="steep"),
    pytest.param({"kernels": ((1, 3, 3), 3, 3), "pools": ((1, 2, 2), 2), "convolutions": 1, "decoder_convolutions": 1}, 3, id="3d"),
    pytest.param({"kernels": (5, 3, 3), "head_features": 2}, 2, id="head"),
]


def measured_halo(net, axis):
    """Farthest output voxel that any single changed input voxel changes along the axis: every input position, every phase."""
    multiple, halo = net.multiple, net.receptive_halo
    length = -(-(2 * halo[axis] + 1) // multiple[axis]) * multiple[axis] + 2 * multiple[axis]
    shape = [multiple[i] for i in range(net.ndim)]
    shape[axis] = length
    middle = length // 2
    farthest = 0
    plain = net(torch.zeros(1, 1, *shape, dtype=torch.float64))["F"]
    for position in range(middle - multiple[axis], middle + multiple[axis]):
        image = torch.zeros(1, 1, *shape, dtype=torch.float64)
        image.select(2 + axis, position)[...] = 1.0
        changed = (net(image)["F"] != plain).movedim(2 + axis, 0).flatten(1).any(1).nonzero().flatten()
        farthest = max(farthest, int((changed - position).abs().max()))
    return farthest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upsample", ["transpose", "linear", "nearest"])
@pytest.mark.parametrize(("geometry", "ndim"), GEOMETRIES)
def test_the_halo_is_exactly_what_an_output_voxel_sees(kind, upsample, geometry, ndim):
    net = network(kind, ndim, heads={"F": 1}, norm="none", upsample=upsample, **{**geometry, "features": (1, 1, 1)}).double().eval()
    for parameter in net.parameters():
        parameter.data = torch.ones_like(parameter)  # positive weights: no change cancels or is cut by an activation
    with torch.no_grad():
        assert net.receptive_halo == tuple(measured_halo(net, axis) for axis in range(ndim))


def test_heads_of_a_single_level_see_their_own_convolution_too():
    net = network("unet", 2, heads={"F": 1, "R": 9}, norm="none", features=(1,), head_features=3).double().eval()
    for parameter in net.parameters():
        parameter.data = torch.ones_like(parameter)
    assert net.receptive_halo == (3, 3)
    with torch.no_grad():
        assert [measured_halo(net, axis) for axis in (0, 1)] == [3, 3]
        assert net(torch.zeros(1, 1, 8, 8, dtype=torch.float64))["R"].shape == (1, 9, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_with_its_halo_equals_the_whole(kind):
    net = shake(network(kind, features=(4, 6), convolutions=1)).double().eval()
    halo, multiple = net.receptive_halo, net.multiple
    image = torch.rand(1, 1, 96, 80, dtype=torch.float64)
    margin = [-(-h // m) * m for h, m in zip(halo, multiple, strict=True)]
    box = (slice(margin[0], 96 - margin[0]), slice(margin[1], 80 - margin[1]))
    with torch.no_grad():
        whole = net(image)["F"]
        start, stop = 32, 48
        tile = net(image[..., start - margin[0] : stop + margin[0], :])["F"][..., margin[0] : -margin[0], :]
    torch.testing.assert_close(tile[..., box[1]], whole[..., start:stop, box[1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "expected"), [("batch", False), ("none", False), ("group", True), ("instance", True)])
def test_norm_over_space_says_whether_far_voxels_matter(norm, expected):
    net = network(norm=norm, heads={"F": 1}, features=(4, 6), convolutions=1).eval()
    assert net.norm_over_space is expected
    image = torch.rand(1, 1, 64, 64)
    other = image.clone()
    other[..., -1] += 1
    with torch.no_grad():
        same = torch.equal(net(image)["F"][..., 0], net(other)["F"][..., 0])
    assert same is not expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ndim", "shape"), [(2, (30, 33)), (3, (6, 10, 9))])
@pytest.mark.parametrize("upsample", ["transpose", "linear"])
def test_fused_equals_plain_and_leaves_the_network_alone(kind, ndim, shape, upsample):
    net = shake(network(kind, ndim, upsample=upsample)).train()
    before = {name: values.clone() for name, values in net.state_dict().items()}
    fused = fuse_for_inference(net)
    assert net.training
    assert not fused.training
    assert not any(isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d) for part in fused.modules())
    image = torch.rand(1, 1, *shape)
    with torch.no_grad():
        plain, fast = net.eval()(image), fused(image)
    for name in plain:
        torch.testing.assert_close(fast[name], plain[name], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ndim", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_channels_last_equals_channels_first(kind, ndim, layout):
    net = shake(network(kind, ndim)).eval()
    image = torch.rand(1, 1, *(12,) * ndim)
    with torch.no_grad():
        plain = net(image)
        assert to_channels_last(net) is net
        assert all(p.is_contiguous(memory_format=layout) for p in net.parameters() if p.ndim > 1)
        for name, logits in net(image).items():
            torch.testing.assert_close(logits, plain[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_half_precision_stays_near(kind, ndim):
    net = shake(network(kind, ndim)).eval()
    image = torch.rand(1, 1, *(10,) * ndim)
    with torch.no_grad():
        plain = net(image)["F"]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(image)["F"]
        half = net.bfloat16()(image.bfloat16())["F"]
    for values in (mixed, half):
        assert (values.float() - plain).abs().max() < 0.05 * (1 + plain.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_weights_and_any_order_of_samples(kind):
    first, second = network(kind), network(kind)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    batch = torch.rand(3, 1, 17, 16)
    with torch.no_grad():
        outputs = first.eval()(batch)["F"]
        torch.testing.assert_close(first(batch.flip(0))["F"].flip(0), outputs, rtol=1e-5, atol=1e-6)


def test_the_signal_keeps_its_size_at_the_start():
    for kind, norm, upsample in itertools.product(KINDS, ("batch", "none"), ("transpose", "linear")):
        torch.manual_seed(0)
        net = build_network({"kind": kind, "norm": norm, "upsample": upsample}, 2, 1, {"F": 8})
        with torch.no_grad():
            spread = float(net(torch.randn(2, 1, 64, 64))["F"].std())
        assert 0.2 < spread < 8, (kind, norm, upsample)


def test_one_level_is_a_plain_network():
    net = network(features=(4,))
    assert (net.multiple, net.receptive_halo) == ((1, 1), (2, 2))
    assert net(torch.rand(1, 1, 5, 5))["F"].shape == (1, 1, 5, 5)


def test_parameter_count_of_the_default_network():
    net = build_network("unet", 2, 1, {"F": 1})
    # counted by hand: 9 k per convolution, 4 per transposed weight, two numbers a normalised channel
    pairs = [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    pairs += [(256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32)]
    expected = sum(9 * a * b + 2 * b for a, b in pairs) + sum(4 * 2 * c * c + c for c in (128, 64, 32)) + 33
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "value"),
    [
        ((1, 1, {"F": 1}), "network.ndim", 1),
        ((2, 0, {"F": 1}), "network.in_channels", 0),
        ((2, 1, {}), "network.heads", {}),
        ((2, 1, {"F": 0}), "network.heads", {"F": 0}),
        ((2, 1, {"a.b": 1}), "network.head_name", "a.b"),
        ((2, 1, {"keys": 1}), "network.head_name", "keys"),
    ],
)
def test_invalid_arguments(arguments, code, value):
    with raises(code, value=value):
        build_network(UNetOptions(features=(4,)), *arguments)


def test_spellings_of_options():
    small = {"features": [4, 8]}
    assert build_network({"kind": "resunet", **small}, 2, 1, HEADS).kind == "resunet"
    assert build_network(ResidualUNetOptions(**small), 2, 1, HEADS).kind == "resunet"
    assert build_network(small, 2, 1, HEADS).kind == "unet"
    with raises("name.unknown", value="unett"):
        build_network("unett", 2, 1, HEADS)
    assert build_network(variant_types(NETWORKS)["resunet"](kind="resunet", **small), 2, 1, HEADS).kind == "resunet"
    with raises("network.options", value="Options"):
        kind_of(Options())


def test_invalid_image():
    net = network()
    with raises("network.input_shape", value=(1, 3, 8, 8)):
        net(torch.zeros(1, 3, 8, 8))
    with raises("network.input_shape", value=(1, 1, 8, 8, 8)):
        net(torch.zeros(1, 1, 8, 8, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_exports_as_one_graph(kind):
    net = shake(network(kind)).eval()
    image = torch.rand(1, 1, 16, 16)
    exported = torch.export.export(net, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image)["F"], net(image)["F"], rtol=1e-5, atol=1e-5)
