"""Instance normalisation that keeps the channels-last layout of images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Context(Protocol):
    """Context of the two passes of `_Normalise`."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Normalise(torch.autograd.Function):
    """Group normalisation of torch with one group per channel, and a gradient that needs few passes over memory in any layout.

    With g the gradient, x^ the normalised image, w the weight and s = 1 / std, the gradient in x is w s (g - mean(g) - x^ mean(g x^)).
    """

    @staticmethod
    def forward(ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        n, channels = x.shape[:2]
        y, mean, scale = torch.native_group_norm(x, weight, bias, n, channels, x[0, 0].numel(), channels, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        out: Tensor = y
        return out

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator, unused-ignore]
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        size, space = x[0, 0].numel(), tuple(range(2, x.ndim))
        total = gradient.sum(space)
        along = ((gradient * x).sum(space) - mean * total) * scale  # sum of the gradient times the normalised image
        by_gradient = weight * scale
        by_x = -by_gradient * scale * along / size
        # terms that are constant in space are applied in one pass
        constant = -by_x * mean - by_gradient * total / size
        shape = (*x.shape[:2], *[1] * len(space))
        of_x = (gradient * by_gradient.view(shape)).addcmul_(x, by_x.view(shape)).add_(constant.view(shape))
        return of_x, along.sum(0), total.sum(0), None


def _copied(x: Tensor) -> bool:
    """Whether torch would copy channels-last images to another layout and back: in float32 on CPUs."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled()


class InstanceNorm2d(nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` for images NCYX, with a faster computation in training on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """NCYX to NCYX."""
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps) if _copied(x) else super().forward(x)
        return out


class InstanceNorm3d(nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` for volumes NCZYX, with a faster computation in training on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """NCZYX to NCZYX."""
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps) if _copied(x) else super().forward(x)
        return out
