"""WDSR, in 2D and 3D (Yu et al. 2018, https://arxiv.org/abs/1808.08718): wide activations and weight normalisation.

Differences from the paper: 3D, and the output has the size of the input (restoration, no super-resolution), so the image itself is added
where it has the channels of the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from morula.nn.layers import convolution
from morula.nn.network import Network
from morula.nn.restoration_options import WDSROptions


def weight_normalised(ndim: int, n_in: int, n_out: int, kernel: int, gain: float) -> nn.Module:
    """A convolution with weight normalisation: a learned norm per output channel, initially `gain`, and a bias of zero."""
    layer = weight_norm(convolution(ndim, n_in, n_out, kernel))
    nn.init.constant_(layer.parametrizations.weight.original0, gain)
    nn.init.zeros_(layer.bias)
    return layer


class WideBlock(nn.Module):
    """A convolution to many channels, ReLU and a convolution back, added to the input."""

    def __init__(self, ndim: int, channels: int, expansion: int, gain: float) -> None:
        super().__init__()
        self.widen = weight_normalised(ndim, channels, channels * expansion, 3, 2.0)
        self.narrow = weight_normalised(ndim, channels * expansion, channels, 3, gain)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = x + self.narrow(self.widen(x).relu())
        return out


class WDSR(Network):
    """Blocks with wide activations (Yu et al. 2018, https://arxiv.org/abs/1808.08718), and the image itself added.

    Examples:
        >>> import torch
        >>> network = WDSR(WDSROptions(features=(4,), blocks=1), ndim=3, in_channels=1, heads={"image": 1})
        >>> tuple(network(torch.zeros(1, 1, 5, 9, 8))["image"].shape), network.receptive_halo
        ((1, 1, 5, 9, 8), (4, 4, 4))
    """

    kind: ClassVar[str] = "wdsr"
    options: WDSROptions

    def __init__(self, options: WDSROptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        width = options.features[0]
        self.first = weight_normalised(ndim, in_channels, width, 3, 1.0)
        # the gain keeps the variance of the sum of all blocks independent of their number
        gain = 1 / sqrt(options.blocks)
        self.blocks = nn.Sequential(*(WideBlock(ndim, width, options.expansion, gain) for _ in range(options.blocks)))
        self.outputs = nn.ModuleDict({name: weight_normalised(ndim, width, channels, 3, 1.0) for name, channels in self.heads.items()})
        # an image with the channels of the head is added itself, others through a convolution
        self.skips = nn.ModuleDict(
            {
                name: weight_normalised(ndim, in_channels, channels, 5, 1.0)
                for name, channels in self.heads.items()
                if channels != in_channels
            }
        )

        self.norm_over_space = False
        self.multiple = (1,) * ndim
        self.receptive_halo = (2 * options.blocks + 2,) * ndim

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Images of each head."""
        out = self.blocks(self.first(x))
        return {name: output(out) + (self.skips[name](x) if name in self.skips else x) for name, output in self.outputs.items()}
