"""U-Net with squeeze and excitation after each convolution, in 2D and 3D (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

The paper puts squeeze and excitation into residual blocks for classification; here, as in BiaPy, it follows every convolution of a U-Net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from morula.nn.classic_unet import ClassicUNet
from morula.nn.layers import BiasedBlock, SqueezeExcite, Style
from morula.nn.unet_options import SEUNetOptions


class ExcitedBlock(nn.Module):
    """Convolution, normalisation, activation, and squeeze and excitation."""

    def __init__(self, style: Style, n_in: int, n_out: int, kernel: int | Sequence[int]) -> None:
        super().__init__()
        self.block = BiasedBlock(style, n_in, n_out, kernel)
        self.excitation = SqueezeExcite(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.excitation(self.block(x))
        return out


class SEUNet(ClassicUNet):
    """U-Net whose channels are weighted by squeeze and excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

    Examples:
        >>> import torch
        >>> network = SEUNet(SEUNetOptions(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.norm_over_space
        ((1, 1, 33, 50), True)
    """

    kind: ClassVar[str] = "seunet"
    block: ClassVar[type[nn.Module]] = ExcitedBlock
    options: SEUNetOptions

    def __init__(self, options: SEUNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self.norm_over_space = True  # means are over the whole tile
