"""U-Net and residual U-Net, in 2D and 3D (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597).

Differences from the paper: convolutions keep the size (zero padding) and are normalised, images of any size are padded internally, kernels
and poolings are set per level and axis (for anisotropic voxels), and there are several heads, with one decoder or one each. Shapes, for
features (f0, f1, f2) and poolings by 2::

    N C Y X -> f0 Y X ---------------------------> concat -> f0 Y X -> heads
                 |                                   ^
               pool                               upsample
                 v                                   |
            f1 Y/2 X/2 -----------> concat -> f1 Y/2 X/2
                 |                    ^
               pool                upsample
                 v                    |
            f2 Y/4 X/4 ---------------+
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from morula.nn.layers import ConvolutionBlock, Enlarge, ResidualBlock, Style, convolution, dropout, initialise, pool
from morula.nn.network import Network
from morula.nn.options import ResidualUNetOptions, UNetOptions
from morula.nn.receptive_field import unet_halo


class _Decoder(nn.Module):
    """The decoder: upsample, concatenate with the encoder level (through its gate where there is one), convolve."""

    def __init__(self, enlarge: list[nn.Module], levels: list[nn.Module], gates: list[nn.Module], *, skip_first: bool) -> None:
        super().__init__()
        self.enlarge = nn.ModuleList(enlarge)
        self.levels = nn.ModuleList(levels)
        self.gates = nn.ModuleList(gates)
        self.skip_first = skip_first

    def forward(self, encoded: list[Tensor]) -> Tensor:
        """Features of the finest level from the outputs of all encoder levels, finest first, which are taken from the list.

        No tensor lives longer than it is needed: at the finest level, those that are alive together decide how large a tile can be.
        """
        x = encoded.pop()
        for level in reversed(range(len(self.levels))):
            x = self._joined(level, x, encoded.pop())
            for part in cast("nn.Sequential", self.levels[level]):
                x = part(x)
        return x

    def _joined(self, level: int, coarse: Tensor, skip: Tensor) -> Tensor:
        below = self.enlarge[level](coarse)
        if self.gates:
            skip = self.gates[level](below, skip)
        return torch.cat([skip, below] if self.skip_first else [below, skip], dim=1)


class UNet(Network):
    """U-Net; see the head of this module.

    Examples:
        >>> network = UNet(UNetOptions(features=(8, 16)), ndim=2, in_channels=1, heads={"F": 1, "C": 1})
        >>> {name: tuple(logits.shape) for name, logits in network(torch.zeros(1, 1, 33, 50)).items()}
        {'F': (1, 1, 33, 50), 'C': (1, 1, 33, 50)}
        >>> network.multiple, network.receptive_halo
        ((2, 2), (9, 9))
    """

    kind: ClassVar[str] = "unet"
    block: ClassVar[type[nn.Module]] = ConvolutionBlock
    skip_first: ClassVar[bool] = True
    """Whether the channels of the encoder come first in the concatenation."""
    options: UNetOptions

    def __init__(self, options: UNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._kernels, self._pools = options.kernel_sizes(ndim), options.pool_sizes(ndim)
        self._style = Style(ndim, options.norm, options.activation, options.groups)
        widths = (in_channels, *options.features)
        self.encoder = nn.ModuleList(self._encoder_level(level, widths[level]) for level in range(options.levels))
        self.pools = nn.ModuleList(pool(ndim, factor) for factor in self._pools)
        # heads differ only in their last convolution unless each has its own decoder
        names = list(self.heads) if options.separate_decoders else ["all"]
        self.decoders = nn.ModuleDict({name: self._decoder() for name in names})
        self.outputs = nn.ModuleDict({name: self._output(width) for name, width in self.heads.items()})
        initialise(self)

        self.norm_over_space = options.norm in ("group", "instance")
        self.multiple = tuple(prod(factors) for factors in zip(*self._pools, strict=True)) or (1,) * ndim
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    @property
    def convolutions_per_block(self) -> int:
        """Convolutions in series in one block of a level."""
        return 1

    def _output(self, width: int) -> nn.Module:
        """Maps features of the finest level to the logits of a head."""
        first, hidden = self.options.features[0], self.options.head_features
        if not hidden:
            return convolution(self.ndim, first, width, 1)
        return nn.Sequential(ConvolutionBlock(self._style, first, hidden, self._kernels[0]), convolution(self.ndim, hidden, width, 1))

    def _encoder_level(self, level: int, n_in: int) -> nn.Module:
        return self._level(level, n_in, self.options.convolutions)

    def _level(self, level: int, n_in: int, blocks: int) -> nn.Sequential:
        width, kernel = self.options.features[level], self._kernels[level]
        parts = [self.block(self._style, n_in if i == 0 else width, width, kernel) for i in range(blocks)]
        return nn.Sequential(*parts, dropout(self.ndim, self.options.dropouts()[level]))

    def _decoder(self) -> _Decoder:
        widths = self.options.features
        steps = range(len(self._pools))
        return _Decoder(
            [self._enlarge(i, widths[i + 1]) for i in steps],
            [self._level(i, widths[i] + self._enlarged_width(i), self.options.decoder_convolutions) for i in steps],
            [gate for i in steps if (gate := self._gate(i)) is not None],
            skip_first=self.skip_first,
        )

    def _enlarged_width(self, level: int) -> int:
        """Channels of the upsampled level."""
        return self.options.features[level]

    def _enlarge(self, level: int, n_in: int) -> nn.Module:
        return Enlarge(self.ndim, n_in, self._enlarged_width(level), self._pools[level], self.options.upsample)

    def _gate(self, level: int) -> nn.Module | None:
        """Module that weights the encoder level by the upsampled level, in networks that have one."""
        del level
        return None

    def _halo(self, axis: int) -> int:
        # radii of convolutions in series add up
        radii = [kernel[axis] // 2 * self.convolutions_per_block for kernel in self._kernels]
        down = [radius * self.options.convolutions for radius in radii]
        up = [radius * self.options.decoder_convolutions for radius in radii[:-1]]
        last = up or down  # with a single level, heads follow the encoder
        last[0] += self._kernels[0][axis] // 2 if self.options.head_features else 0
        return unet_halo(down, [factor[axis] for factor in self._pools], up, linear=self.options.upsample == "linear")

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        encoded = []
        for level, stage in enumerate(self.encoder):
            x = stage(self.pools[level - 1](x) if level else x)
            encoded.append(x)
        # one decoder for all heads, or one per head on a common encoder
        last = len(self.decoders) - 1
        decoded = {
            name: decoder(list(encoded) if number < last else encoded) for number, (name, decoder) in enumerate(self.decoders.items())
        }
        return {name: output(decoded[name if self.options.separate_decoders else "all"]) for name, output in self.outputs.items()}


class ResidualUNet(UNet):
    """U-Net of residual blocks (He et al. 2016, https://arxiv.org/abs/1603.05027; in U-Nets Zhang et al. 2018, https://arxiv.org/abs/1711.10684).

    Examples:
        >>> network = ResidualUNet(ResidualUNetOptions(features=(8, 16)), ndim=3, in_channels=2, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 2, 5, 9, 8))["F"].shape)
        (1, 1, 5, 9, 8)
    """

    kind: ClassVar[str] = "resunet"
    block: ClassVar[type[nn.Module]] = ResidualBlock
    options: ResidualUNetOptions

    @property
    def convolutions_per_block(self) -> int:
        """Two, added to their input."""
        return 2
