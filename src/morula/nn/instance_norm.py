"""Instance normalisation that keeps the layout of channels-last images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Normalise(torch.autograd.Function):
    """Torch's group normalisation with a group a channel, and a gradient that costs a few passes in any layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        n, channels = x.shape[:2]
        y, mean, scale = torch.native_group_norm(x, weight, bias, n, channels, x[0, 0].numel(), channels, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        out: Tensor = y
        return out

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        size, space = x[0, 0].numel(), tuple(range(2, x.ndim))
        total = gradient.sum(space)
        along = ((gradient * x).sum(space) - mean * total) * scale  # sum of the gradient times the normalised image
        by_gradient = weight * scale
        by_x = -by_gradient * scale * along / size
        constant = -by_x * mean - by_gradient * total / size
        shape = (*x.shape[:2], *[1] * len(space))
        of_x = (gradient * by_gradient.view(shape)).addcmul_(x, by_x.view(shape)).add_(constant.view(shape))
        return of_x, along.sum(0), total.sum(0), None


def _copied(x: Tensor) -> bool:
    """Whether torch's own would copy channels-last images there and back, slowly: in float32 on CPUs."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled()


class InstanceNorm2d(nn.InstanceNorm2d):
    """The same as torch's, of images NCYX; where that is slow it is computed another way in training."""

    def forward(self, x: Tensor) -> Tensor:
        """NCYX to NCYX."""
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps) if _copied(x) else super().forward(x)
        return out


class InstanceNorm3d(nn.InstanceNorm3d):
    """The same as torch's, of volumes NCZYX; where that is slow it is computed another way in training."""

    def forward(self, x: Tensor) -> Tensor:
        """NCZYX to NCZYX."""
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps) if _copied(x) else super().forward(x)
        return out
