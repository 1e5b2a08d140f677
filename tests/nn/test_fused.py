"""The network that predicts fast equals the one that was trained; in float64, so that only a wrong formula can differ."""

import pytest
import torch
from torch import nn

from morula.nn.build import build_network, to_channels_last
from morula.nn.fuse import fuse_for_inference
from morula.nn.fused_upsampling import FusedJoint, normalised


def network(ndim, **options):
    torch.manual_seed(0)
    net = build_network({"kind": "ordered_unet", "features": (4, 6, 8), **options}, ndim, 2, {"F": 1, "rays": 5}).double().eval()
    for part in net.modules():
        if isinstance(part, nn.GroupNorm | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias, 0, 0.3)
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return net


@pytest.mark.parametrize("order", ["gcr", "cr", "crg", "cgl", "cbr", "crb", "bcr", "gcrd", "crcg"])
@pytest.mark.parametrize(
    ("ndim", "shape", "options"),
    [
        (2, (32, 24), {}),
        (2, (33, 21), {}),
        (3, (8, 12, 16), {"pools": ((1, 2, 2), (2, 4, 2)), "kernels": ((1, 3, 3), 3, (3, 5, 3))}),
        (3, (9, 8, 8), {"upsample": "linear"}),
    ],
)
def test_fused_equals_plain(order, ndim, shape, options):
    net = network(ndim, order=order, groups=2, **options)
    fused = to_channels_last(fuse_for_inference(net))
    image = torch.randn(2, 2, *shape, dtype=torch.float64)
    with torch.inference_mode():
        plain, fast = net(image), fused(image)
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=0, atol=1e-10)
    uses = sum(isinstance(part, FusedJoint) for part in fused.modules())
    assert uses == (0 if order == "bcr" or "upsample" in options else 2)


@pytest.mark.parametrize(("block", "upsample", "join"), [("residual_se", "stretch", "add"), ("residual", "nearest", "concatenate")])
def test_residual_networks_stay(block, upsample, join):
    net = network(3, block=block, upsample=upsample, join=join)
    image = torch.randn(1, 2, 7, 8, 9, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(fuse_for_inference(net)(image), net(image), rtol=0, atol=1e-10)


def test_single_precision_is_as_exact_as_torch():
    torch.manual_seed(1)
    norm = nn.GroupNorm(2, 6)
    parts = torch.rand(2, 2, 32, 32, 32) + 3, torch.rand(2, 4, 16, 16, 16) + 3  # the mean is ten times the deviation
    enlarged = torch.cat([parts[0], nn.functional.interpolate(parts[1], scale_factor=2)], dim=1)
    last = [part.contiguous(memory_format=torch.channels_last_3d) for part in parts]
    with torch.inference_mode():
        level, below = normalised(norm, *last)
        own = norm(enlarged.contiguous(memory_format=torch.channels_last_3d))
        expected = norm.double()(enlarged.double())
    tolerance = max(2e-5, float((own - expected).abs().max()))  # how exact matrix products are depends on the processor
    assert (level - expected[:, :2]).abs().max() < tolerance
    assert (below - expected[:, 2:, ::2, ::2, ::2]).abs().max() < tolerance


def test_statistics_of_large_images_hold_in_half_precision():
    torch.manual_seed(0)
    net = build_network({"kind": "ordered_unet", "features": (4, 8), "order": "gcr", "groups": 2}, 2, 1, {"F": 1}).eval()
    image = 3 * torch.randn(1, 1, 320, 320)  # its squares add up to more than float16 holds
    fused = fuse_for_inference(net)
    with torch.inference_mode():
        expected = net(image)["F"]
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                assert (fused(image)["F"] - expected).abs().max() < 0.05
