"""1-voxel convolutions that keep the channels-last layout of volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PointwiseConv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with kernel 1. In training on CPUs, where torch would copy a channels-last volume, it is a matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        """NCZYX to NKZYX."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        if plain and x.is_contiguous(memory_format=torch.channels_last_3d):
            return functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        return super().forward(x)
