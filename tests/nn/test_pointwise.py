"""A convolution of single voxels is torch's own, however it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from morula.nn.pointwise import PointwiseConv3d


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_in", [1, 5])
def test_it_is_the_convolution(layout: torch.memory_format, bias: bool, n_in: int) -> None:
    torch.manual_seed(0)
    ours, theirs = PointwiseConv3d(n_in, 3, 1, bias=bias), nn.Conv3d(n_in, 3, 1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, n_in, 4, 5, 6).to(memory_format=layout)
    gradients = []
    outputs = []
    for layer in (ours, theirs):
        given = image.clone(memory_format=torch.preserve_format).requires_grad_()
        outputs.append(layer(given))
        (outputs[-1] * torch.arange(6)).sum().backward()
        gradients.append([given.grad, *(weight.grad for weight in layer.parameters())])
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    if layout is torch.channels_last_3d:
        assert outputs[0].is_contiguous(memory_format=layout)
