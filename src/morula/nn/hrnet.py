"""HRNet, in 2D and 3D (Wang et al. 2020, https://arxiv.org/abs/1908.07919).

The image stays at a quarter of its resolution from the first layer to the last. Coarser branches begin beside it, one after the other, and
after some residual blocks all branches exchange their results: each becomes the sum of all, brought to its own resolution.

::

    image - stem - blocks --- branch 0 -x- branch 0 -x- branch 0 --.
              1/4        '--- branch 1 -x- branch 1 -x- branch 1 ---- concatenated - outputs
              1/8                      '-- branch 2 -x- branch 2 --'

Differences from the paper: 3D, several heads, and any number of branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from morula.nn.hrnet_options import HRNetOptions
from morula.nn.layers import ConvolutionBlock, ResidualBlock, Style, activation, convolution, initialise, resize_linear
from morula.nn.network import Network

_EXPANSION = 4


class Bottleneck(nn.Module):
    """Three convolutions, of which those of one voxel narrow and widen the channels, added to the input before the last activation."""

    def __init__(self, style: Style, n_in: int, width: int, *, activated: bool) -> None:
        super().__init__()
        n_out = _EXPANSION * width
        self.narrow = ConvolutionBlock(style, n_in, width, 1, activated=activated)
        self.middle = ConvolutionBlock(style, width, width, 3, activated=activated)
        self.widen = ConvolutionBlock(style, width, n_out, 1, activated=False)
        self.shortcut = nn.Identity() if n_in == n_out else ConvolutionBlock(style, n_in, n_out, 1, activated=False)
        self.activation = activation(style.activation)

    def forward(self, x: Tensor) -> Tensor:
        """NC(Z)YX to NC(Z)YX."""
        out: Tensor = self.activation(self.widen(self.middle(self.narrow(x))) + self.shortcut(x))
        return out


class Exchange(nn.Module):
    """Residual blocks in each branch, then each branch becomes the sum of all of them at its own resolution."""

    def __init__(
        self, styles: tuple[Style, Style], features: Sequence[int], pools: Sequence[tuple[int, ...]], blocks: int, *, as_trained: bool
    ) -> None:
        super().__init__()
        between, inside = styles
        self.corners = as_trained
        self.branches = nn.ModuleList(
            nn.Sequential(*(_residual(inside, n, activated=not as_trained) for _ in range(blocks))) for n in features
        )
        self.links = nn.ModuleList(
            nn.ModuleList(_link(between, features, pools, source, target) for source in range(len(features)))
            for target in range(len(features))
        )
        self.activation = activation(between.activation)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """NC(Z)YX of each branch to the same."""
        results = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        sums = []
        for links, own in zip(self.links, results, strict=True):
            assert isinstance(links, nn.ModuleList)
            parts = [resize_linear(link(x), own.shape[2:], corners=self.corners) for link, x in zip(links, results, strict=True)]
            sums.append(self.activation(sum(parts[1:], parts[0])))
        return sums


def _residual(style: Style, width: int, *, activated: bool) -> ResidualBlock:
    """A residual block, with or without a non-linearity between its convolutions."""
    block = ResidualBlock(style, width, width, 3)
    if not activated:
        block.first.activation = nn.Identity()
    return block


def _link(style: Style, features: Sequence[int], pools: Sequence[tuple[int, ...]], source: int, target: int) -> nn.Module:
    """What brings a branch to the channels and, where it is the finer one, to the resolution of another."""
    n_in, n_out = features[source], features[target]
    if source == target:
        return nn.Identity()
    if source > target:  # interpolated afterwards: there are fewer voxels before
        return ConvolutionBlock(style, n_in, n_out, 1, activated=False)
    last = target - 1
    return nn.Sequential(
        *(
            ConvolutionBlock(style, n_in, n_out if step == last else n_in, 3, activated=step != last, stride=pools[step])
            for step in range(source, target)
        )
    )


class HRNet(Network):
    """HRNet (Wang et al. 2020, https://arxiv.org/abs/1908.07919): parallel branches of all resolutions that exchange their results.

    Examples:
        >>> options = HRNetOptions(features=(4, 8), blocks=1, stem_features=4)
        >>> network = HRNet(options, ndim=2, in_channels=1, heads={"F": 1})
        >>> tuple(network(torch.zeros(1, 1, 33, 50))["F"].shape), network.multiple
        ((1, 1, 33, 50), (8, 8))
    """

    kind: ClassVar[str] = "hrnet"
    options: HRNetOptions

    def __init__(self, options: HRNetOptions, *, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
        super().__init__(options, ndim=ndim, in_channels=in_channels, heads=heads)
        self._stem, self._pools = options.stem_size(ndim), options.pool_sizes(ndim)
        style = Style(ndim, options.norm, options.activation, options.groups)
        inside = Style(ndim, options.norm, "relu", options.groups) if options.as_trained else style
        width, wide = options.stem_features, _EXPANSION * options.stem_features
        self.stem = nn.Sequential(
            ConvolutionBlock(style, in_channels, width, 3, activated=not options.as_trained, stride=self._stem),
            ConvolutionBlock(style, width, width, 3, stride=self._stem),
        )
        starts = (Bottleneck(inside, wide if n else width, width, activated=not options.as_trained) for n in range(options.stem_blocks))
        self.start = nn.Sequential(*starts)
        self.transitions, self.stages = nn.ModuleList(), nn.ModuleList()
        before: tuple[int, ...] = (wide,)
        for step, modules in enumerate(options.module_counts()):
            features = options.features[: step + 2]
            self.transitions.append(self._transition(style, before, features))
            exchanges = (
                Exchange((style, inside), features, self._pools[: step + 1], options.blocks, as_trained=options.as_trained)
                for _ in range(modules)
            )
            self.stages.append(nn.Sequential(*exchanges))
            before = features
        self.outputs = nn.ModuleDict({name: convolution(ndim, sum(before), number, 1) for name, number in self.heads.items()})
        initialise(self)

        # from corner to corner, the place of a voxel depends on the size of the tile
        self.norm_over_space = options.norm in ("group", "instance") or options.as_trained
        self.multiple = tuple(stem**2 * prod(pools) for stem, *pools in zip(self._stem, *self._pools, strict=True))
        self.receptive_halo = tuple(self._halo(axis) for axis in range(ndim))

    def _transition(self, style: Style, before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
        """To the channels of the branches that go on, and to the one that begins."""
        kept = (
            nn.Identity() if n_in == n_out else ConvolutionBlock(style, n_in, n_out, 3)
            for n_in, n_out in zip(before, after[:-1], strict=True)
        )
        # the new branch comes from the coarsest one
        return nn.ModuleList([*kept, ConvolutionBlock(style, before[-1], after[-1], 3, stride=self._pools[len(after) - 2])])

    def _halo(self, axis: int) -> int:
        """Upper bound of the distance that an output voxel sees along an axis."""
        edges = [self._stem[axis] ** 2]  # voxels of the image per voxel of each branch
        for pool in self._pools:
            edges.append(edges[-1] * pool[axis])
        # a strided convolution with a kernel of 3 looks one voxel of the finer grid to each side
        reach = [1 + self._stem[axis] + self.options.stem_blocks * edges[0]]
        for step, modules in enumerate(self.options.module_counts()):
            finest = reach[0] + edges[0] if step == 0 else reach[0]  # of these branches, the first changes its channels once
            reach = [finest, *reach[1:], reach[-1] + edges[step]]
            for _ in range(modules):
                reach = [far + 2 * self.options.blocks * edge for far, edge in zip(reach, edges, strict=False)]
                reach = [max(self._linked(reach, edges, source, target) for source in range(len(reach))) for target in range(len(reach))]
        seen = max(self._linked(reach, edges, source, 0) for source in range(len(reach)))
        return seen + _interpolated(1, edges[0])

    @staticmethod
    def _linked(reach: Sequence[int], edges: Sequence[int], source: int, target: int) -> int:
        if source > target:
            return reach[source] + _interpolated(edges[target], edges[source])
        return reach[source] + sum(edges[source:target])

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of each head for an image whose edges are multiples of `multiple`."""
        shape = x.shape[2:]
        branches = [self.start(self.stem(x))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            assert isinstance(transition, nn.ModuleList)
            begun = [*branches, branches[-1]]
            branches = stage([change(branch) for change, branch in zip(transition, begun, strict=True)])
        finest = branches[0].shape[2:]
        joined = torch.cat([resize_linear(branch, finest, corners=self.options.as_trained) for branch in branches], dim=1)
        return {name: resize_linear(output(joined), shape) for name, output in self.outputs.items()}


def _interpolated(fine: int, coarse: int) -> int:
    """How far linear interpolation looks, in voxels of the image, from a grid with voxels of `coarse` to one with voxels of `fine`."""
    factor = coarse // fine
    # a fine voxel lies between the centres of two coarse ones
    below = [(2 * position + 1 - factor) // (2 * factor) for position in range(factor)]
    distances = [(start * coarse - position * fine, (start + 1) * coarse - position * fine) for position, start in enumerate(below)]
    return max(abs(distance) for pair in distances for distance in pair) if factor > 1 else 0
