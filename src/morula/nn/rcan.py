"""RCAN, in 2D and 3D (Zhang et al. 2018, https://arxiv.org/abs/1807.02758): residual groups with channel attention.

Differences from the paper: 3D, the output has the size of the input (restoration, no super-resolution), and the default activation is SiLU.
`as_trained` has one more convolution (decision 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from morula.nn.layers import activation, convolution, initialise
from morula.nn.network import Network
from morula.nn.restoration_options import RCANOptions


class ChannelAttention(nn.Module):
    """Weights channels by a small network of their means."""

    def __init__(self, channels: int, options: RCANOptions) -> None:
        super().__init__()
        hidden = max(1, channels // options.reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.activation = activation(options.activation)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        # a bottleneck of few hidden units, as in squeeze and excitation
        shares = self.excite(self.activation(self.squeeze(x.flatten(2).mean(dim=2)))).sigmoid()
        return x * shares.reshape(*shares.shape, *[1] * (x.ndim - 2))


class AttendedBlock(nn.Module):
    """Convolution, activation, convolution and channel attention, added to the input."""

    def __init__(self, ndim: int, channels: int, options: RCANOptions) -> None:
        super().__init__()
        self.first = convolution(ndim, channels, channels, 3)
        self.activation = activation(options.activation)
        self.second = convolution(ndim, channels, channels, 3)
        self.attention = ChannelAttention(channels, options)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = x + self.attention(self.second(self.activation(self.first(x))))
        return out


class ResidualGroup(nn.Module):
    """Blocks and a convolution, added to the input."""

    def __init__(self, ndim: int, channels: int, options: RCANOptions) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(AttendedBlock(ndim, channels, options) for _ in range(options.blocks)))
        self.last = convolution(ndim, channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = x + self.last(self.blocks(x))
        return out


class RCAN(Network):
    """Residual groups of blocks with channel attention (Zhang et al. 2018, https://arxiv.org/abs/1807.02758).

    Examples:
        >>> import torch
        >>> network = RCAN(RCANOptions(features=(4,), groups=1, blocks=1), ndim=3, in_channels=1, heads={"image": 1})
        >>> tuple(network(torch.zeros(1, 1, 5, 9, 8))["image"].shape)
        (1, 1, 5, 9, 8)
    """

    kind: ClassVar[str] = "rcan"
    options: RCANOptions

    def __init__(self, options: RCANOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        width = options.features[0]
        self.first = convolution(ndim, in_channels, width, 3)
        self.groups = nn.Sequential(*(ResidualGroup(ndim, width, options) for _ in range(options.groups)))
        self.last = convolution(ndim, width, width, 3)
        self.extra = convolution(ndim, width, width, 3) if options.as_trained else nn.Identity()
        self.outputs = nn.ModuleDict({name: convolution(ndim, width, channels, 3) for name, channels in self.heads.items()})
        initialise(self)

        self.norm_over_space = True  # means are over the whole tile
        self.multiple = (1,) * ndim
        self.receptive_halo = (options.groups * (2 * options.blocks + 1) + 3 + options.as_trained,) * ndim

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Images of each head."""
        first = self.first(x)
        out = self.extra(first + self.last(self.groups(first)))
        return {name: output(out) for name, output in self.outputs.items()}
