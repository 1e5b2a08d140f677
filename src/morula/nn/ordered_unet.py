"""U-Net with layers in any order, in 2D and 3D: the networks of pytorch-3dunet (Wolny et al. 2020, https://doi.org/10.7554/eLife.57613).

Channels, order of layers, resizing, joining and initial weights are those of pytorch-3dunet, so that its checkpoints fit. Differences:
2D and 3D in one class, per-level kernels and poolings, and input of any size (padded internally)::

    order "gcr":   group norm -> convolution -> ReLU
    level n:       encoder -----------------------> join -> block
                      |                               ^
                   pooling                         resize
                      v                               |
    level n + 1:   encoder ------------ ... ------> block
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from morula.nn.layers import TRANSPOSED, convolution, enlarge_nearest, one_voxel, pad_to, pool
from morula.nn.network import Network
from morula.nn.options import OrderedUNetOptions
from morula.nn.receptive_field import unet_halo

_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_ACTIVATIONS = {"r": "relu", "l": "leaky_relu", "e": "elu"}
_LINEAR = {2: "bilinear", 3: "trilinear"}


class OrderedConvolution(nn.Sequential):
    """A convolution with the layers before and after it, in the order of the letters."""

    def __init__(
        self,
        options: OrderedUNetOptions,
        ndim: int,
        n_in: int,
        n_out: int,
        kernel: Sequence[int],
        *,
        letters: Sequence[str],
        dropout: float,
    ) -> None:
        super().__init__()
        bias = not {"g", "b"} & set(letters)
        width = n_in
        for before, letter in zip((None, *letters), letters):
            match letter:
                case "c":
                    self.add_module("convolution", convolution(ndim, n_in, n_out, kernel, bias=bias))
                    width = n_out
                case "g":
                    self.add_module("group_norm", nn.GroupNorm(_groups(options.groups, width), width))
                case "b":
                    self.add_module("batch_norm", _BATCH[ndim](width))
                case "d":
                    self.add_module("dropout", nn.Dropout(dropout))
                case "D":
                    self.add_module("channel_dropout", _DROPOUT[ndim](dropout))
                case _:  # in place, unless the input is the output of another non-linearity, which that one needs for its gradient
                    self.add_module(_ACTIVATIONS[letter], _activation(letter, 0.01, inplace=before not in _ACTIVATIONS))


class DoubleBlock(nn.Module):
    """Two convolutions."""

    def __init__(self, options: OrderedUNetOptions, ndim: int, widths: tuple[int, int, int], kernel: Sequence[int]) -> None:
        super().__init__()
        shares = _shares(options)
        n_in, between, n_out = widths
        letters = options.layers()
        self.first = OrderedConvolution(options, ndim, n_in, between, kernel, letters=letters, dropout=shares[0])
        self.second = OrderedConvolution(options, ndim, between, n_out, kernel, letters=letters, dropout=shares[1])

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.second(self.first(x))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions, added to the input, which is first brought to the number of channels by a 1-voxel convolution (https://arxiv.org/abs/1706.00120)."""

    def __init__(self, options: OrderedUNetOptions, ndim: int, widths: tuple[int, int, int], kernel: Sequence[int]) -> None:
        super().__init__()
        n_in, _, width = widths
        shares = _shares(options)
        letters = options.layers()
        linear = [letter for letter in letters if letter not in "rle"]
        self.shortcut = nn.Identity() if n_in == width else convolution(ndim, n_in, width, 1)
        self.first = OrderedConvolution(options, ndim, width, width, kernel, letters=letters, dropout=shares[0])
        self.second = OrderedConvolution(options, ndim, width, width, kernel, letters=linear, dropout=shares[1])
        self.activation = _activation(next((letter for letter in "le" if letter in letters), "r"), 0.1)
        self.attention = Attention(ndim, width) if options.block == "residual_se" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        x = self.shortcut(x) if isinstance(self.shortcut, nn.Identity) else one_voxel(self.shortcut, x)
        out: Tensor = self.attention(self.activation(self.second(self.first(x)) + x))
        return out


class Attention(nn.Module):
    """The maximum of squeeze and excitation of channels and of voxels (Roy et al. 2018, https://arxiv.org/abs/1803.02579)."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels)
        self.excite = nn.Linear(channels, channels)
        self.spatial = convolution(ndim, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        means = x.flatten(2).mean(dim=2)
        shares = self.excite(self.squeeze(means).relu()).sigmoid()
        by_channel = x * shares.reshape(*shares.shape, *[1] * (x.ndim - 2))
        return torch.maximum(by_channel, x * self.spatial(x).sigmoid())


class Resize(nn.Module):
    """Resizes a level to the next finer one."""

    def __init__(self, options: OrderedUNetOptions, ndim: int, n_in: int, n_out: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.how = options.upsample
        self.factor = factor
        self.mode = _LINEAR[ndim] if self.how == "linear" else self.how
        if self.how in ("transpose", "stretch"):
            edges = tuple(3 if times == 2 else 1 for times in factor)
            margin = tuple(edge // 2 for edge in edges)
            self.convolution = TRANSPOSED[ndim](n_in, n_out, edges, stride=factor, padding=margin, bias=self.how == "transpose")  # type: ignore[arg-type]

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """NC(Z)YX to an image of this (Z)YX size."""
        if self.how == "transpose":
            doubled = [n * times for n, times in zip(x.shape[2:], self.factor, strict=True)]  # one voxel short of an odd size
            return pad_to(self.convolution(x, output_size=doubled), size)
        if self.how == "stretch":
            return functional.interpolate(self.convolution(x), size=size)
        if self.how == "nearest":
            return enlarge_nearest(x, size)
        return functional.interpolate(x, size=size, mode=self.mode, align_corners=False if self.how == "linear" else None)


class Joint(nn.Module):
    """One level of the decoder: resize the coarser level, join it with the encoder level, and apply the block."""

    def __init__(self, resize: Resize, block: nn.Module, *, add: bool) -> None:
        super().__init__()
        self.resize = resize
        self.block = block
        self.add = add

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        """NC(Z)YX of the level and of the next coarser one to NC(Z)YX."""
        below = self.resize(below, level.shape[2:])
        out: Tensor = self.block(level + below if self.add else torch.cat([level, below], dim=1))
        return out


class OrderedUNet(Network):
    """U-Net of blocks with layers in any order (Wolny et al. 2020, https://doi.org/10.7554/eLife.57613).

    Initial weights are those of torch, as in pytorch-3dunet.

    Examples:
        >>> network = OrderedUNet(OrderedUNetOptions(features=(8, 16), order="cbl"), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.norm_over_space
        ((1, 1, 33, 50), False)
    """

    kind: ClassVar[str] = "ordered_unet"
    options: OrderedUNetOptions

    def __init__(self, options: OrderedUNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._kernels, self._pools = options.kernel_sizes(ndim), options.pool_sizes(ndim)
        features = options.features
        self.encoder = nn.ModuleList(self._encoder_block(level, n) for level, n in enumerate((in_channels, *features[:-1])))
        self.pools = nn.ModuleList(pool(ndim, factor) for factor in self._pools)
        self.decoder = nn.ModuleList(self._joint(level) for level in range(options.levels - 2, -1, -1))
        self.outputs = nn.ModuleDict({name: convolution(ndim, features[0], width, 1) for name, width in self.heads.items()})

        self.norm_over_space = "g" in options.order or options.block == "residual_se"
        self.multiple = tuple(prod(factors) for factors in zip(*self._pools, strict=True)) or (1,) * ndim
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    def _block(self, level: int, widths: tuple[int, int, int]) -> nn.Module:
        block = DoubleBlock if self.options.block == "double" else ResidualBlock
        return block(self.options, self.ndim, widths, self._kernels[level])

    def _encoder_block(self, level: int, n_in: int) -> nn.Module:
        width = self.options.features[level]
        between = width if self.options.widen == "first" else max(width // 2, n_in)
        return self._block(level, (n_in, between, width))

    def _joint(self, level: int) -> Joint:
        width, below = self.options.features[level], self.options.features[level + 1]
        add = self.options.join == "add"
        resized = width if self.options.upsample in ("transpose", "stretch") else below
        block = self._block(level, (width if add else width + resized, width, width))
        return Joint(Resize(self.options, self.ndim, below, width, self._pools[level]), block, add=add)

    def _halo(self, axis: int) -> int:
        radii = [2 * (kernel[axis] // 2) for kernel in self._kernels]
        # a transposed convolution sees no further than linear interpolation does
        linear = self.options.upsample not in ("nearest", "area")
        return unet_halo(radii, [factor[axis] for factor in self._pools], radii[:-1], linear=linear)

    def padded_shape(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
        """See `Network.padded_shape`. Edges of patches stay as they are where the coarsest level has two voxels, as in the original.

        Levels of odd edges are then resized by factors other than 2, which depend on the edges. Tiles of an image would not fit each other.
        """
        coarsest = [n // m for n, m in zip(shape, self.multiple, strict=True)]
        if (self.training or self.of_patches) and min(coarsest) > 0 and max(coarsest) > 1:
            return tuple(shape)
        return super().padded_shape(shape)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head, for images of any size that leaves a voxel at the coarsest level."""
        if torch.is_grad_enabled() and not x.requires_grad and x.device.type == "cpu":
            # torch 2.13 crashes in the backward pass of a group norm that is not asked for a gradient of its channels-last input
            x = x.clone(memory_format=torch.contiguous_format)
        encoded = []
        for level, block in enumerate(self.encoder):
            x = block(self.pools[level - 1](x) if level else x)
            encoded.append(x)
        for skip, joint in zip(reversed(encoded[:-1]), self.decoder, strict=True):
            x = joint(skip, x)
        return {name: one_voxel(output, x) for name, output in self.outputs.items()}


def _groups(wanted: int, channels: int) -> int:
    if channels < wanted:
        return 1
    return max(groups for groups in range(1, wanted + 1) if channels % groups == 0)


def _activation(letter: str, slope: float, *, inplace: bool = True) -> nn.Module:
    match letter:
        case "l":
            return nn.LeakyReLU(slope, inplace=inplace)
        case "e":
            return nn.ELU(inplace=inplace)
        case _:
            return nn.ReLU(inplace=inplace)


def _shares(options: OrderedUNetOptions) -> tuple[float, float]:
    return options.dropout if isinstance(options.dropout, tuple) else (options.dropout, options.dropout)
