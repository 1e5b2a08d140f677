"""EDSR, in 2D and 3D: residual blocks without normalisation (Lim et al. 2017, https://arxiv.org/abs/1707.02921).

Differences from the paper: the output has the size of the input (restoration, no super-resolution), and the second convolution of every
block starts at zero instead of scaling the block by 0.1. `as_trained` is the network of BiaPy 3.5 to 3.7 (decision 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from morula.core.errors import OptionError
from morula.nn.layers import convolution, initialise
from morula.nn.network import Network
from morula.nn.restoration_options import EDSROptions


class PlainResidualBlock(nn.Module):
    """Two convolutions, with ReLU between them if `activated`, added to the input."""

    def __init__(self, ndim: int, channels: int, *, activated: bool) -> None:
        super().__init__()
        self.first = convolution(ndim, channels, channels, 3)
        self.second = convolution(ndim, channels, channels, 3)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out = self.first(x)
        return x + self.second(out.relu() if self.activated else out)


class EDSR(Network):
    """Residual blocks without normalisation (Lim et al. 2017, https://arxiv.org/abs/1707.02921).

    With `as_trained` the network is that of BiaPy 3.5 to 3.7: linear, with an output of twice the size that is interpolated back.

    Examples:
        >>> import torch
        >>> network = EDSR(EDSROptions(features=(4,), blocks=2), ndim=2, in_channels=1, heads={"image": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["image"].shape), network.receptive_halo
        ((1, 1, 33, 50), (7, 7))
    """

    kind: ClassVar[str] = "edsr"
    options: EDSROptions

    def __init__(self, options: EDSROptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        if options.as_trained and ndim == 3:
            raise OptionError("network.as_trained", "is for 2D weights only", key="as_trained", value=True, remedy="Leave it out in 3D.")
        width = options.features[0]
        self.first = convolution(ndim, in_channels, width, 3)
        self.blocks = nn.Sequential(*(PlainResidualBlock(ndim, width, activated=not options.as_trained) for _ in range(options.blocks)))
        self.last = convolution(ndim, width, width, 3)
        self.enlarge = convolution(ndim, width, 4 * width, 3) if options.as_trained else None
        self.outputs = nn.ModuleDict({name: convolution(ndim, width, channels, 3) for name, channels in self.heads.items()})
        initialise(self)
        if not options.as_trained:
            for block in self.blocks:  # without normalisation, the signal would grow with the depth
                nn.init.zeros_(block.second.weight)  # type: ignore[union-attr,arg-type]

        self.norm_over_space = False
        self.multiple = (1,) * ndim
        self.receptive_halo = (2 * options.blocks + 3 + 2 * options.as_trained,) * ndim

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Images of each head."""
        first = self.first(x)
        if self.enlarge is None:
            out = first + self.last(self.blocks(first))
            return {name: output(out) for name, output in self.outputs.items()}
        # BiaPy trained a super-resolution network and interpolated its output back to the size of the input
        out = functional.pixel_shuffle(self.enlarge(self.blocks(first) + self.last(first)), 2)
        size = x.shape[2:]
        return {
            name: functional.interpolate(output(out), size=size, mode="bilinear", align_corners=False)
            for name, output in self.outputs.items()
        }
