"""Attention U-Net, in 2D and 3D (Oktay et al. 2018, https://arxiv.org/abs/1804.03999).

Differences from the paper, as in BiaPy: the gate has the resolution of the encoder level instead of a coarser one, so its weights need no
interpolation, and its convolutions are normalised. `as_trained` omits one of these normalisations (decision 7).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from morula.nn.classic_unet import ClassicUNet
from morula.nn.layers import Style, convolution, normalisation
from morula.nn.unet_options import AttentionUNetOptions


class AttentionGate(nn.Module):
    """Weights voxels of the encoder by a gating signal from the coarser level.

    With `as_trained` the convolution of the encoder is not normalised, as in networks trained with BiaPy.
    """

    def __init__(self, style: Style, channels: int, *, as_trained: bool) -> None:
        super().__init__()
        inner = max(1, channels // 2)  # the paper leaves the number of channels inside the gate open
        self.below = nn.Sequential(convolution(style.ndim, channels, inner, 1), normalisation(style, inner))
        norm = nn.Identity() if as_trained else normalisation(style, inner)
        self.skip = nn.Sequential(convolution(style.ndim, channels, inner, 1), norm)
        self.weight = nn.Sequential(convolution(style.ndim, inner, 1, 1), normalisation(style, 1), nn.Sigmoid())

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """NC(Z)YX twice, to the weighted `skip`."""
        # additive attention: one weight per voxel for all channels
        weight: Tensor = self.weight((self.below(below) + self.skip(skip)).relu())
        return weight * skip


class AttentionUNet(ClassicUNet):
    """Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999).

    Examples:
        >>> import torch
        >>> network = AttentionUNet(AttentionUNetOptions(features=(4, 8)), ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape)
        (1, 1, 33, 50)
    """

    kind: ClassVar[str] = "attention_unet"
    options: AttentionUNetOptions

    def _gate(self, level: int) -> nn.Module:
        return AttentionGate(self._style, self.options.features[level], as_trained=self.options.as_trained)
