"""Planning tiles: they must fit into memory and should compute as few voxels as possible.

Each axis offers candidates (tile length, number of tiles): of all lengths with the same number of tiles only the shortest matters. All
combinations of candidates over the axes are compared, those that exceed the memory are dropped, and the best of the rest is taken, by
in this order: context left to the network, computed voxels, number of tiles, longest edge.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from morula.core.errors import OptionError
from morula.inference.window import Weights, tile_weights

EXACT_COST = 4.0  # computed voxels / voxels of the image up to which tiles overlap enough to equal the untiled prediction
CUT_OVERLAP = 0.25  # share of the tile that overlaps beyond that cost
_CANDIDATES = 96  # tile lengths that are compared per axis


class Tiles(Protocol):
    """Positions and weights of tiles, as reading, predicting and stitching need them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z)YX of the image."""

    @property
    def tile(self) -> tuple[int, ...]:
        """(Z)YX of the input of the network, reflect-padded beyond the ends of the image."""

    @property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """Starts of the tiles per axis; there is one tile per combination."""

    @property
    def batch(self) -> int:
        """Tiles per forward pass."""

    @property
    def ndim(self) -> int:
        """2 or 3."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""

    def weights(self, axis: int) -> Weights:
        """Per tile along an axis: the first voxel to which it contributes, and its weights from there; weights of a voxel add up to 1."""


@dataclass(frozen=True)
class TilePlan:
    """Equal tiles that cover an image of `shape` (Z)YX; all lengths in voxels.

    Every tile starts on the pooling grid, so that pooling is the same as in the whole image. The last tile of an axis may extend beyond
    the end of the image by less than one pooling step, or more where the image is smaller than the tile; it is reflect-padded there.

    Attributes:
        shape: (Z)YX of the image.
        tile: (Z)YX of a tile.
        overlap: voxels that neighbouring tiles share at least, per axis.
        margin: outer voxels of a tile that are discarded; the rest of the overlap is blended.
        starts: starts of the tiles per axis.
        batch: tiles per forward pass.
        peak_bytes: memory of a forward pass.
        exact: whether the margin covers the halo of the network, so that tiled and untiled predictions agree.
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
        """Input voxels of the network, all tiles together."""
        return self.n_tiles * math.prod(self.tile)

    @property
    def ramp(self) -> tuple[int, ...]:
        """Voxels behind the margin over which the weight of a tile rises."""
        return tuple(overlap - 2 * margin for overlap, margin in zip(self.overlap, self.margin, strict=True))

    def weights(self, axis: int) -> Weights:
        """Weights of the tiles along an axis, see `Tiles`."""
        return tile_weights(self.shape[axis], self.tile[axis], self.starts[axis], margin=self.margin[axis], ramp=self.ramp[axis])


@dataclass(frozen=True)
class _Overlap:
    """Overlap as a function of the tile length: a share of the tile, or a number of voxels, or the smaller of both."""

    voxels: int | None = None
    share: float | None = None
    step: int = 0

    def __call__(self, tile: int) -> int:
        if self.share is None:
            return self.voxels or 0
        # tiles of one plane share nothing
        shared = min(math.ceil(self.share * tile), tile - 1)
        return shared if self.voxels is None else max(0, min(shared, self.voxels, tile - self.step))


@dataclass(frozen=True)
class _Axis:
    """One axis: the length to cover (a multiple of the pooling step), the pooling step, and the overlap."""

    length: int
    step: int
    overlap: _Overlap

    def stride(self, tile: int) -> int:
        """Largest distance between two starts; 0 when a tile is not longer than its overlap."""
        return max(0, (tile - self.overlap(tile)) // self.step * self.step)

    def count(self, tile: int) -> int:
        """Number of tiles; 0 when this length cannot cover the axis."""
        if tile >= self.length:
            return 1
        stride = self.stride(tile)
        return 1 + -(-(self.length - tile) // stride) if stride else 0

    def view(self, tile: int, halo: int) -> float:
        """Share of the receptive field that is available near the borders of tiles."""
        return 1.0 if tile >= self.length or not halo else min(1.0, self.overlap(tile) / (2 * halo))

    def starts(self, tile: int) -> tuple[int, ...]:
        """Starts of the tiles, evenly distributed on the pooling grid."""
        count, steps = self.count(tile), max(0, self.length - tile) // self.step
        return tuple(steps * i // (count - 1) * self.step for i in range(count)) if count > 1 else (0,)

    def candidates(self) -> list[tuple[int, int]]:
        """(tile length, number of tiles) pairs, the longest first; per number of tiles only the shortest length."""
        best = {}
        for tile in range(self.length, 0, -self.step):
            count = self.count(tile)
            if count:
                best[count] = tile
        pairs = [(tile, count) for count, tile in sorted(best.items())]
        # long axes have thousands of candidates: keep them at equal ratios, which costs little accuracy
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
    """The tiles that compute the fewest voxels within the given memory.

    Args:
        shape: (Z)YX of the image.
        halo: radius of the receptive field in voxels, per axis.
        multiple: product of the network's poolings per axis; a tile is a multiple of it.
        memory: bytes that a forward pass may use.
        bytes_per_voxel: bytes that it uses per input voxel, see `morula.inference.memory.measure_bytes_per_voxel`.
        tile: shape of the tiles, for networks that normalise over space and need the size of their training patches. `None` plans it:
            the whole image where it fits.
        overlap: overlap of neighbouring tiles, as a fraction of the tile (below 1) or in voxels per axis. Tiles start at multiples of
            `multiple`, except where a given tile is too short for this fraction. `None` takes twice the halo, with which tiled and untiled
            predictions are equal; where that does not fit or computes more than 4 times the voxels of the image, it takes a quarter of the
            tile and `exact` is false.
        max_batch: largest number of tiles per forward pass.

    Raises:
        OptionError: when no tile fits into the memory, or tile, overlap and network do not fit each other.

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
    # covered lengths are rounded up to the pooling grid, and to the tile where the image is smaller
    lengths = [max(-(-n // m) * m, t) for n, m, t in zip(shape, multiple, tile or multiple, strict=True)]
    for rule in _rules(halo, multiple, overlap):
        given = tile or (None,) * len(shape)
        axes = [_Axis(n, _step(m, o, t), o) for n, m, o, t in zip(lengths, multiple, rule, given, strict=True)]
        chosen = _cheapest(axes, halo, room) if tile is None else _given(axes, tuple(tile), room)
        if chosen is None:
            continue
        plan = _place(shape, halo, axes, chosen, batch=max(1, min(max_batch, room // math.prod(chosen))), bytes_per_voxel=bytes_per_voxel)
        if any(start % m for starts, m in zip(plan.starts, multiple, strict=True) for start in starts):
            plan = replace(plan, exact=False)  # off the pooling grid, a tile is pooled differently from the whole image
        # an exact plan that is too expensive is replaced by the next rule
        if overlap is not None or not plan.exact or plan.computed_voxels <= EXACT_COST * math.prod(lengths):
            return plan
    smallest = math.prod(multiple if tile is None else tile)
    raise OptionError(
        "tile.memory",
        f"{_size(memory)} are not enough: the smallest possible tile, {_times(multiple if tile is None else tuple(tile))}, "
        f"needs {_size(smallest * bytes_per_voxel)}"
        + (f", and the overlap {overlap} must be smaller than the tile" if overlap is not None else ""),
        key="memory",
        value=memory,
        remedy="Give more memory or a smaller overlap, or use a smaller network.",
    )


def _step(multiple: int, overlap: _Overlap, tile: int | None) -> int:
    """Distance of possible starts: the pooling step, or 1 where a given tile is too short to reach its neighbour on the pooling grid."""
    stated = overlap.share is not None and overlap.voxels is None
    return 1 if stated and tile is not None and tile - overlap(tile) < multiple else multiple


def _rules(halo: tuple[int, ...], multiple: tuple[int, ...], overlap: float | Sequence[int] | None) -> list[list[_Overlap]]:
    """Rules for the overlap per axis, in order of preference: the second is used where the first is impossible or too expensive."""
    if isinstance(overlap, int | float):
        return [[_Overlap(share=overlap)] * len(halo)]
    if overlap is not None:
        return [[_Overlap(voxels=voxels) for voxels in overlap]]
    return [[_Overlap(voxels=2 * h) for h in halo], [_Overlap(2 * h, CUT_OVERLAP, m) for h, m in zip(halo, multiple, strict=True)]]


def _cheapest(axes: list[_Axis], halo: tuple[int, ...], room: int) -> tuple[int, ...] | None:
    """The best tile of at most `room` voxels, see the head of this module.

    Where the overlap is a share of the tile, fewer tiles come before fewer voxels, because the share costs the same for every tile.
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
    # compared in this order; each key only decides between candidates that are equal in the earlier ones
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


def _place(
    shape: tuple[int, ...], halo: tuple[int, ...], axes: list[_Axis], tile: tuple[int, ...], *, batch: int, bytes_per_voxel: float
) -> TilePlan:
    starts = tuple(axis.starts(t) for axis, t in zip(axes, tile, strict=True))
    overlap = tuple(axis.overlap(t) if len(s) > 1 else 0 for axis, t, s in zip(axes, tile, starts, strict=True))
    # with less overlap than twice the halo, half of it is discarded and half blended
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
            raise OptionError("tile.dimensions", f"must have one length per axis ({len(shape)})", key=name, value=tuple(value))
    if min(shape) < 1:
        raise OptionError("tile.empty_image", "every axis of the image must have at least 1 voxel", key="shape", value=shape)
    if tile is not None and any(t < 1 or t % m for t, m in zip(tile, multiple, strict=True)):
        raise OptionError(
            "tile.not_a_multiple",
            f"must be a multiple of {multiple}, the product of the poolings of the network",
            key="tile",
            value=tuple(tile),
        )
    if isinstance(overlap, int | float) and not 0 <= overlap < 1:
        raise OptionError(
            "overlap.fraction", "must be a fraction of the tile from 0 to below 1, or voxels per axis", key="overlap", value=overlap
        )
    if (
        isinstance(overlap, Sequence)
        and tile is not None
        and any(o < 0 or o > t - m for o, t, m in zip(overlap, tile, multiple, strict=True))
    ):
        raise OptionError(
            "overlap.too_large",
            f"must be at most {tuple(t - m for t, m in zip(tile, multiple, strict=True))} for the tile {tuple(tile)}",
            key="overlap",
            value=tuple(overlap),
        )


def _times(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))


def _size(n: float) -> str:
    return f"{n / 1e9:.3g} GB" if n >= 1e8 else f"{n / 1e6:.3g} MB"
