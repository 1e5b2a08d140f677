"""U-Net with biases and normalised upsampling, as in BiaPy, in 2D and 3D (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597).

Differences from the paper: convolutions keep the size (zero padding), convolutions and upsampling are normalised, and the upsampled level
comes first in the concatenation, so that weights trained with BiaPy fit.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from morula.nn.layers import BiasedBlock, Enlarge, Style, activation, normalisation
from morula.nn.unet import UNet
from morula.nn.unet_options import ClassicUNetOptions


class NormalisedEnlarge(nn.Module):
    """Upsampling to the next finer level, then normalisation and activation."""

    def __init__(self, style: Style, enlarge: Enlarge, n_out: int) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.norm = normalisation(style, n_out)
        self.activation = activation(style.activation)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX, each axis longer by its factor."""
        out: Tensor = self.activation(self.norm(self.enlarge(x)))
        return out


class ClassicUNet(UNet):
    """U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) as BiaPy builds it (https://doi.org/10.1038/s41592-025-02699-y).

    Examples:
        >>> import torch
        >>> network = ClassicUNet(ClassicUNetOptions(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape)
        (1, 1, 33, 50)
    """

    kind: ClassVar[str] = "classic_unet"
    block: ClassVar[type[nn.Module]] = BiasedBlock
    skip_first: ClassVar[bool] = False
    options: ClassicUNetOptions

    def _enlarge(self, level: int, n_in: int) -> nn.Module:
        # the same upsampling as in UNet, followed by normalisation and activation
        plain = super()._enlarge(level, n_in)
        assert isinstance(plain, Enlarge)
        return NormalisedEnlarge(self._style, plain, self._enlarged_width(level))
