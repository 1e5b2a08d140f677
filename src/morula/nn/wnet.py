"""W-Net: two U-Nets in series (Xia and Kulis 2017, https://arxiv.org/abs/1711.08506), as in WNet3D of CellSeg3D.

The first U-Net assigns voxels to classes, the second reconstructs the image from the class probabilities; both are trained together
without labels::

    image -> encoder U-Net -> logits -> softmax -> decoder U-Net -> reconstruction
                                |                                      |
                          soft normalised cuts                 squared error to the image

Differences from the paper, as in WNet3D (Achard et al. 2024, https://doi.org/10.7554/eLife.99848): 3D, group normalisation, and no
separable convolutions unless `separable`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from morula.core.errors import OptionError
from morula.nn.layers import Enlarge, Style, activation, convolution, initialise, normalisation, pool
from morula.nn.network import Network
from morula.nn.options import WNetOptions
from morula.nn.receptive_field import unet_halo

RECONSTRUCTION = "reconstruction"
"""Name of the head with the reconstructed image."""


class WNetUnit(nn.Module):
    """A convolution, at inner levels with a 1-voxel convolution behind it; then activation, dropout and, last, normalisation."""

    def __init__(self, options: WNetOptions, ndim: int, n_in: int, n_out: int, kernel: Sequence[int], *, mixed: bool) -> None:
        super().__init__()
        style = Style(ndim, options.norm, "relu", options.groups)
        if mixed:
            self.convolution = convolution(ndim, n_in, n_in, kernel, groups=n_in if options.separable else 1)
            self.mixing: nn.Module = convolution(ndim, n_in, n_out, 1)
        else:
            self.convolution = convolution(ndim, n_in, n_out, kernel)
            self.mixing = nn.Identity()
        self.activation = activation(style.activation)
        self.dropout = nn.Dropout(options.dropout)
        self.norm = normalisation(style, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.norm(self.dropout(self.activation(self.mixing(self.convolution(x)))))
        return out


class WNetHalf(nn.Module):
    """One U-Net of the two: NC(Z)YX to NK(Z)YX, edges multiples of the poolings."""

    def __init__(self, options: WNetOptions, ndim: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.checkpointed = options.checkpoint
        widths, kernels, pools = options.features, options.kernel_sizes(ndim), options.pool_sizes(ndim)

        def level(at: int, channels: int, *, mixed: bool) -> nn.Sequential:
            first = WNetUnit(options, ndim, channels, widths[at], kernels[at], mixed=mixed)
            return nn.Sequential(first, WNetUnit(options, ndim, widths[at], widths[at], kernels[at], mixed=mixed))

        self.down = nn.ModuleList(level(i, widths[i - 1] if i else n_in, mixed=i > 0) for i in range(len(widths)))
        self.pools = nn.ModuleList(pool(ndim, factor) for factor in pools)
        self.enlarge = nn.ModuleList(Enlarge(ndim, widths[i + 1], widths[i], factor, "transpose") for i, factor in enumerate(pools))
        self.up = nn.ModuleList(level(i, 2 * widths[i], mixed=i > 0) for i in range(len(pools)))
        self.output = convolution(ndim, widths[0], n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NK(Z)YX."""
        encoded: list[Tensor] = []
        for at, stage in enumerate(self.down):
            x = self._run(stage, self.pools[at - 1](x) if at else x)
            encoded.append(x)
        for at in reversed(range(len(self.up))):
            x = self._run(self.up[at], torch.cat([encoded[at], self.enlarge[at](x)], dim=1))
        out: Tensor = self.output(x)
        return out

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointed and self.training and torch.is_grad_enabled():
            kept: Tensor = checkpoint(stage, x, use_reentrant=False)
            return kept
        out: Tensor = stage(x)
        return out


class WNet(Network):
    """W-Net (Xia and Kulis 2017, https://arxiv.org/abs/1711.08506) in the form of WNet3D (Achard et al. 2024, https://doi.org/10.7554/eLife.99848).

    The first head has the logits of the classes; their softmax is the input of the decoder, whose outputs are the other heads. With a
    single head, the decoder reconstructs the image in the head ``reconstruction``.

    Examples:
        >>> network = WNet(WNetOptions(features=(8, 16)), ndim=2, in_channels=1, heads={"classes": 2})
        >>> {name: tuple(logits.shape) for name, logits in network(torch.zeros(1, 1, 20, 31)).items()}
        {'classes': (1, 2, 20, 31), 'reconstruction': (1, 1, 20, 31)}
    """

    kind: ClassVar[str] = "wnet"
    options: WNetOptions

    def __init__(self, options: WNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        named = {**heads, RECONSTRUCTION: in_channels} if len(heads) == 1 and RECONSTRUCTION not in heads else heads
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=named)
        if len(self.heads) < 2 or next(iter(self.heads)) == RECONSTRUCTION:
            rule = "must begin with the head of the classes, for example {'classes': 2}"
            raise OptionError("network.heads", rule, key="heads", value=dict(heads))
        self.classes, *self.rebuilt = self.heads
        n_classes = self.heads[self.classes]
        self.encoder = WNetHalf(options, ndim, in_channels, n_classes)
        self.decoder: WNetHalf | None = WNetHalf(options, ndim, n_classes, sum(self.heads[name] for name in self.rebuilt))
        initialise(self)

        pools = options.pool_sizes(ndim)
        self.norm_over_space = options.norm in ("group", "instance")
        self.multiple = tuple(prod(factors) for factors in zip(*pools, strict=True)) or (1,) * ndim
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    def _halo(self, axis: int) -> int:
        """Twice the halo of one U-Net, because the input of the second is the output of the first."""
        radii = [2 * (kernel[axis] // 2) for kernel in self.options.kernel_sizes(self.ndim)]
        pools = [factor[axis] for factor in self.options.pool_sizes(self.ndim)]
        return (1 if self.decoder is None else 2) * unet_halo(radii, pools, radii[:-1], linear=False)

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits per head for an image whose edges are multiples of `multiple`; without a decoder those of the encoder only."""
        classes = self.encoder(x)
        if self.decoder is None:
            return {self.classes: classes}
        rebuilt = self.decoder(classes.softmax(dim=1))
        widths = [self.heads[name] for name in self.rebuilt]
        return {self.classes: classes, **dict(zip(self.rebuilt, rebuilt.split(widths, dim=1), strict=True))}

    def for_prediction(self) -> WNet:
        """A copy with the encoder only, which predicts the classes in half the time."""
        alone = copy.copy(self)
        # copy only the encoder: the decoder has half of the weights
        alone._modules = {"encoder": copy.deepcopy(self.encoder), "decoder": None}
        alone.heads = {self.classes: self.heads[self.classes]}
        alone.receptive_halo = tuple(alone._halo(axis) for axis in range(self.ndim))
        return alone
