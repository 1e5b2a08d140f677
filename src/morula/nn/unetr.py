"""UNETR, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.layers import BiasedBlock, Style, convolution, dropout, initialise, transposed
from morula.nn.network import Network
from morula.nn.transformer import TransformerEncoder, initialise_transformer
from morula.nn.transformer_options import UNETROptions


class UNETR(Network):
    """A vision transformer as encoder with the decoder of a U-Net (Hatamizadeh et al. 2022, https://arxiv.org/abs/2103.10504).

    Examples:
        >>> options = UNETROptions(width=8, layers=2, heads=2, token=4, features=4)
        >>> network = UNETR(options, ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.multiple
        ((1, 1, 33, 50), (4, 4))
    """

    kind: ClassVar[str] = "unetr"
    options: UNETROptions

    def __init__(self, options: UNETROptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._style = Style(ndim, options.norm, options.activation, options.groups)
        token, levels = options.token_size(ndim), options.levels
        # an axis with shorter tokens is upsampled at the finest levels only
        self._factors = [tuple(2 if edge >> (level + 1) else 1 for edge in token) for level in range(levels)]
        # channels double per level
        widths = [options.features << level for level in range(levels)]
        self.encoder = TransformerEncoder(options, ndim, in_channels, eps=1e-5 if options.as_trained else 1e-6)
        self.bottom = transposed(ndim, options.width, widths[-1], self._factors[-1], bias=False)
        self.skips = nn.ModuleList(self._skip(level, widths[level]) for level in range(1, levels))
        self.joins = nn.ModuleList(self._double(2 * widths[level], widths[level]) for level in range(1, levels))
        self.enlarge = nn.ModuleList(
            transposed(ndim, widths[level], widths[level - 1], self._factors[level - 1], bias=False) for level in range(1, levels)
        )
        self.image = self._double(in_channels, widths[0])
        self.last = self._double(2 * widths[0], widths[0])
        self.outputs = nn.ModuleDict({name: convolution(ndim, widths[0], width, 1) for name, width in self.heads.items()})
        initialise(self)
        # after initialise(), which would overwrite the initialisation of the token embedding
        initialise_transformer(self.encoder)

        self.norm_over_space = True  # attention extends over the whole tile
        self.multiple = token
        self.receptive_halo = token

    def _skip(self, level: int, width: int) -> nn.Sequential:
        """Upsampling of tokens to the grid of a level."""
        parts: list[nn.Module] = []
        n_in = self.options.width
        for finer in reversed(range(level, self.options.levels)):
            parts.append(transposed(self.ndim, n_in, width, self._factors[finer], bias=False))
            parts.append(self._convolve(width, width))
            n_in = width
        return nn.Sequential(*parts)

    def _convolve(self, n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(BiasedBlock(self._style, n_in, n_out, self.options.kernel), dropout(self.ndim, self.options.dropout))

    def _double(self, n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(self._convolve(n_in, n_out), self._convolve(n_out, n_out))

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        grid, taken = self.encoder.grid(x.shape[2:]), self.options.taken_after()
        tokens, of_class = self.encoder.begin(x)
        tokens = torch.cat([of_class, tokens], dim=1)
        encoded = []
        for number, block in enumerate(self.encoder.blocks, start=1):
            tokens = block(tokens)
            if number in taken:
                encoded.append(_as_image(tokens, grid))
        out = self.bottom(_as_image(tokens, grid))
        # results of early blocks go to fine levels
        for level in reversed(range(len(self.skips))):
            out = self.enlarge[level](self.joins[level](torch.cat([out, self.skips[level](encoded[level])], dim=1)))
        out = self.last(torch.cat([self.image(x), out], dim=1))
        return {name: output(out) for name, output in self.outputs.items()}


def _as_image(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Tokens (N, 1 + L, width), the class token first, reshaped to (N, width, *grid)."""
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
