"""The pieces that networks are made of, in 2D or 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from morula.nn.options import Activation, Norm, Upsampling

_CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Style:
    """What all convolutions of a network share: number of axes, normalisation and activation."""

    ndim: int
    norm: Norm
    activation: Activation
    groups: int = 8


def convolution(ndim: int, n_in: int, n_out: int, kernel: int | Sequence[int], *, bias: bool = True, groups: int = 1) -> nn.Module:
    """A convolution that keeps the image's size (zeros beyond the border); kernel edges are odd."""
    edges = (kernel,) * ndim if isinstance(kernel, int) else tuple(kernel)
    padding = tuple(edge // 2 for edge in edges)
    return _CONVOLUTION[ndim](n_in, n_out, edges, padding=padding, bias=bias, groups=groups)  # type: ignore[arg-type]


def normalisation(style: Style, channels: int) -> nn.Module:
    """The normalisation of this style; group normalisation takes the largest number of groups that divides the channels."""
    match style.norm:
        case "batch":
            return _BATCH[style.ndim](channels)
        case "instance":
            return _INSTANCE[style.ndim](channels, affine=True)
        case "group":
            groups = max(g for g in range(1, min(style.groups, channels) + 1) if channels % g == 0)
            return nn.GroupNorm(groups, channels)
        case "none":
            return nn.Identity()


def activation(name: Activation) -> nn.Module:
    """The non-linearity of this name. Those whose gradient follows from their output overwrite their input to save memory."""
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.01, inplace=True)
        case "elu":
            return nn.ELU(inplace=True)
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU()


class ConvolutionBlock(nn.Module):
    """Convolution, normalisation, activation."""

    def __init__(self, style: Style, n_in: int, n_out: int, kernel: int | Sequence[int], *, activated: bool = True) -> None:
        super().__init__()
        self.convolution = convolution(style.ndim, n_in, n_out, kernel, bias=style.norm == "none")
        self.norm = normalisation(style, n_out)
        self.activation = activation(style.activation) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.activation(self.norm(self.convolution(x)))
        return out


class ResidualBlock(nn.Module):
    """Two convolution blocks with the input added before the last activation; a 1-voxel convolution fits the channels."""

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
    """Brings a level to the grid of the next finer one and to its number of channels."""

    def __init__(self, ndim: int, n_in: int, n_out: int, factor: tuple[int, ...], how: Upsampling) -> None:
        super().__init__()
        self.factor = factor
        self.mode = "nearest" if how == "nearest" else _LINEAR[ndim]
        self.interpolates = how != "transpose"
        if self.interpolates:
            self.convolution = convolution(ndim, n_in, n_out, 1)
        else:
            self.convolution = _TRANSPOSED[ndim](n_in, n_out, factor, stride=factor)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX, each axis longer by its factor."""
        out: Tensor = self.convolution(x)  # before the interpolation: the same result for a fraction of the work
        if not self.interpolates:
            return out
        size = [n * f for n, f in zip(out.shape[2:], self.factor, strict=True)]
        return functional.interpolate(out, size=size, mode=self.mode, align_corners=None if self.mode == "nearest" else False)


def pool(ndim: int, factor: tuple[int, ...]) -> nn.Module:
    """Maximum over boxes of `factor` voxels."""
    return _POOL[ndim](factor)


def dropout(ndim: int, share: float) -> nn.Module:
    """Drops whole channels in training (Tompson et al. 2015, https://arxiv.org/abs/1411.4280)."""
    return _DROPOUT[ndim](share) if share else nn.Identity()


def initialise(module: nn.Module) -> None:
    """Kaiming's normal initialisation (https://arxiv.org/abs/1502.01852) for convolutions, zero biases, from torch's global generator.

    Without normalisation the last convolution of a residual block starts at zero, so that depth does not blow up the signal.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.ConvTranspose2d | nn.ConvTranspose3d):
            # kernel = stride: each output voxel sees one input voxel and all its channels
            nn.init.normal_(part.weight, std=part.in_channels**-0.5)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, ResidualBlock) and isinstance(part.second.norm, nn.Identity):
            nn.init.zeros_(part.second.convolution.weight)  # type: ignore[arg-type]


def pad_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """NC(Z)YX made larger at the end of each axis by repeating the border voxels.

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
    """NC(Z)YX cut at the end of each axis, undoing `pad_to`."""
    for axis, n in enumerate(shape, start=2):
        x = x.narrow(axis, 0, n)
    return x
