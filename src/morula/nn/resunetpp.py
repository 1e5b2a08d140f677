"""ResUNet++, in 2D and 3D (Jha et al. 2019, https://arxiv.org/abs/1911.07067).

Pre-activation residual blocks, squeeze and excitation, attention gates in the decoder, and pyramids of dilated convolutions (ASPP) as
bridge and output. Differences from the paper, as in BiaPy: maximum pooling instead of strides, and no pooling before the bridge.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import SqueezeExcite, Style, convolution, dilated, dropout, initialise, normalisation, pool, transposed
from morula.nn.network import Network
from morula.nn.preactivation_unet import PreactivationBlock
from morula.nn.receptive_field import unet_halo
from morula.nn.unet_options import ResUNetPlusOptions


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: convolutions with several dilations (Chen et al. 2017, https://arxiv.org/abs/1706.05587)."""

    def __init__(self, style: Style, n_in: int, n_out: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(dilated(style.ndim, n_in, n_out, 3, rate), nn.ReLU(inplace=True), normalisation(style, n_out)) for rate in rates
        )
        self.output = convolution(style.ndim, len(rates) * n_out, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.output(torch.cat([branch(x) for branch in self.branches], dim=1))
        return out


class Gate(nn.Module):
    """Weights the coarser level by a gating signal from the finer encoder level."""

    def __init__(self, style: Style, n_skip: int, n_below: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.skip = nn.Sequential(normalisation(style, n_skip), nn.ReLU(), convolution(style.ndim, n_skip, n_below, 3))
        self.pool = pool(style.ndim, factor)
        self.below = nn.Sequential(normalisation(style, n_below), nn.ReLU(), convolution(style.ndim, n_below, n_below, 3))
        self.weight = nn.Sequential(normalisation(style, n_below), nn.ReLU(), convolution(style.ndim, n_below, 1, 1))

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """NC(Z)YX of the finer and of the coarser level, to the weighted coarser one."""
        weight: Tensor = self.weight(self.pool(self.skip(skip)) + self.below(below))
        return weight * below


class ResUNetPlus(Network):
    """ResUNet++ (Jha et al. 2019, https://arxiv.org/abs/1911.07067): residual blocks, excitation, attention, dilated pyramids.

    Examples:
        >>> network = ResUNetPlus(ResUNetPlusOptions(features=(4, 8, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.multiple
        ((1, 1, 33, 50), (2, 2))
    """

    kind: ClassVar[str] = "resunetpp"
    options: ResUNetPlusOptions

    def __init__(self, options: ResUNetPlusOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._kernels, self._pools = options.kernel_sizes(ndim), options.pool_sizes(ndim)
        self._style = style = Style(ndim, options.norm, options.activation, options.groups)
        *widths, bridge = options.features
        last = len(widths) - 1
        self.encoder = nn.ModuleList(
            self._block(i, n_in, width, first=i == 0) for i, (n_in, width) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        self.excitations = nn.ModuleList(SqueezeExcite(width) for width in widths[:-1])
        self.pools = nn.ModuleList(pool(ndim, factor) for factor in self._pools)
        self.bridge = Pyramid(style, widths[-1], bridge, options.rates)
        below = [*widths[1:-1], widths[-1]]  # output channels of each decoder level, finest first
        given = [*below[1:], bridge]  # input channels of each decoder level from the coarser one
        self.gates = nn.ModuleList(Gate(style, widths[i], given[i], self._pools[i]) for i in range(last))
        self.enlarge = nn.ModuleList(transposed(ndim, given[i], given[i], self._pools[i]) for i in range(last))
        self.decoder = nn.ModuleList(self._block(i, given[i] + widths[i], below[i], first=False) for i in range(last))
        self.pyramid = Pyramid(style, below[0], widths[0], options.rates)
        self.outputs = nn.ModuleDict({name: convolution(ndim, widths[0], width, 1) for name, width in self.heads.items()})
        initialise(self)

        self.norm_over_space = True  # means are over the whole tile
        self.multiple = tuple(prod(factors) for factors in zip(*self._pools, strict=True))
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    def _block(self, level: int, n_in: int, n_out: int, *, first: bool) -> nn.Sequential:
        kernel = self._kernels[level]
        block = PreactivationBlock(self._style, n_in, n_out, kernel, first=first, shortcut_kernel=kernel, shortcut_norm=True)
        return nn.Sequential(block, dropout(self.ndim, self.options.dropout))

    def _halo(self, axis: int) -> int:
        radii = [2 * (kernel[axis] // 2) for kernel in self._kernels[:-1]]
        # the largest dilation is the radius of a pyramid with kernel 3
        around = max(self.options.rates)
        up = [radius + 1 for radius in radii[:-1]]  # the block and the convolution of the gate
        return unet_halo([*radii[:-1], radii[-1] + around], [factor[axis] for factor in self._pools], up, linear=False) + around

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        encoded = []
        for level, block in enumerate(self.encoder):
            x = block(x)
            if level < len(self.excitations):
                x = self.excitations[level](x)
            if level:
                x = self.pools[level - 1](x)
            encoded.append(x)
        x = self.bridge(x)
        for level in reversed(range(len(self.decoder))):
            skip = encoded[level]
            x = self.enlarge[level](self.gates[level](skip, x))
            x = self.decoder[level](torch.cat([x, skip], dim=1))
        x = self.pyramid(x)
        return {name: output(x) for name, output in self.outputs.items()}
