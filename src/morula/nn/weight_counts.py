"""Numbers of weights of the usual U-Nets, from their options alone.

Checks need the number, and building a network imports torch, which takes most of their time. The formulas repeat what the modules of
`morula.nn.unet` and its variants build; the tests compare both. Networks without a formula here are built without memory, see
`morula.nn.blueprint`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Generic, TypeVar

from morula import nn
from morula.core.errors import OptionError
from morula.nn.options import NetworkOptions, ResidualUNetOptions, UNetOptions
from morula.nn.unet_options import (
    AttentionUNetOptions,
    ClassicUNetOptions,
    PreactivationUNetOptions,
    ResUNetSEOptions,
    SEUNetOptions,
)

MAX_MODULES = 6_000
"""Most modules of a network; the largest preset has about 2,600."""
MAX_WEIGHTS = 10**10
"""Most weights of a network: 40 GB in float32."""
_HEADS = ("channels", "classes", "image")
"""Names of heads that do not begin with the code of a channel."""

Own = TypeVar("Own", bound=UNetOptions)


def count_weights(options: NetworkOptions, ndim: int, in_channels: int, heads: Mapping[str, int]) -> int:
    """Number of weights of a network. Arguments and errors as of `morula.nn.build.build_network`.

    Examples:
        >>> count_weights(UNetOptions(features=(4, 8)), 2, 1, {"F": 1})
        1677
    """
    known = known_weights(options, ndim, in_channels, heads)
    if known is not None:
        return known
    stated = {name: getattr(options, name) for name in type(options).model_fields if name != "from_"}
    return nn.build.plan_network(stated, ndim, in_channels, heads).weights


def known_weights(options: NetworkOptions, ndim: int, in_channels: int, heads: Mapping[str, int]) -> int | None:
    """Number of weights of a network that can be built; `None` where only building it tells whether and how large.

    Examples:
        >>> known_weights(UNetOptions(features=(4, 8)), 2, 1, {"F": 1})
        1677
        >>> known_weights(UNetOptions(features=(10**6, 10**6)), 2, 1, {"F": 1}) is None
        True
    """
    counts = _COUNTS.get(type(options))
    if counts is None or ndim not in (2, 3) or in_channels < 1 or not heads or not all(map(_usable, heads.items())):
        return None
    try:
        network = counts(options, ndim, in_channels, heads)
    except OptionError:  # kernels or poolings for another number of axes
        return None
    weights = network.total()
    return weights if weights <= MAX_WEIGHTS and network.most_modules() <= MAX_MODULES else None


def _usable(head: tuple[str, int]) -> bool:
    """Whether a head has outputs, and surely no name that modules of torch have: but for one, they begin in lower case."""
    name, width = head
    return width >= 1 and name.isidentifier() and (name in _HEADS or (name[0].isupper() and name != "T_destination"))


def _convolution(n_in: int, n_out: int, edges: Sequence[int], *, bias: bool = True) -> int:
    return n_out * (n_in * prod(edges) + bias)


def _squeeze_excite(channels: int) -> int:
    return 2 * channels * max(1, channels // 16)


class _UNet(Generic[Own]):
    """Weights of the parts of a U-Net. Methods have the names of those that build the parts."""

    def __init__(self, options: Own, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        self.options = options
        self.in_channels = in_channels
        self.heads = heads
        self.one = (1,) * ndim
        self.kernels, self.pools = options.kernel_sizes(ndim), options.pool_sizes(ndim)

    def total(self) -> int:
        """Weights of the whole network."""
        options = self.options
        widths = (self.in_channels, *options.features)
        encoder = sum(self.level(level, widths[level], options.convolutions, image=level == 0) for level in range(options.levels))
        decoder = sum(self.decoder_level(level) for level in range(len(self.pools)))
        return encoder + self.decoders * decoder + sum(map(self.output, self.heads.values()))

    def most_modules(self) -> int:
        """Number of modules, from above."""
        options = self.options
        per_block = 16 + 5 * getattr(options, "block_convolutions", 2)
        blocks = options.convolutions + self.decoders * options.decoder_convolutions
        return options.levels * (per_block * blocks + 24 * (1 + self.decoders)) + 8 * len(self.heads) + 8

    @property
    def decoders(self) -> int:
        """Number of decoders."""
        return len(self.heads) if self.options.separate_decoders else 1

    def level(self, level: int, n_in: int, blocks: int, *, image: bool = False) -> int:
        """The blocks of a level; the first one of the encoder has the `image` as input."""
        width, kernel = self.options.features[level], self.kernels[level]
        return self.block(n_in, width, kernel, first=image) + (blocks - 1) * self.block(width, width, kernel)

    def decoder_level(self, level: int) -> int:
        """Upsampling, blocks and gate of a level of a decoder."""
        enlarged = self.enlarged_width(level)
        blocks = self.level(level, self.options.features[level] + enlarged, self.options.decoder_convolutions)
        return self.enlarge(level, self.options.features[level + 1], enlarged) + blocks + self.gate(level)

    def enlarged_width(self, level: int) -> int:
        return self.options.features[level]

    def enlarge(self, level: int, n_in: int, n_out: int) -> int:
        return _convolution(n_in, n_out, self.pools[level] if self.options.upsample == "transpose" else self.one)

    def gate(self, level: int) -> int:
        del level
        return 0

    def output(self, width: int) -> int:
        """A head."""
        first, hidden = self.options.features[0], self.options.head_features
        if not hidden:
            return _convolution(first, width, self.one)
        return self.convolution_block(first, hidden, self.kernels[0]) + _convolution(hidden, width, self.one)

    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        del first
        return self.convolution_block(n_in, n_out, kernel)

    def convolution_block(self, n_in: int, n_out: int, kernel: Sequence[int], *, bias: bool = False) -> int:
        return _convolution(n_in, n_out, kernel, bias=bias or self.options.norm == "none") + self.norm(n_out)

    def norm(self, channels: int) -> int:
        return 0 if self.options.norm == "none" else 2 * channels


class _ResidualUNet(_UNet[ResidualUNetOptions]):
    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        del first
        shortcut = 0 if n_in == n_out else self.convolution_block(n_in, n_out, self.one)
        return self.convolution_block(n_in, n_out, kernel) + self.convolution_block(n_out, n_out, kernel) + shortcut


class _ClassicUNet(_UNet[Own]):
    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        del first
        return self.convolution_block(n_in, n_out, kernel, bias=True)

    def enlarge(self, level: int, n_in: int, n_out: int) -> int:
        return super().enlarge(level, n_in, n_out) + self.norm(n_out)


class _AttentionUNet(_ClassicUNet[AttentionUNetOptions]):
    def gate(self, level: int) -> int:
        channels = self.options.features[level]
        inner = max(1, channels // 2)
        norms = self.norm(inner) * (1 if self.options.as_trained else 2) + self.norm(1)
        return 2 * _convolution(channels, inner, self.one) + _convolution(inner, 1, self.one) + norms


class _SEUNet(_ClassicUNet[SEUNetOptions]):
    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        return super().block(n_in, n_out, kernel, first=first) + _squeeze_excite(n_out)


OwnBlocks = TypeVar("OwnBlocks", bound=PreactivationUNetOptions)


class _PreactivationUNet(_UNet[OwnBlocks]):
    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        norm = 0 if first and not self.options.normalise_input else self.norm(n_in)
        return norm + self.convolutions([n_in, *[n_out] * self.options.block_convolutions], kernel) + _convolution(n_in, n_out, self.one)

    def convolutions(self, widths: Sequence[int], kernel: Sequence[int]) -> int:
        """Convolutions from one width to the next; all but the last with normalisation."""
        blocks = sum(self.convolution_block(n_in, n_out, kernel, bias=True) for n_in, n_out in pairwise(widths[:-1]))
        return blocks + _convolution(widths[-2], widths[-1], kernel)

    def enlarged_width(self, level: int) -> int:
        return self.options.features[level + 1]

    def enlarge(self, level: int, n_in: int, n_out: int) -> int:
        return super().enlarge(level, n_in, n_out) if self.options.upsample == "transpose" else 0


class _ResUNetSE(_PreactivationUNet[ResUNetSEOptions]):
    def block(self, n_in: int, n_out: int, kernel: Sequence[int], *, first: bool = False) -> int:
        norm = 0 if first and not self.options.normalise_input else self.norm(n_in)
        entry = self.convolution_block(n_in, n_out, kernel, bias=True)
        rest = self.convolutions([n_out] * (self.options.block_convolutions + 1), kernel)
        return norm + entry + rest + _squeeze_excite(n_out)


# by the exact type: a network of a third party may derive from these options, and build anything
_COUNTS: Mapping[type, type[_UNet]] = {
    UNetOptions: _UNet,
    ResidualUNetOptions: _ResidualUNet,
    ClassicUNetOptions: _ClassicUNet,
    AttentionUNetOptions: _AttentionUNet,
    SEUNetOptions: _SEUNet,
    PreactivationUNetOptions: _PreactivationUNet,
    ResUNetSEOptions: _ResUNetSE,
}
