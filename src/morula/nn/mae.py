"""Masked autoencoder of vision transformers, in 2D and 3D (He et al. 2022, https://arxiv.org/abs/2111.06377).

The image is divided into boxes (tokens). The encoder sees only the visible ones; the decoder gets these and a learned mask token at the
positions of the hidden ones, and predicts the voxels of all boxes::

    image -> tokens -> keep visible -> encoder -> insert mask tokens -> decoder -> boxes -> image

Differences from the paper: 3D, several heads, images of any size (positions are computed or interpolated).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.core.errors import DataError
from morula.nn.network import Network
from morula.nn.transformer import Positions, TransformerBlock, TransformerEncoder, initialise_transformer
from morula.nn.transformer_options import MAEOptions


class MAE(Network):
    """Masked autoencoder (He et al. 2022, https://arxiv.org/abs/2111.06377): visible tokens are encoded, all are decoded.

    Examples:
        >>> options = MAEOptions(width=8, layers=1, heads=2, token=4, decoder_width=8, decoder_layers=1, decoder_heads=2)
        >>> network = MAE(options, ndim=2, in_channels=1, heads={"image": 1})
        >>> hidden = torch.tensor([[[True, False], [False, True]]])
        >>> tuple(network(torch.zeros(1, 1, 8, 8), hidden=hidden)["image"].shape)
        (1, 1, 8, 8)
    """

    kind: ClassVar[str] = "mae"
    batch_inputs: ClassVar[tuple[str, ...]] = ("hidden",)
    options: MAEOptions

    def __init__(self, options: MAEOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        width, inner = options.width, options.decoder_width
        self.encoder = TransformerEncoder(options, ndim, in_channels)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.to_decoder = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.decoder_positions = Positions(inner, options.grid)
        self.decoder = nn.ModuleList(
            TransformerBlock(inner, options.decoder_heads, options.decoder_mlp_ratio) for _ in range(options.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(inner, eps=1e-6)
        voxels = prod(self.encoder.token)
        self.outputs = nn.ModuleDict({name: nn.Linear(inner, voxels * channels) for name, channels in self.heads.items()})
        initialise_transformer(self)

        self.norm_over_space = True  # attention extends over the whole tile
        self.multiple = self.encoder.token
        self.receptive_halo = self.encoder.token

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Images per head with all boxes visible; see `forward`."""
        return self.reconstruct(x, None)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> dict[str, Tensor]:
        """Images NK(Z)YX per head from images NC(Z)YX of any size.

        Args:
            x: images.
            hidden: (N, *grid) booleans, the boxes that are hidden from the encoder, equally many per image; the edges of the image must
                then be multiples of the token. All boxes are visible when left out.

        Raises:
            DataError: for images or masks of other shapes.
        """
        if hidden is None:
            return super().forward(x)
        grid = self.encoder.grid(x.shape[2:])
        if any(n % edge for n, edge in zip(x.shape[2:], self.multiple, strict=True)) or tuple(hidden.shape) != (x.shape[0], *grid):
            raise DataError(
                "network.mask_shape",
                f"the mask must have one value per token of {self.multiple} voxels, for an image whose edges are multiples of the token; "
                f"the image has the shape {tuple(x.shape)}",
                key="hidden",
                value=tuple(hidden.shape),
            )
        return self.reconstruct(x, hidden.flatten(1).bool())

    def reconstruct(self, x: Tensor, hidden: Tensor | None) -> dict[str, Tensor]:
        """Images per head; `hidden` is (N, L)."""
        grid = self.encoder.grid(x.shape[2:])
        tokens, of_class = self.encoder.begin(x)
        masked = 0
        if hidden is not None:
            # a stable sort keeps the order of visible tokens, and its inverse restores the grid
            order, visible = hidden.to(torch.uint8).argsort(dim=1, stable=True), self._visible(hidden)  # visible tokens first
            tokens = tokens.gather(1, order[:, :visible, None].expand(-1, -1, tokens.shape[2]))
            masked = hidden.shape[1] - visible
        tokens = torch.cat([of_class, tokens], dim=1)
        for block in self.encoder.blocks:
            tokens = block(tokens)
        tokens = self.to_decoder(self.norm(tokens))
        of_class, tokens = tokens[:, :1], tokens[:, 1:]
        tokens = torch.cat([tokens, self.mask_token.to(tokens.dtype).expand(len(tokens), masked, -1)], dim=1)
        if hidden is not None:
            tokens = tokens.gather(1, order.argsort(dim=1)[..., None].expand(-1, -1, tokens.shape[2]))
        positions, class_position = self.decoder_positions(grid, x)
        tokens = torch.cat([of_class + class_position, tokens + positions.to(self.mask_token.dtype)], dim=1)
        for block in self.decoder:
            tokens = block(tokens)
        tokens = self.decoder_norm(tokens[:, 1:])
        return {name: boxes_to_image(output(tokens), grid, self.multiple) for name, output in self.outputs.items()}

    @staticmethod
    def _visible(hidden: Tensor) -> int:
        counts = (~hidden).sum(dim=1)
        if int(counts.min()) != int(counts.max()) or not int(counts.min()):
            raise DataError(
                "network.visible_tokens",
                "all images of a batch must have the same number of visible tokens, at least 1",
                key="hidden",
                value=(int(counts.min()), int(counts.max())),
            )
        return int(counts[0])


def boxes_to_image(boxes: Tensor, grid: tuple[int, ...], token: tuple[int, ...]) -> Tensor:
    """Boxes (N, L, voxels x channels), channels varying fastest, to an image NC(Z)YX.

    Examples:
        >>> boxes_to_image(torch.arange(4.0).reshape(1, 2, 2), (1, 2), (1, 2)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    ndim = len(grid)
    split = boxes.reshape(boxes.shape[0], *grid, *token, -1)
    order = [0, 2 * ndim + 1]
    for axis in range(ndim):
        order += [1 + axis, 1 + ndim + axis]
    return split.permute(*order).reshape(boxes.shape[0], -1, *(g * t for g, t in zip(grid, token, strict=True)))


def image_to_boxes(image: Tensor, token: tuple[int, ...]) -> Tensor:
    """An image NC(Z)YX as boxes (N, L, voxels x channels), channels varying fastest; undone by `boxes_to_image`.

    Examples:
        >>> image_to_boxes(torch.arange(4.0).reshape(1, 1, 1, 4), (1, 2)).tolist()
        [[[0.0, 1.0], [2.0, 3.0]]]
    """
    ndim = len(token)
    grid = [n // t for n, t in zip(image.shape[2:], token, strict=True)]
    split = image.reshape(*image.shape[:2], *(n for pair in zip(grid, token, strict=True) for n in pair))
    order = [0, *range(2, 2 + 2 * ndim, 2), *range(3, 3 + 2 * ndim, 2), 1]
    return split.permute(*order).reshape(image.shape[0], -1, image.shape[1] * prod(token))
