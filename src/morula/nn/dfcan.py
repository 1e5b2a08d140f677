"""DFCAN, in 2D and 3D (Qiao et al. 2021, https://doi.org/10.1038/s41592-020-01048-5): channel attention by spectra.

Differences from the paper: 3D, and the output has the size of the input (restoration, no super-resolution).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import convolution, initialise
from morula.nn.network import Network
from morula.nn.restoration_options import DFCANOptions

_GAMMA = 0.8  # exponent of the magnitude of the spectrum, as in the paper
_HIDDEN = 16  # channels per hidden unit of the attention


class FourierBlock(nn.Module):
    """Two convolutions, then channels weighted by their spectra, added to the input.

    The Fourier transform is over the first `axes` spatial axes: all of them, except for 3D weights trained with BiaPy.
    """

    def __init__(self, ndim: int, channels: int, axes: int) -> None:
        super().__init__()
        self.first = convolution(ndim, channels, channels, 3)
        self.second = convolution(ndim, channels, channels, 3)
        self.spectrum = convolution(ndim, channels, channels, 3)
        hidden = max(1, channels // _HIDDEN)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.transformed = tuple(range(2, 2 + axes))
        self.spatial = tuple(range(2, 2 + ndim))

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out = nn.functional.gelu(self.second(nn.functional.gelu(self.first(x))))
        with torch.autocast(x.device.type, enabled=False):  # Fourier transforms have no half precision
            exact = out if out.dtype == torch.float64 else out.float()
            magnitude = (torch.fft.fftn(exact, dim=self.transformed).abs() + 1e-8) ** _GAMMA
        # move the zero frequency to the centre, so that neighbouring frequencies are neighbours for the convolution
        shifted = magnitude.roll([-(magnitude.shape[axis] // 2) for axis in self.spatial], self.spatial).to(out.dtype)
        # one number per channel from its spectrum
        means = self.spectrum(shifted).relu().flatten(2).mean(dim=2)
        shares = self.excite(self.squeeze(means).relu()).sigmoid()
        return x + out * shares.reshape(*shares.shape, *[1] * (x.ndim - 2))


class FourierGroup(nn.Module):
    """Blocks in series, added to the input."""

    def __init__(self, ndim: int, channels: int, blocks: int, axes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(FourierBlock(ndim, channels, axes) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = x + self.blocks(x)
        return out


class DFCAN(Network):
    """Residual groups with channel attention in the Fourier domain (Qiao et al. 2021, https://doi.org/10.1038/s41592-020-01048-5).

    Examples:
        >>> network = DFCAN(DFCANOptions(features=(4,), groups=1, blocks=1), ndim=3, in_channels=1, heads={"image": 1})
        >>> tuple(network(torch.zeros(1, 1, 5, 9, 8))["image"].shape), network.norm_over_space
        ((1, 1, 5, 9, 8), True)
    """

    kind: ClassVar[str] = "dfcan"
    options: DFCANOptions

    def __init__(self, options: DFCANOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        width, axes = options.features[0], 2 if options.as_trained else ndim
        self.first = convolution(ndim, in_channels, width, 3)
        self.groups = nn.Sequential(*(FourierGroup(ndim, width, options.blocks, axes) for _ in range(options.groups)))
        self.last = convolution(ndim, width, width, 3)
        self.outputs = nn.ModuleDict({name: convolution(ndim, width, channels, 3) for name, channels in self.heads.items()})
        initialise(self)

        self.norm_over_space = True  # spectra are of the whole tile
        self.multiple = (1,) * ndim
        self.receptive_halo = (options.groups * options.blocks * 2 + 3,) * ndim

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Images of each head."""
        out = self.groups(nn.functional.gelu(self.first(x)))
        out = nn.functional.gelu(self.last(out))
        return {name: output(out) for name, output in self.outputs.items()}
