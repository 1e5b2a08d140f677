"""Residual U-Nets with pre-activation blocks, in 2D and 3D (Zhang et al. 2018, https://arxiv.org/abs/1711.10684).

Differences from the paper, as in BiaPy: levels are reduced by maximum pooling instead of strides, the first block does not normalise the
image, and every shortcut has a 1-voxel convolution. `ResUNetSE` adds squeeze and excitation; `as_trained` omits it (decision 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from morula.nn.layers import BiasedBlock, Enlarge, SqueezeExcite, Style, activation, convolution, dropout, normalisation
from morula.nn.unet import UNet
from morula.nn.unet_options import PreactivationUNetOptions, ResUNetSEOptions


def _convolutions(style: Style, widths: Sequence[int], kernel: int | Sequence[int]) -> nn.Sequential:
    """Convolutions from one width to the next; all but the last with normalisation and activation, with which the next block begins."""
    blocks = [BiasedBlock(style, n_in, n_out, kernel) for n_in, n_out in pairwise(widths[:-1])]
    return nn.Sequential(*blocks, convolution(style.ndim, widths[-2], widths[-1], kernel))


class PreactivationBlock(nn.Module):
    """Normalisation and activation (not in the `first` block, whose input is the image), then `count` convolutions, added to a shortcut.

    The shortcut is a convolution with `shortcut_kernel`, normalised with `shortcut_norm`.
    """

    def __init__(
        self,
        style: Style,
        n_in: int,
        n_out: int,
        kernel: int | Sequence[int],
        *,
        first: bool = False,
        count: int = 2,
        shortcut_kernel: int | Sequence[int] = 1,
        shortcut_norm: bool = False,
    ) -> None:
        super().__init__()
        # normalising the image itself would discard its intensities
        self.norm = nn.Identity() if first else normalisation(style, n_in)
        self.activation = nn.Identity() if first else activation(style.activation, inplace=style.norm != "none")
        self.convolutions = _convolutions(style, [n_in, *[n_out] * count], kernel)
        norm = normalisation(style, n_out) if shortcut_norm else nn.Identity()
        self.shortcut = nn.Sequential(convolution(style.ndim, n_in, n_out, shortcut_kernel), norm)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.convolutions(self.activation(self.norm(x))) + self.shortcut(x)
        return out


class ExcitedResidualBlock(nn.Module):
    """Normalisation and activation (not in the `first` block), a convolution block, `count` residual convolutions, squeeze and excitation.

    The excitation is only there to be stored when it is not `excited`.
    """

    def __init__(
        self,
        style: Style,
        n_in: int,
        n_out: int,
        kernel: int | Sequence[int],
        *,
        first: bool = False,
        count: int = 2,
        excited: bool = True,
    ) -> None:
        super().__init__()
        self.excited = excited
        # normalising the image itself would discard its intensities
        self.norm = nn.Identity() if first else normalisation(style, n_in)
        self.activation = nn.Identity() if first else activation(style.activation, inplace=style.norm != "none")
        self.entry = BiasedBlock(style, n_in, n_out, kernel)
        self.convolutions = _convolutions(style, [n_out] * (count + 1), kernel)
        self.excitation = SqueezeExcite(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        x = self.entry(self.activation(self.norm(x)))
        out: Tensor = self.convolutions(x) + x
        return self.excitation(out) if self.excited else out


class PreactivationUNet(UNet):
    """Residual U-Net of pre-activation blocks (Zhang et al. 2018, https://arxiv.org/abs/1711.10684).

    Examples:
        >>> import torch
        >>> network = PreactivationUNet(PreactivationUNetOptions(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape)
        (1, 1, 33, 50)
    """

    kind: ClassVar[str] = "preactivation_unet"
    skip_first: ClassVar[bool] = False
    options: PreactivationUNetOptions

    def _block(self, n_in: int, n_out: int, kernel: tuple[int, ...], *, first: bool) -> nn.Module:
        options = self.options
        first = first and not options.normalise_input
        return PreactivationBlock(self._style, n_in, n_out, kernel, first=first, count=options.block_convolutions)

    @property
    def convolutions_per_block(self) -> int:
        """Convolutions of a residual block."""
        return self.options.block_convolutions

    def _encoder_level(self, level: int, n_in: int) -> nn.Module:
        return self._blocks(level, n_in, self.options.convolutions, image=level == 0)

    def _level(self, level: int, n_in: int, blocks: int) -> nn.Sequential:
        return self._blocks(level, n_in, blocks, image=False)

    def _blocks(self, level: int, n_in: int, blocks: int, *, image: bool) -> nn.Sequential:
        width, kernel = self.options.features[level], self._kernels[level]
        parts = [self._block(width if i else n_in, width, kernel, first=image and i == 0) for i in range(blocks)]
        return nn.Sequential(*parts, dropout(self.ndim, self.options.dropouts()[level]))

    def _enlarged_width(self, level: int) -> int:
        return self.options.features[level + 1]

    def _enlarge(self, level: int, n_in: int) -> nn.Module:
        if self.options.upsample == "transpose":
            return super()._enlarge(level, n_in)
        return Enlarge(self.ndim, n_in, n_in, self._pools[level], self.options.upsample, convolve=False)


class ResUNetSE(PreactivationUNet):
    """Residual U-Net with squeeze and excitation of each block (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

    Examples:
        >>> import torch
        >>> network = ResUNetSE(ResUNetSEOptions(features=(4, 8)), ndim=3, in_channels=2, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 2, 5, 9, 8))["F"].shape)
        (1, 1, 5, 9, 8)
    """

    kind: ClassVar[str] = "resunet_se"
    options: ResUNetSEOptions

    def __init__(self, options: ResUNetSEOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self.norm_over_space = True  # means are over the whole tile

    @property
    def convolutions_per_block(self) -> int:
        """Those of the residual part, and the one before it."""
        return self.options.block_convolutions + 1

    def _block(self, n_in: int, n_out: int, kernel: tuple[int, ...], *, first: bool) -> nn.Module:
        options = self.options
        return ExcitedResidualBlock(
            self._style, n_in, n_out, kernel, first=first, count=options.block_convolutions, excited=not options.as_trained
        )
