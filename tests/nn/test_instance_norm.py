import pytest
import torch
from torch import nn

from morula.nn.instance_norm import InstanceNorm2d, InstanceNorm3d


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("own", "theirs", "shape"), [(InstanceNorm2d, nn.InstanceNorm2d, (2, 3, 7, 5)), (InstanceNorm3d, nn.InstanceNorm3d, (2, 3, 2, 7, 5))]
)
def test_instance_norm_is_that_of_torch(own, theirs, shape, last):
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}[len(shape)] if last else torch.contiguous_format
    x = (3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(memory_format=layout)
    found = []
    for kind in (own, theirs):
        norm = kind(3, affine=True)
        norm.weight.data, norm.bias.data = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.1, 0.0, -1.0])
        image = x.clone().requires_grad_()
        y = norm(image)
        y.sin().sum().backward()
        found.append((y.detach(), image.grad, norm.weight.grad, norm.bias.grad))
        with torch.no_grad():
            torch.testing.assert_close(norm(image), y)
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_channels_last_images_stay_so():
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    y = InstanceNorm2d(3, affine=True)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
