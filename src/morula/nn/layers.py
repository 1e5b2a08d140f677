"""Modules of which networks are built, in 2D or 3D. Images are NC(Z)YX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from morula.nn.instance_norm import InstanceNorm2d, InstanceNorm3d
from morula.nn.options import Activation, Norm, Upsampling
from morula.nn.pointwise import PointwiseConv3d

_CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: InstanceNorm2d, 3: InstanceNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Style:
    """Settings of all convolutions of a network: number of axes, normalisation and activation."""

    ndim: int
    norm: Norm
    activation: Activation
    groups: int = 8


def convolution(ndim: int, n_in: int, n_out: int, kernel: int | Sequence[int], *, bias: bool = True, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size of the image (zero padding); kernel edges are odd."""
    edges = (kernel,) * ndim if isinstance(kernel, int) else tuple(kernel)
    padding = tuple(edge // 2 for edge in edges)
    # torch copies channels-last volumes in 1-voxel convolutions on CPUs
    if edges == (1, 1, 1) and groups == 1:
        return PointwiseConv3d(n_in, n_out, 1, bias=bias)
    return _CONVOLUTION[ndim](n_in, n_out, edges, padding=padding, bias=bias, groups=groups)  # type: ignore[arg-type]


def dilated(ndim: int, n_in: int, n_out: int, kernel: int, distance: int) -> nn.Module:
    """A convolution with dilation `distance` that keeps the size of the image."""
    return _CONVOLUTION[ndim](n_in, n_out, kernel, padding=kernel // 2 * distance, dilation=distance)


def depthwise(ndim: int, channels: int, kernel: Sequence[int]) -> nn.Module:
    """A depthwise convolution that keeps the size of the image."""
    edges = tuple(kernel)
    return _CONVOLUTION[ndim](channels, channels, edges, padding=tuple(edge // 2 for edge in edges), groups=channels)  # type: ignore[arg-type]


def strided(
    ndim: int, n_in: int, n_out: int, factor: Sequence[int], *, kernel: Sequence[int] | None = None, bias: bool = True
) -> nn.Module:
    """A convolution with a stride of `factor` per axis; its kernel is `factor` where none is given."""
    edges, step = tuple(kernel or factor), tuple(factor)
    margin = tuple(edge // 2 for edge in edges) if kernel else 0
    return _CONVOLUTION[ndim](n_in, n_out, edges, stride=step, padding=margin, bias=bias)  # type: ignore[arg-type]


def normalisation(style: Style, channels: int) -> nn.Module:
    """The normalisation of a style; group normalisation uses the largest number of groups that divides the channels."""
    match style.norm:
        case "batch":
            return _BATCH[style.ndim](channels)
        case "instance":
            return _INSTANCE[style.ndim](channels, affine=True)
        case "group":
            # GroupNorm needs a divisor of the channels, which the option need not be
            groups = max(g for g in range(1, min(style.groups, channels) + 1) if channels % g == 0)
            return nn.GroupNorm(groups, channels)
        case "none":
            return nn.Identity()


def activation(name: Activation, *, inplace: bool = True) -> nn.Module:
    """The activation of this name; those whose gradient needs only their output work in place, to save memory."""
    match name:
        case "relu":
            return nn.ReLU(inplace=inplace)
        case "leaky_relu":
            return nn.LeakyReLU(0.01, inplace=inplace)
        case "elu":
            return nn.ELU(inplace=inplace)
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU()


class ConvolutionBlock(nn.Module):
    """Convolution, normalisation, activation. The convolution has a bias with `bias`, and where no normalisation would cancel it."""

    def __init__(
        self,
        style: Style,
        n_in: int,
        n_out: int,
        kernel: int | Sequence[int],
        *,
        activated: bool = True,
        bias: bool = False,
        stride: Sequence[int] = (),
    ) -> None:
        super().__init__()
        bias = bias or style.norm == "none"
        if stride:
            edges = (kernel,) * style.ndim if isinstance(kernel, int) else kernel
            self.convolution = strided(style.ndim, n_in, n_out, stride, kernel=edges, bias=bias)
        else:
            self.convolution = convolution(style.ndim, n_in, n_out, kernel, bias=bias)
        self.norm = normalisation(style, n_out)
        self.activation = activation(style.activation) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.activation(self.norm(self.convolution(x)))
        return out


class BiasedBlock(ConvolutionBlock):
    """A convolution block with a bias."""

    def __init__(self, style: Style, n_in: int, n_out: int, kernel: int | Sequence[int]) -> None:
        super().__init__(style, n_in, n_out, kernel, bias=True)


class SqueezeExcite(nn.Module):
    """Squeeze and excitation: weights channels by a small network of their means (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        shares = self.excite(self.squeeze(x.flatten(2).mean(dim=2)).relu()).sigmoid()
        return x * shares.reshape(*shares.shape, *[1] * (x.ndim - 2))


class ResidualBlock(nn.Module):
    """Two convolution blocks, added to the input before the last activation; a 1-voxel convolution adapts the channels of the input."""

    def __init__(self, style: Style, n_in: int, n_out: int, kernel: int | Sequence[int]) -> None:
        super().__init__()
        self.first = ConvolutionBlock(style, n_in, n_out, kernel)
        self.second = ConvolutionBlock(style, n_out, n_out, kernel, activated=False)
        self.shortcut = nn.Identity() if n_in == n_out else ConvolutionBlock(style, n_in, n_out, 1, activated=False)
        self.activation = activation(style.activation)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return out


class Enlarge(nn.Module):
    """Upsampling to the next finer level and its number of channels; without `convolve` by interpolation only."""

    def __init__(self, ndim: int, n_in: int, n_out: int, factor: tuple[int, ...], how: Upsampling, *, convolve: bool = True) -> None:
        super().__init__()
        self.factor = factor
        self.mode = "nearest" if how == "nearest" else _LINEAR[ndim]
        self.interpolates = how != "transpose"
        self.convolution: nn.Module
        if self.interpolates:
            self.convolution = convolution(ndim, n_in, n_out, 1) if convolve else nn.Identity()
        else:
            self.convolution = transposed(ndim, n_in, n_out, factor)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX, each axis longer by its factor."""
        out: Tensor = self.convolution(x)  # before the interpolation, with which a 1-voxel convolution commutes: fewer voxels
        if not self.interpolates:
            return out
        size = [n * f for n, f in zip(out.shape[2:], self.factor, strict=True)]
        return functional.interpolate(out, size=size, mode=self.mode, align_corners=None if self.mode == "nearest" else False)


def transposed(ndim: int, n_in: int, n_out: int, factor: tuple[int, ...], *, bias: bool = True) -> nn.Module:
    """A transposed convolution whose stride is its kernel, so that outputs do not overlap."""
    return TRANSPOSED[ndim](n_in, n_out, factor, stride=factor, bias=bias)  # type: ignore[arg-type]


def resize_linear(x: Tensor, shape: Sequence[int], *, corners: bool = False) -> Tensor:
    """Linear interpolation of NC(Z)YX to a shape (Z)YX; `corners` lays the centres of the first and last voxels on each other."""
    if tuple(x.shape[2:]) == tuple(shape):
        return x
    return functional.interpolate(x, size=list(shape), mode=_LINEAR[x.ndim - 2], align_corners=corners)


class VoxelLinear(nn.Module):
    """A 1-voxel convolution as a matrix product, which is faster in every memory layout."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, nn.Conv2d | nn.Conv3d)
        self.weight = nn.Parameter(layer.weight.flatten(1), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NK(Z)YX."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined] # other runtimes have fast 1-voxel convolutions
            convolve = functional.conv2d if x.ndim == 4 else functional.conv3d
            return convolve(x, self.weight.reshape(*self.weight.shape, *[1] * (x.ndim - 2)), self.bias)
        out = torch.matmul(self.weight, x.flatten(2)).unflatten(2, x.shape[2:])
        return out if self.bias is None else out + self.bias.reshape(-1, *[1] * (x.ndim - 2))


def pool(ndim: int, factor: tuple[int, ...]) -> nn.Module:
    """Maximum pooling over boxes of `factor` voxels."""
    return _POOL[ndim](factor)


def average(ndim: int, factor: tuple[int, ...]) -> nn.Module:
    """Average pooling over boxes of `factor` voxels."""
    return _AVERAGE[ndim](factor)  # type: ignore[arg-type]


class DropBlock(nn.Module):
    """Stochastic depth: drops the residual branch in training for a share of the samples (Huang et al. 2016, https://arxiv.org/abs/1603.09382)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX; kept branches are scaled so that the expected value stays."""
        if not (self.training and self.share):
            return x
        kept = torch.rand((x.shape[0], *[1] * (x.ndim - 1)), device=x.device) >= self.share
        return x * kept / (1 - self.share)


def dropout(ndim: int, share: float) -> nn.Module:
    """Channel dropout in training (Tompson et al. 2015, https://arxiv.org/abs/1411.4280)."""
    return _DROPOUT[ndim](share) if share else nn.Identity()


def initialise(module: nn.Module) -> None:
    """Kaiming normal initialisation (https://arxiv.org/abs/1502.01852) of convolutions, zero biases, with the global generator of torch.

    Without normalisation the last convolution of a residual block starts at zero, so that the signal does not grow with the depth.
    """
    if any(weights.is_meta for weights in module.parameters()):  # only names and shapes: torch would import its compiler to draw nothing
        return
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.ConvTranspose2d | nn.ConvTranspose3d):
            # kernel = stride: each output voxel depends on one input voxel and all its channels
            nn.init.normal_(part.weight, std=part.in_channels**-0.5)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, ResidualBlock) and isinstance(part.second.norm, nn.Identity):
            nn.init.zeros_(part.second.convolution.weight)  # type: ignore[arg-type]


def enlarge_nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest-neighbour upsampling of NC(Z)YX to a size (Z)YX, with gradients in the layout of the image.

    Torch computes the gradients of channels-last images in another layout, with two copies and in ten times the time.
    """
    doubled = all(n in (length, 2 * length) for n, length in zip(size, x.shape[2:], strict=True))
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    if doubled and last and torch.is_grad_enabled() and x.requires_grad:
        return _Doubled.apply(x, tuple(size))
    return functional.interpolate(x, size=list(size), mode="nearest")


def one_voxel(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1-voxel convolution of NC(Z)YX; in training with channels-last images a matrix product.

    With one thread torch uses a slow convolution, which copies the image to another layout and back.
    """
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    if not (last and torch.is_grad_enabled() and isinstance(layer, nn.Conv2d | nn.Conv3d)):
        return layer(x)
    return functional.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)


class _Context(Protocol):
    """Context of the two passes of `_Doubled`."""

    axes: list[int]


class _Doubled(torch.autograd.Function):
    """Nearest-neighbour upsampling by 1 or 2 along each axis."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, size: tuple[int, ...]) -> Tensor:
        ctx.axes = [axis for axis, (n, length) in enumerate(zip(size, x.shape[2:], strict=True), start=2) if n != length]
        return functional.interpolate(x, size=size, mode="nearest")

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        for axis in reversed(ctx.axes):
            halves = gradient.unflatten(axis, (-1, 2))
            gradient = halves.select(axis + 1, 0) + halves.select(axis + 1, 1)
        return gradient, None


def pad_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Pad NC(Z)YX at the end of each axis by repeating the border voxels.

    Examples:
        >>> import torch
        >>> pad_to(torch.tensor([[[[1.0, 2.0]]]]), (1, 4)).tolist()
        [[[[1.0, 2.0, 2.0, 2.0]]]]
    """
    missing = [n - have for n, have in zip(shape, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return functional.pad(x, [side for n in reversed(missing) for side in (0, n)], mode="replicate")


def crop_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop NC(Z)YX at the end of each axis, the inverse of `pad_to`."""
    for axis, n in enumerate(shape, start=2):
        x = x.narrow(axis, 0, n)
    return x
