"""MultiResUNet, in 2D and 3D (Ibtehaz and Rahman 2020, https://arxiv.org/abs/1902.04049).

Three convolutions in series have the receptive fields of 3, 5 and 7 voxels; their results are concatenated. The skip connections pass
residual convolutions, more of them at finer levels. Differences from the paper: 3D, per-level kernels and poolings, several heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import ConvolutionBlock, Style, activation, convolution, initialise, normalisation, pool, transposed
from morula.nn.network import Network
from morula.nn.receptive_field import unet_halo
from morula.nn.unet_options import MultiResUNetOptions

_SHARES = (0.167, 0.333, 0.5)  # shares of the channels of a block for its three convolutions


def block_widths(width: int, scale: float) -> tuple[int, ...]:
    """Channels of the three convolutions of a block.

    Examples:
        >>> block_widths(32, 1.67)
        (8, 17, 26)
    """
    return tuple(int(width * scale * share) for share in _SHARES)


class MultiResolutionBlock(nn.Module):
    """Three convolutions in series, whose concatenated results are added to a shortcut."""

    def __init__(self, style: Style, n_in: int, widths: tuple[int, ...], kernel: tuple[int, ...]) -> None:
        super().__init__()
        total = sum(widths)
        self.shortcut = ConvolutionBlock(style, n_in, total, 1, activated=False, bias=True)
        self.convolutions = nn.ModuleList(
            ConvolutionBlock(style, before, width, kernel, bias=True) for before, width in zip((n_in, *widths), widths, strict=False)
        )
        self.norm_joined = normalisation(style, total)
        self.norm_sum = normalisation(style, total)
        self.activation = activation(style.activation)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        parts, part = [], x
        for convolve in self.convolutions:
            part = convolve(part)
            parts.append(part)
        out: Tensor = self.activation(self.norm_sum(self.norm_joined(torch.cat(parts, dim=1)) + self.shortcut(x)))
        return out


class ResidualPath(nn.Module):
    """Residual convolutions of a skip connection. One normalisation per step serves the convolution and the sum."""

    def __init__(self, style: Style, n_in: int, width: int, steps: int, kernel: tuple[int, ...]) -> None:
        super().__init__()
        starts = [n_in, *[width] * (steps - 1)]
        self.shortcuts = nn.ModuleList(ConvolutionBlock(style, n, width, 1, activated=False, bias=True) for n in starts)
        self.convolutions = nn.ModuleList(ConvolutionBlock(style, n, width, kernel, bias=True) for n in starts)
        self.norms = nn.ModuleList(normalisation(style, width) for _ in starts)
        self.activation = activation(style.activation, inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        for shortcut, convolved, norm in zip(self.shortcuts, self.convolutions, self.norms, strict=True):
            x = self.activation(norm(self.activation(norm(convolved(x))) + shortcut(x)))
        return x


class MultiResUNet(Network):
    """MultiResUNet (Ibtehaz and Rahman 2020, https://arxiv.org/abs/1902.04049).

    Examples:
        >>> network = MultiResUNet(MultiResUNetOptions(features=(8, 12)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape)
        (1, 1, 33, 50)
    """

    kind: ClassVar[str] = "multiresunet"
    options: MultiResUNetOptions

    def __init__(self, options: MultiResUNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        style = Style(ndim, options.norm, options.activation, options.groups)
        kernels, pools, features = options.kernel_sizes(ndim), options.pool_sizes(ndim), options.features
        widths = [block_widths(width, options.scale) for width in features]
        # the results of the three convolutions are concatenated
        totals = [sum(shares) for shares in widths]
        steps = range(len(pools))
        self.encoder = nn.ModuleList(
            MultiResolutionBlock(style, n_in, shares, kernel)
            for n_in, shares, kernel in zip((in_channels, *totals), widths, kernels, strict=False)
        )
        self.pools = nn.ModuleList(pool(ndim, factor) for factor in pools)
        self.paths = nn.ModuleList(ResidualPath(style, totals[i], features[i], len(pools) - i, kernels[i]) for i in steps)
        self.enlarge = nn.ModuleList(transposed(ndim, totals[i + 1], features[i], pools[i]) for i in steps)
        self.decoder = nn.ModuleList(MultiResolutionBlock(style, 2 * features[i], widths[i], kernels[i]) for i in steps)
        self.outputs = nn.ModuleDict({name: convolution(ndim, totals[0], width, 1) for name, width in self.heads.items()})
        initialise(self)

        self.norm_over_space = options.norm in ("group", "instance")
        self.multiple = tuple(prod(factors) for factors in zip(*pools, strict=True)) or (1,) * ndim
        self.receptive_halo = tuple(self._halo(axis, kernels, pools) for axis in range(ndim))

    @staticmethod
    def _halo(axis: int, kernels: tuple[tuple[int, ...], ...], pools: tuple[tuple[int, ...], ...]) -> int:
        radii = [kernel[axis] // 2 for kernel in kernels]
        block = [3 * radius for radius in radii]
        # the paths of the skip connections are parallel to the coarser levels; counting them in the decoder covers both
        up = [(3 + len(pools) - i) * radius for i, radius in enumerate(radii[:-1])]
        return unet_halo(block, [factor[axis] for factor in pools], up, linear=False)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        encoded = []
        for level, block in enumerate(self.encoder):
            x = block(self.pools[level - 1](x) if level else x)
            encoded.append(x)
        for level in reversed(range(len(self.decoder))):
            joined = torch.cat([self.enlarge[level](x), self.paths[level](encoded[level])], dim=1)
            x = self.decoder[level](joined)
        return {name: output(x) for name, output in self.outputs.items()}
