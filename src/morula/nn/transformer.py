"""Modules of a vision transformer, in 2D or 3D (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929).

Differences from the paper: 3D, positions for grids of any size (computed as sines and cosines, or stored and interpolated).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from morula.nn.layers import strided
from morula.nn.transformer_options import TransformerOptions

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each applied after a normalisation and added to its input."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=eps)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=eps)
        hidden = int(width * mlp_ratio)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, width) to the same."""
        n, length, width = x.shape
        qkv = self.query_key_value(self.norm_attention(x)).reshape(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        # the fused kernel needs memory linear in the number of tokens
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(attended.transpose(1, 2).reshape(n, length, width))
        out: Tensor = x + self.narrow(functional.gelu(self.widen(self.norm_mlp(x))))
        return out


def sincos_positions(grid: Sequence[int], width: int) -> Tensor:
    """Positions of tokens as sines and cosines of their coordinates, (tokens, width); the axes share the width, the remainder is 0.

    Frequencies fall from 1 to 1/10,000 (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762), as in He et al. 2022.

    Examples:
        >>> sincos_positions((2, 3), 8).shape
        torch.Size([6, 8])
    """
    n_axes = len(grid)
    half = max(1, width // (2 * n_axes))
    # float64: large coordinates would lose the phase in float32
    frequencies = 10_000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in axes]
    parts = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)[:, :width]
    return functional.pad(parts, (0, width - parts.shape[1])).float()


def resize_positions(stored: Tensor, grid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Stored positions (1, tokens of `grid`, width) interpolated linearly to another grid."""
    if tuple(grid) == tuple(wanted):
        return stored
    image = stored.reshape(1, *grid, -1).movedim(-1, 1)
    resized = functional.interpolate(image.float(), size=list(wanted), mode=_LINEAR[len(grid)], align_corners=False)
    return resized.movedim(1, -1).reshape(1, -1, stored.shape[-1]).to(stored.dtype)


class Positions(nn.Module):
    """Position embeddings: computed from the grid, or stored for one grid and interpolated to others."""

    def __init__(self, width: int, grid: tuple[int, ...] | None) -> None:
        super().__init__()
        self.width = width
        self.grid = grid
        self.stored = None if grid is None else nn.Parameter(sincos_positions(grid, width)[None])
        self.of_class = None if grid is None else nn.Parameter(torch.zeros(1, 1, width))
        self._known: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def forward(self, grid: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor | float]:
        """Positions (1, tokens, width) of a grid and of the class token, on the device of `like`."""
        if self.stored is not None and self.grid is not None and self.of_class is not None:
            return resize_positions(self.stored, self.grid, grid), self.of_class
        key = (grid, like.device)
        if key in self._known:
            return self._known[key], 0.0
        positions = sincos_positions(grid, self.width)[None].to(like.device)
        if not torch.compiler.is_exporting():  # an exported graph must not have side effects
            self._known = {key: positions}
        return positions, 0.0


class TransformerEncoder(nn.Module):
    """Image to tokens: a linear map of each box, its position, a class token in front, and transformer blocks."""

    def __init__(self, options: TransformerOptions, ndim: int, in_channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.token = options.token_size(ndim)
        self.embed = strided(ndim, in_channels, options.width, self.token)
        self.class_token = nn.Parameter(torch.zeros(1, 1, options.width))
        self.positions = Positions(options.width, options.grid)
        self.blocks = nn.ModuleList(
            TransformerBlock(options.width, options.heads, options.mlp_ratio, eps=eps) for _ in range(options.layers)
        )

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Tokens per axis for an image of this shape (Z)YX."""
        return tuple(n // edge for n, edge in zip(shape, self.token, strict=True))

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, L, width) of an image NC(Z)YX with their positions, and the class token (N, 1, width)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        positions, of_class = self.positions(self.grid(x.shape[2:]), x)
        return tokens + positions.to(self.class_token.dtype), (self.class_token + of_class).expand(x.shape[0], -1, -1)


def initialise_transformer(module: nn.Module) -> None:
    """Xavier uniform initialisation of linear maps (including the token embedding), zero biases, class and mask tokens N(0, 0.02)."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif name.endswith("embed") and isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.data.view(part.weight.shape[0], -1))
            assert part.bias is not None
            nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.endswith(("class_token", "mask_token")):
            nn.init.normal_(parameter, std=0.02)
