"""How an image of any size is cut into tiles that fit the memory given and cost as little as possible."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from morula.core.errors import OptionError
from morula.inference.window import Weights, tile_weights

EXACT_COST = 4.0  # times the image's own voxels: what equality with the untiled prediction may cost before tiles overlap less
CUT_OVERLAP = 0.25  # of the tile, then
_CANDIDATES = 96  # tile lengths looked at per axis


class Tiles(Protocol):
    """What reading, predicting and stitching need to know of tiles, however they were laid."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z)YX of the image."""

    @property
    def tile(self) -> tuple[int, ...]:
        """(Z)YX of what the network is given, mirrored beyond the image's ends."""

    @property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxels of the tiles along each axis; a tile stands at each combination."""

    @property
    def batch(self) -> int:
        """Tiles in one forward call."""

    @property
    def ndim(self) -> int:
        """2 or 3."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""

    def weights(self, axis: int) -> Weights:
        """Of each tile along an axis: the first voxel to which it contributes, and its weights from there, which add up to 1."""


@dataclass(frozen=True)
class TilePlan:
    """Equal tiles that cover an image of `shape` (Z)YX; all lengths in voxels.

    Every tile starts on the pooling grid, so a network sees the same grid as in the whole image. The last tile of an axis may
    reach beyond the image's end by less than one pooling step, or further where the image is smaller than the tile: mirrored there.
    Neighbouring tiles share at least `overlap` voxels, of which the outer `margin` of each tile is thrown away and the rest blended.
    `exact` says that the margin holds all that the network sees, so that tiled and untiled predictions agree.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: tuple[int, ...]
    margin: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    batch: int
    peak_bytes: int
    exact: bool

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @cached_property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return math.prod(len(starts) for starts in self.starts)

    @property
    def computed_voxels(self) -> int:
        """Voxels that the network is given, all tiles together."""
        return self.n_tiles * math.prod(self.tile)

    @property
    def ramp(self) -> tuple[int, ...]:
        """Voxels over which a tile's weight rises behind its margin."""
        return tuple(overlap - 2 * margin for overlap, margin in zip(self.overlap, self.margin, strict=True))

    def weights(self, axis: int) -> Weights:
        """Of each tile along an axis, see `Tiles`."""
        return tile_weights(self.shape[axis], self.tile[axis], self.starts[axis], margin=self.margin[axis], ramp=self.ramp[axis])


@dataclass(frozen=True)
class _Overlap:
    """Overlap as a function of the tile length: at least a share of the tile, at most a number of voxels."""

    voxels: int | None = None
    share: float | None = None
    step: int = 0

    def __call__(self, tile: int) -> int:
        if self.share is None:
            return self.voxels or 0
        shared = math.ceil(self.share * tile)
        return shared if self.voxels is None else max(0, min(shared, self.voxels, tile - self.step))


@dataclass(frozen=True)
class _Axis:
    """One axis of the problem: the length to cover (a whole number of pooling steps), the step, and the overlap of a tile length."""

    length: int
    step: int
    overlap: _Overlap

    def stride(self, tile: int) -> int:
        """Largest distance between two starts, 0 when this tile cannot go on."""
        return max(0, (tile - self.overlap(tile)) // self.step * self.step)

    def count(self, tile: int) -> int:
        """Tiles needed, 0 when this length cannot cover the axis."""
        if tile >= self.length:
            return 1
        stride = self.stride(tile)
        return 1 + -(-(self.length - tile) // stride) if stride else 0

    def view(self, tile: int, halo: int) -> float:
        """Share of the network's field of view that neighbouring tiles leave it."""
        return 1.0 if tile >= self.length or not halo else min(1.0, self.overlap(tile) / (2 * halo))

    def starts(self, tile: int) -> tuple[int, ...]:
        """Starts of the tiles, evenly spread on the grid."""
        count, steps = self.count(tile), max(0, self.length - tile) // self.step
        return tuple(steps * i // (count - 1) * self.step for i in range(count)) if count > 1 else (0,)

    def candidates(self) -> list[tuple[int, int]]:
        """(tile length, count) pairs, the longest first: of all lengths with the same count only the shortest is worth a look."""
        best = {}
        for tile in range(self.length, 0, -self.step):
            count = self.count(tile)
            if count:
                best[count] = tile
        pairs = [(tile, count) for count, tile in sorted(best.items())]
        keep = np.unique(np.geomspace(1, len(pairs), min(_CANDIDATES, len(pairs))).round().astype(int)) - 1
        return [pairs[i] for i in keep]


def plan_tiles(
    shape: Sequence[int],
    *,
    halo: Sequence[int],
    multiple: Sequence[int],
    memory: int,
    bytes_per_voxel: float,
    tile: Sequence[int] | None = None,
    overlap: float | Sequence[int] | None = None,
    max_batch: int = 8,
) -> TilePlan:
    """The cheapest tiles, in voxels given to the network, that stay within the memory.

    Args:
        shape: (Z)YX of the image.
        halo: voxels that an output voxel sees on each side, per axis.
        multiple: product of the network's poolings per axis; a tile is a multiple of it.
        memory: bytes that one forward call may take.
        bytes_per_voxel: bytes that one takes for each voxel of its input, see `morula.inference.memory.measure_bytes_per_voxel`.
        tile: the tile's shape, for networks that normalise over space and must see what they saw in training. `None` plans it:
            the whole image where it fits.
        overlap: what neighbouring tiles share, as a fraction of the tile (below 1) or in voxels per axis. `None` takes twice the halo, with
            which tiled equals untiled; where that would cost more than 4 times the image or does not fit, it takes a quarter of the tile
            and `exact` is false.
        max_batch: most tiles in one forward call.

    Raises:
        OptionError: when no tile fits the memory, or tile and overlap do not fit each other or the network.

    Examples:
        >>> plan = plan_tiles((100, 512, 512), halo=(8, 8, 8), multiple=(4, 8, 8), memory=2**30, bytes_per_voxel=100)
        >>> plan.tile, plan.n_tiles, plan.exact
        ((100, 264, 264), 4, True)
        >>> plan_tiles((60, 60), halo=(8, 8), multiple=(8, 8), memory=2**30, bytes_per_voxel=100).tile
        (64, 64)
    """
    shape, halo, multiple = tuple(shape), tuple(halo), tuple(multiple)
    _check(shape, halo, multiple, tile=tile, overlap=overlap)
    room = int(memory / bytes_per_voxel)
    lengths = [max(-(-n // m) * m, t) for n, m, t in zip(shape, multiple, tile or multiple, strict=True)]
    for rule in _rules(halo, multiple, overlap):
        axes = [_Axis(n, m, rule[i]) for i, (n, m) in enumerate(zip(lengths, multiple, strict=True))]
        chosen = _cheapest(axes, halo, room) if tile is None else _given(axes, tuple(tile), room)
        if chosen is None:
            continue
        plan = _lay(shape, halo, axes, chosen, batch=max(1, min(max_batch, room // math.prod(chosen))), bytes_per_voxel=bytes_per_voxel)
        if overlap is not None or not plan.exact or plan.computed_voxels <= EXACT_COST * math.prod(lengths):
            return plan
    smallest = math.prod(multiple if tile is None else tile)
    raise OptionError(
        f"memory of {_size(memory)} is too little: the smallest possible tile, {_times(multiple if tile is None else tuple(tile))}, "
        f"takes {_size(smallest * bytes_per_voxel)}"
        + (f" and the overlap {overlap} must leave something of it" if overlap is not None else "")
        + ". Give more memory, a smaller overlap or use a smaller network."
    )


def _rules(halo: tuple[int, ...], multiple: tuple[int, ...], overlap: float | Sequence[int] | None) -> list[list[_Overlap]]:
    """How much tiles overlap, per axis: what is wanted, then what is taken where that cannot be or costs too much."""
    if isinstance(overlap, int | float):
        return [[_Overlap(share=overlap)] * len(halo)]
    if overlap is not None:
        return [[_Overlap(voxels=voxels) for voxels in overlap]]
    return [[_Overlap(voxels=2 * h) for h in halo], [_Overlap(2 * h, CUT_OVERLAP, m) for h, m in zip(halo, multiple, strict=True)]]


def _cheapest(axes: list[_Axis], halo: tuple[int, ...], room: int) -> tuple[int, ...] | None:
    """Tile of at most `room` voxels that leaves the network most of its field of view, then with the fewest computed voxels.

    Where the overlap is a share of the tile the fewest tiles go before: a share costs the same whatever the tile.
    """
    pairs = [axis.candidates() for axis in axes]
    if not all(pairs):
        return None
    views = [[axis.view(t, h) for t, _ in pair] for axis, pair, h in zip(axes, pairs, halo, strict=True)]
    tiles = np.ix_(*(np.array([tile for tile, _ in pair], float) for pair in pairs))
    counts = np.ix_(*(np.array([count for _, count in pair], float) for pair in pairs))
    voxels, n_tiles = math.prod(tiles[1:], start=tiles[0]), math.prod(counts[1:], start=counts[0])
    view = functools.reduce(np.minimum, np.ix_(*map(np.array, views)))
    fits = voxels <= room
    if not fits.any():
        return None
    keys = [-view, voxels * n_tiles, n_tiles, functools.reduce(np.maximum, tiles)]
    if any(axis.overlap.share is not None for axis in axes):
        keys.insert(1, n_tiles)
    for key in keys:
        key = np.broadcast_to(key, fits.shape)
        fits = fits & (key == key[fits].min())
    best = np.argwhere(fits)[0]
    return tuple(pair[i][0] for pair, i in zip(pairs, best, strict=True))


def _given(axes: list[_Axis], tile: tuple[int, ...], room: int) -> tuple[int, ...] | None:
    return tile if math.prod(tile) <= room and all(axis.count(t) for axis, t in zip(axes, tile, strict=True)) else None


def _lay(
    shape: tuple[int, ...], halo: tuple[int, ...], axes: list[_Axis], tile: tuple[int, ...], *, batch: int, bytes_per_voxel: float
) -> TilePlan:
    starts = tuple(axis.starts(t) for axis, t in zip(axes, tile, strict=True))
    overlap = tuple(axis.overlap(t) if len(s) > 1 else 0 for axis, t, s in zip(axes, tile, starts, strict=True))
    margin = tuple(h if o >= 2 * h else o // 4 for o, h in zip(overlap, halo, strict=True))
    exact = all(m >= h or len(s) == 1 for m, h, s in zip(margin, halo, starts, strict=True))
    margin = tuple(m if len(s) > 1 else 0 for m, s in zip(margin, starts, strict=True))
    batch = min(batch, math.prod(len(s) for s in starts))
    peak = math.ceil(math.prod(tile) * batch * bytes_per_voxel)
    return TilePlan(shape=shape, tile=tile, overlap=overlap, margin=margin, starts=starts, batch=batch, peak_bytes=peak, exact=exact)


def _check(
    shape: tuple[int, ...],
    halo: tuple[int, ...],
    multiple: tuple[int, ...],
    *,
    tile: Sequence[int] | None,
    overlap: float | Sequence[int] | None,
) -> None:
    given = {"halo": halo, "multiple": multiple, "tile": tile, "overlap": overlap}
    for name, value in given.items():
        if isinstance(value, Sequence) and len(value) != len(shape):
            raise OptionError(f"{name} {tuple(value)} has {len(value)} lengths but the image has {len(shape)} axes. Give one an axis.")
    if min(shape) < 1:
        raise OptionError(f"an image of shape {shape} is empty; every axis must have at least 1 voxel.")
    if tile is not None and any(t < 1 or t % m for t, m in zip(tile, multiple, strict=True)):
        raise OptionError(f"tile {tuple(tile)} is not a multiple of {multiple}, the product of the network's poolings. Choose one that is.")
    if isinstance(overlap, int | float) and not 0 <= overlap < 1:
        raise OptionError(f"overlap {overlap} is not a fraction of the tile; write 0 or more and less than 1, or voxels per axis.")
    if (
        isinstance(overlap, Sequence)
        and tile is not None
        and any(o < 0 or o > t - m for o, t, m in zip(overlap, tile, multiple, strict=True))
    ):
        raise OptionError(
            f"overlap {tuple(overlap)} leaves nothing of the tile {tuple(tile)}; it may be at most "
            f"{tuple(t - m for t, m in zip(tile, multiple, strict=True))}."
        )


def _times(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))


def _size(n: float) -> str:
    return f"{n / 1e9:.3g} GB" if n >= 1e8 else f"{n / 1e6:.3g} MB"
