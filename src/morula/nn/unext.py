"""U-NeXt: U-Nets of ConvNeXt blocks, in 2D and 3D (Liu et al. 2022, https://arxiv.org/abs/2201.03545; V2: Woo et al. 2023,
https://arxiv.org/abs/2301.00808).

The papers describe encoders for classification; the decoder mirrors the encoder, as in BiaPy. Differences: 3D, per-level kernels and
poolings, a stem of factor 2 that is undone at the end, and several heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import DropBlock, Enlarge, convolution, depthwise, initialise, strided, transposed
from morula.nn.network import Network
from morula.nn.options import Upsampling
from morula.nn.receptive_field import unet_halo
from morula.nn.unet_options import UNeXtOptions, UNeXtV1Options, UNeXtV2Options


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each voxel."""

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResponseNorm(nn.Module):
    """Global response normalisation: weights channels by their share of the total response over `spatial_axes` (Woo et al. 2023, https://arxiv.org/abs/2301.00808)."""

    def __init__(self, channels: int, spatial_axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.axes = tuple(range(1, 1 + spatial_axes))

    def forward(self, x: Tensor) -> Tensor:
        """N(Z)YXC to N(Z)YXC."""
        response = x.square().sum(dim=self.axes, keepdim=True).clamp_min(1e-24).sqrt()  # the gradient of a square root is infinite at 0
        share = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation over channels and two linear layers, added to the input.

    `scale` is the initial value of a learned factor of the result (V1); with `response`, responses are normalised over that many axes (V2).
    """

    def __init__(
        self, ndim: int, channels: int, kernel: tuple[int, ...], *, drop: float, scale: float | None = None, response: int | None = None
    ) -> None:
        super().__init__()
        self.convolution = depthwise(ndim, channels, kernel)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, 4 * channels)
        self.response = nn.Identity() if response is None else ResponseNorm(4 * channels, response)
        self.narrow = nn.Linear(4 * channels, channels)
        self.scale = None if scale is None else nn.Parameter(torch.full((channels,), scale))
        self.drop = DropBlock(drop)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out = self.norm(self.convolution(x).movedim(1, -1))
        out = self.narrow(self.response(nn.functional.gelu(self.widen(out))))
        if self.scale is not None:
            out = out * self.scale
        out = self.drop(out.movedim(-1, 1))
        return x + out


class UNeXt(Network):
    """Base of both U-NeXts: a stem, levels of ConvNeXt blocks in encoder and decoder, and an upsampling that undoes the stem."""

    options: UNeXtOptions

    def __init__(self, options: UNeXtOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._kernels, self._pools, stem = options.kernel_sizes(ndim), options.pool_sizes(ndim), options.stem_size(ndim)
        widths, steps, last = options.features, range(options.levels - 1), options.levels * options.blocks - 1
        # stochastic depth rises linearly with the depth, as in the papers
        shares = [options.drop_blocks * i / max(1, last) for i in range(last + 1)]
        drops = [shares[i * options.blocks : (i + 1) * options.blocks] for i in range(options.levels)]
        self.stem = nn.Sequential(strided(ndim, in_channels, widths[0], stem), ChannelNorm(widths[0]))
        self.encoder = nn.ModuleList(self._blocks(i, drops[i]) for i in range(options.levels))
        self.reduce = nn.ModuleList(
            nn.Sequential(ChannelNorm(widths[i]), strided(ndim, widths[i], widths[i + 1], self._pools[i])) for i in steps
        )
        how: Upsampling = "linear" if options.upsample_linear else "transpose"
        self.enlarge = nn.ModuleList(
            nn.Sequential(ChannelNorm(widths[i + 1]), Enlarge(ndim, widths[i + 1], widths[i], self._pools[i], how)) for i in steps
        )
        self.join = nn.ModuleList(convolution(ndim, 2 * widths[i], widths[i], 1) for i in steps)
        self.decoder = nn.ModuleList(self._blocks(i, drops[i][::-1]) for i in steps)
        self.unstem = nn.Sequential(transposed(ndim, widths[0], widths[0], stem), ChannelNorm(widths[0]))
        self.outputs = nn.ModuleDict({name: convolution(ndim, widths[0], width, 1) for name, width in self.heads.items()})
        initialise(self)

        self.norm_over_space = False
        self.multiple = tuple(prod(factors) for factors in zip(stem, *self._pools, strict=True))
        self.receptive_halo = tuple(self._halo(axis, stem) for axis in range(ndim))

    @abstractmethod
    def _block(self, channels: int, kernel: tuple[int, ...], drop: float) -> nn.Module:
        """One block."""

    def _blocks(self, level: int, drops: list[float]) -> nn.Sequential:
        return nn.Sequential(*(self._block(self.options.features[level], self._kernels[level], drop) for drop in drops))

    def _halo(self, axis: int, stem: tuple[int, ...]) -> int:
        radii = [0, *(self.options.blocks * (kernel[axis] // 2) for kernel in self._kernels)]
        factors = [stem[axis], *(factor[axis] for factor in self._pools)]
        return unet_halo(radii, factors, radii[:-1], linear=self.options.upsample_linear)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        x = self.stem(x)
        encoded = []
        for level, blocks in enumerate(self.encoder):
            x = blocks(self.reduce[level - 1](x) if level else x)
            encoded.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](self.join[level](torch.cat([self.enlarge[level](x), encoded[level]], dim=1)))
        x = self.unstem(x)
        return {name: output(x) for name, output in self.outputs.items()}


class UNeXtV1(UNeXt):
    """U-Net of ConvNeXt blocks (Liu et al. 2022, https://arxiv.org/abs/2201.03545).

    Examples:
        >>> network = UNeXtV1(UNeXtV1Options(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.multiple
        ((1, 1, 33, 50), (4, 4))
    """

    kind: ClassVar[str] = "unext_v1"
    options: UNeXtV1Options

    def _block(self, channels: int, kernel: tuple[int, ...], drop: float) -> nn.Module:
        return ConvNeXtBlock(self.ndim, channels, kernel, drop=drop, scale=self.options.layer_scale)


class UNeXtV2(UNeXt):
    """U-Net of ConvNeXt V2 blocks (Woo et al. 2023, https://arxiv.org/abs/2301.00808).

    Examples:
        >>> network = UNeXtV2(UNeXtV2Options(features=(4, 8)), ndim=3, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 5, 9, 8))["F"].shape), network.norm_over_space
        ((1, 1, 5, 9, 8), True)
    """

    kind: ClassVar[str] = "unext_v2"
    options: UNeXtV2Options

    def __init__(self, options: UNeXtV2Options, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self.norm_over_space = True

    def _block(self, channels: int, kernel: tuple[int, ...], drop: float) -> nn.Module:
        return ConvNeXtBlock(self.ndim, channels, kernel, drop=drop, response=2 if self.options.as_trained else self.ndim)
