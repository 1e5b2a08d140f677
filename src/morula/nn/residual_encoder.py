"""Residual-encoder U-Net, in 2D and 3D (Isensee et al. 2024, https://arxiv.org/abs/2404.09556).

A deep residual encoder with strided convolutions and a decoder with one convolution per level, as the "ResEnc" presets of nnU-Net.
Differences: no deep supervision, several heads, and stochastic depth (`drop_blocks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import (
    BiasedBlock,
    ConvolutionBlock,
    DropBlock,
    Style,
    activation,
    average,
    convolution,
    initialise,
    strided,
    transposed,
)
from morula.nn.network import Network
from morula.nn.receptive_field import unet_halo
from morula.nn.unet_options import ResidualEncoderUNetOptions


class ReducingBlock(nn.Module):
    """A residual block whose first convolution may be strided; its shortcut then averages over the stride."""

    def __init__(self, style: Style, widths: tuple[int, int], kernel: tuple[int, ...], factor: tuple[int, ...], *, drop: float) -> None:
        super().__init__()
        n_in, n_out = widths
        ndim = style.ndim
        self.first = ConvolutionBlock(style, n_in, n_out, kernel, bias=True)
        self.first.convolution = strided(ndim, n_in, n_out, factor, kernel=kernel)
        self.second = ConvolutionBlock(style, n_out, n_out, kernel, activated=False, bias=True)
        shrink = average(ndim, factor) if max(factor) > 1 else nn.Identity()
        match = nn.Identity() if n_in == n_out else ConvolutionBlock(style, n_in, n_out, 1, activated=False)
        self.shortcut = nn.Sequential(shrink, match)
        self.drop = DropBlock(drop)
        self.activation = activation(style.activation)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX, each axis shorter by its factor."""
        out: Tensor = self.activation(self.drop(self.second(self.first(x))) + self.shortcut(x))
        return out


class ResidualEncoderUNet(Network):
    """Residual encoder and light decoder (Isensee et al. 2024, https://arxiv.org/abs/2404.09556).

    Examples:
        >>> network = ResidualEncoderUNet(ResidualEncoderUNetOptions(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.multiple
        ((1, 1, 33, 50), (2, 2))
    """

    kind: ClassVar[str] = "residual_encoder_unet"
    options: ResidualEncoderUNetOptions

    def __init__(self, options: ResidualEncoderUNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._kernels, self._pools = options.kernel_sizes(ndim), options.pool_sizes(ndim)
        self._style = style = Style(ndim, options.norm, options.activation, options.groups)
        widths, steps = options.features, range(options.levels - 1)
        self.stem = BiasedBlock(style, in_channels, widths[0], self._kernels[0])
        self.encoder = nn.ModuleList(self._stage(i, blocks) for i, blocks in enumerate(options.block_counts()))
        self.enlarge = nn.ModuleList(transposed(ndim, widths[i + 1], widths[i], self._pools[i]) for i in steps)
        self.decoder = nn.ModuleList(self._decoder_level(i) for i in steps)
        self.outputs = nn.ModuleDict({name: convolution(ndim, widths[0], width, 1) for name, width in self.heads.items()})
        initialise(self)

        self.norm_over_space = options.norm in ("group", "instance")
        self.multiple = tuple(prod(factors) for factors in zip(*self._pools, strict=True)) or (1,) * ndim
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    def _stage(self, level: int, blocks: int) -> nn.Sequential:
        widths = self.options.features
        # only the first block of a level is strided
        same = (1,) * self.ndim
        starts = [(widths[max(level - 1, 0)], self._pools[level - 1] if level else same), *[(widths[level], same)] * (blocks - 1)]
        kernel, drop = self._kernels[level], self.options.drop_blocks
        return nn.Sequential(*(ReducingBlock(self._style, (n, widths[level]), kernel, factor, drop=drop) for n, factor in starts))

    def _decoder_level(self, level: int) -> nn.Sequential:
        width, kernel = self.options.features[level], self._kernels[level]
        starts = [2 * width, *[width] * (self.options.decoder_convolutions - 1)]
        return nn.Sequential(*(BiasedBlock(self._style, n, width, kernel) for n in starts))

    def _halo(self, axis: int) -> int:
        """Halo along an axis; a strided convolution is counted as pooling after a convolution with its kernel on the finer grid."""
        radii = [kernel[axis] // 2 for kernel in self._kernels]
        counts = self.options.block_counts()
        down = [(2 * count - (level > 0)) * radii[level] for level, count in enumerate(counts)]
        down = [radius + (radii[level + 1] if level + 1 < len(radii) else 0) for level, radius in enumerate(down)]
        down[0] += radii[0]  # the stem
        up = [self.options.decoder_convolutions * radius for radius in radii[:-1]]
        return unet_halo(down, [factor[axis] for factor in self._pools], up, linear=False)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        x = self.stem(x)
        encoded = []
        for stage in self.encoder:
            x = stage(x)
            encoded.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([encoded[level], self.enlarge[level](x)], dim=1))
        return {name: output(x) for name, output in self.outputs.items()}
