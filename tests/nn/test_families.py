"""Networks beyond the native U-Nets: their parameter counts, what each alone promises, and how far they see."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from morula.nn.build import build_network
from morula.nn.mae import boxes_to_image, image_to_boxes
from morula.nn.transformer import resize_positions, sincos_positions
from morula.testing.errors import option_codes, raises
from morula.testing.torch_contracts import small_options

COUNTS = json.loads((Path(__file__).parents[1] / "golden" / "biapy" / "parameter_counts.json").read_text())
PRESETS = {f"unetr_{name}": {"kind": "unetr", "preset": name} for name in ("mini", "small", "base")}
# what the tests below build differently from the default, and why the counts differ where they do
SETTINGS = {
    **PRESETS,
    "attention_unet": {"kind": "attention_unet", "as_trained": True},  # ours normalises the encoder's side of the gates too: 240 more
    "hrnet": {"kind": "hrnet", "features": (48, 96, 192, 384)},  # BiaPy builds the second widest by default
    "edsr": {"kind": "edsr", "as_trained": True},  # always of three channels and through twice the edge
}
CHANNELS = {"edsr": (3, 3), **dict.fromkeys(PRESETS, (1, 2))}


def counted(settings, ndim, channels):
    with torch.device("meta"):
        net = build_network(settings, ndim, channels[0], {"image": channels[1]})
    return sum(values.numel() for values in net.parameters())


@pytest.mark.parametrize(("name", "ndim"), [(name, ndim) for name, both in COUNTS.items() for ndim in (2, 3) if both[ndim - 2]])
def test_parameters_are_as_many_as_documented(name, ndim):
    assert counted(SETTINGS.get(name, {"kind": name}), ndim, CHANNELS.get(name, (1, 1))) == COUNTS[name][ndim - 2]


def test_the_right_attention_gate_has_the_norms_that_were_lost():
    widths = (8, 16, 32, 64)  # of the gates: half the features of the four levels that have one
    assert counted({"kind": "attention_unet"}, 2, (1, 1)) - COUNTS["attention_unet"][0] == 2 * sum(widths)


def small(kind, ndim=2, heads=None, **options):
    torch.manual_seed(0)
    chosen = small_options(kind)
    chosen = type(chosen).model_validate({**chosen.model_dump(), **options})
    return build_network(chosen, ndim, 1, heads or {"image": 1})


def test_edsr_is_no_affine_map_unless_it_was_trained_as_one():
    generator = torch.Generator().manual_seed(0)
    one, two = torch.rand((2, 1, 1, 12, 12), generator=generator, dtype=torch.float64)

    def residual(net):
        for values in net.parameters():
            values.data = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            f = {name: net.double()(x)["image"] for name, x in (("a", one), ("b", two), ("ab", one + two), ("0", one * 0))}
        return float((f["ab"] + f["0"] - f["a"] - f["b"]).abs().max() / f["ab"].abs().max())

    assert residual(small("edsr")) > 1e-3
    assert residual(small("edsr", as_trained=True)) < 1e-10


def test_dfcan_looks_at_the_whole_spectrum_in_3d():
    """Swapping two axes of the image and of all kernels swaps those of the result; it does not where an axis is left out."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 1, 6, 6, 6), generator=generator, dtype=torch.float64)

    def swapped_alike(net):
        net.double()
        for name, values in net.named_parameters():
            if "squeeze" in name or "excite" in name:
                values.data = values.data.abs() / 100  # attention neither dead nor saturated
        with torch.no_grad():
            before = net(x)["image"].transpose(2, 4)
            for values in net.parameters():
                if values.ndim == 5:
                    values.data = values.data.transpose(2, 4).contiguous()
            return torch.allclose(net(x.transpose(2, 4))["image"], before, rtol=0, atol=1e-9)

    assert swapped_alike(small("dfcan", 3))
    assert not swapped_alike(small("dfcan", 3, as_trained=True))


def test_unetr_from_scratch_knows_where_things_are():
    """Exchanging two boxes of the image exchanges the tokens' results exactly only for a network without positions."""
    net = small("unetr", features=4).eval()
    x = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    tokens = net.encoder.begin(x)[0]
    assert not torch.allclose(tokens - net.encoder.embed(x).flatten(2).transpose(1, 2), torch.zeros(()))
    assert len({tuple(row) for row in sincos_positions((3, 4, 5), 24).tolist()}) == 60


@pytest.mark.parametrize(("ndim", "token", "shape"), [(2, (4, 8), (9, 17)), (3, (1, 4, 4), (3, 9, 9)), (3, (2, 8, 4), (5, 9, 9))])
@pytest.mark.parametrize("kind", ["unetr", "mae"])
def test_tokens_need_not_be_cubes(kind, ndim, token, shape):
    net = small(kind, ndim, token=token, layers=6)
    assert net.multiple == token
    assert net(torch.rand(1, 1, *shape))["image"].shape == (1, 1, *shape)


def test_boxes_and_images_are_inverse():
    image = torch.rand((2, 3, 4, 6, 10), generator=torch.Generator().manual_seed(0))
    boxes = image_to_boxes(image, (2, 3, 5))
    assert boxes.shape == (2, 2 * 2 * 2, 2 * 3 * 5 * 3)
    assert torch.equal(boxes_to_image(boxes, (2, 2, 2), (2, 3, 5)), image)
    assert torch.equal(boxes[0, 1].reshape(2, 3, 5, 3).movedim(-1, 0), image[0, :, :2, :3, 5:])


def test_encoder_ignores_hidden_boxes():
    net = small("mae").eval()
    x = torch.rand((1, 1, 8, 16), generator=torch.Generator().manual_seed(0))
    hidden = torch.tensor([[[True, False, True, False], [False, True, False, True]]])
    where = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    with torch.no_grad():
        plain = net(x, hidden=hidden)["image"]
        assert torch.equal(net(torch.where(where, torch.full_like(x, 9.0), x), hidden=hidden)["image"], plain)
        assert not torch.equal(net(torch.where(where, x, x + 1), hidden=hidden)["image"], plain)


def test_invalid_masks():
    net = small("mae")
    with raises("network.mask_shape", key="hidden"):
        net(torch.zeros(1, 1, 8, 8), hidden=torch.zeros(1, 3, 2))
    with raises("network.mask_shape", key="hidden"):
        net(torch.zeros(1, 1, 9, 8), hidden=torch.zeros(1, 2, 2))
    with raises("network.visible_tokens", value=(1, 4)):
        net(torch.zeros(2, 1, 8, 8), hidden=torch.tensor([[[1, 1], [1, 0]], [[0, 0], [0, 0]]]))


def test_stored_positions_are_interpolated_to_other_sizes():
    ramp = torch.arange(4.0).reshape(1, 4, 1)
    assert torch.equal(resize_positions(ramp, (2, 2), (2, 2)), ramp)
    assert resize_positions(ramp, (2, 2), (4, 2)).reshape(4, 2)[:, 0].tolist() == [0.0, 0.5, 1.5, 2.0]
    net = small("mae", position="stored", grid=(2, 2))
    assert net(torch.rand(1, 1, 12, 20))["image"].shape == (1, 1, 12, 20)


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("unetr", {"every": 4}, "network.layers"),
        ("unetr", {"layers": 2, "token": 16}, "network.layers"),
        ("unetr", {"token": 6}, "network.token"),
        ("mae", {"decoder_heads": 3}, "network.attention_heads"),
        ("mae", {"position": "stored"}, "network.position_grid"),
        ("multiresunet", {"features": (2, 4)}, "network.features"),
        ("residual_encoder_unet", {"blocks": (1, 2)}, "network.entries"),
        ("unext_v1", {"kernels": 4}, "network.even_kernel"),
        ("resunetpp", {"pools": (2, 2, 2)}, "network.entries"),
    ],
)
def test_invalid_options(kind, options, code):
    with pytest.raises(ValidationError) as caught:
        small(kind, **options)
    assert option_codes(caught.value) == [code]


def test_edsr_as_trained_is_2d_only():
    with raises("network.as_trained", key="as_trained"):
        small("edsr", 3, as_trained=True)


def farthest(net, axis):
    """Farthest output voxel along the axis that one changed input voxel changes."""
    halo, multiple = net.receptive_halo[axis], net.multiple[axis]
    shape = list(net.multiple)
    shape[axis] = -(-(2 * halo + 2 * multiple + 1) // multiple) * multiple
    middle, most = shape[axis] // 2, 0
    with torch.no_grad():
        plain = net(torch.zeros(1, 1, *shape, dtype=torch.float64))["image"]
        for position in range(middle, middle + multiple):
            x = torch.zeros(1, 1, *shape, dtype=torch.float64)
            x.select(2 + axis, position)[...] = 1.0
            changed = (net(x)["image"] != plain).movedim(2 + axis, 0).flatten(1).any(1).nonzero().flatten()
            most = max(most, int((changed - position).abs().max()))
    return most


@pytest.mark.parametrize("kind", ["classic_unet", "attention_unet", "preactivation_unet", "multiresunet", "residual_encoder_unet", "hrnet"])
def test_nothing_beyond_the_halo_matters(kind):
    net = small(kind, norm="none", **({} if kind == "hrnet" else {"kernels": 3})).double().eval()
    assert not net.norm_over_space
    for values in net.parameters():
        values.data = values.data.abs() + 0.01
    assert farthest(net, 1) <= net.receptive_halo[1]


@pytest.mark.parametrize("kind", ["edsr", "wdsr"])
def test_the_halo_of_a_chain_of_convolutions_is_exact(kind):
    net = small(kind).double().eval()
    for values in net.parameters():
        values.data = values.data.abs() + 0.1
    assert farthest(net, 1) == net.receptive_halo[1]


@pytest.mark.parametrize("kind", ["seunet", "resunet_se", "resunetpp", "unext_v2", "unetr", "mae", "rcan", "dfcan"])
def test_networks_that_look_at_all_of_the_tile_say_so(kind):
    assert small(kind).norm_over_space
