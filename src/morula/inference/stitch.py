"""Blend overlapping tiles into finished boxes, with only the overlaps in memory.

Weighted tiles are added axis by axis. Along one axis, tile i is complete up to the first voxel of tile i + 1; the rest is passed on::

    tile 0        |######|....|                  #  finished, emitted
    tile 1               |....######|....|       .  held back and added to the next tile
    tile 2                          |....####|

The outermost loop runs along the longest axis, so that the held zones have the smallest cross-section.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from morula.inference.plan import Tiles

Index = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Weighted values K(Z)YX of the tile at `index`, or a part of them; `start` is the first voxel in the image."""

    index: Index
    start: tuple[int, ...]
    values: np.ndarray


def tile_order(plan: Tiles) -> list[Index]:
    """Indices of all tiles in the order in which they are predicted: the longest axis of the image is the outermost loop."""
    order = _order(plan)
    steps = itertools.product(*(range(len(plan.starts[axis])) for axis in order))
    return [tuple(step[order.index(axis)] for axis in range(plan.ndim)) for step in steps]


def layers(plan: Tiles) -> int:
    """Number of layers of tiles along the longest axis, which are predicted one after the other."""
    return len(plan.starts[_order(plan)[0]])


def layers_of(plan: Tiles, first: int, last: int) -> tuple[int, int]:
    """The first layer of tiles, and the one behind the last, of those that write the voxels first <= index < last of the longest axis."""
    begins = [begin for begin, _ in plan.weights(outer_axis(plan.shape))]
    return bisect.bisect_right(begins, first) - 1, bisect.bisect_left(begins, last)


def outer_axis(shape: Sequence[int]) -> int:
    """The longest axis, along which the layers lie."""
    return max(range(len(shape)), key=lambda axis: shape[axis])


def layer_size(plan: Tiles) -> int:
    """Tiles of a layer."""
    return plan.n_tiles // layers(plan)


def blended_layer(plan: Tiles, layer: int) -> int:
    """The first layer that contributes to the voxels of a layer."""
    weights = plan.weights(_order(plan)[0])
    begin = weights[layer][0]
    return next(i for i, (start, values) in enumerate(weights) if i == layer or start + len(values) > begin)


def stitch(plan: Tiles, tiles: Iterable[tuple[Index, np.ndarray]], first_layer: int = 0) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Blend predicted tiles, given in the order of `tile_order`, into boxes that cover the image once.

    A box is emitted as soon as no later tile overlaps it. Held in memory are the blended zones of one tile, one row and one layer of tiles
    (nothing where tiles do not overlap beyond their margins).

    Args:
        plan: positions and weights of the tiles.
        tiles: (index, prediction K(Z)YX float32 of a whole tile), from `blended_layer` of `first_layer` on.
        first_layer: boxes of earlier layers are not emitted.

    Yields:
        (first voxel (Z)YX, values K(Z)YX float32) of each box.
    """
    weights = [plan.weights(axis) for axis in range(plan.ndim)]
    pieces: Iterator[Piece] = (_weighted(plan, weights, index, values) for index, values in tiles)
    # the innermost axis is merged first, because its tiles arrive one after the other
    for axis in reversed(_order(plan)):
        pieces = _merged(pieces, axis, [begin for begin, _ in weights[axis]])
    outermost = _order(plan)[0]
    for piece in pieces:
        if piece.index[outermost] >= first_layer:
            yield piece.start, piece.values


def _order(plan: Tiles) -> list[int]:
    return sorted(range(plan.ndim), key=lambda axis: -plan.shape[axis])


def _weighted(plan: Tiles, weights: list[list[tuple[int, np.ndarray]]], index: Index, values: np.ndarray) -> Piece:
    """The part of a tile with non-zero weights, times these weights."""
    parts = [weights[axis][i] for axis, i in enumerate(index)]
    offsets = [begin - plan.starts[axis][i] for axis, (i, (begin, _)) in enumerate(zip(index, parts, strict=True))]
    box = tuple(slice(offset, offset + len(weight)) for offset, (_, weight) in zip(offsets, parts, strict=True))
    values = values[(slice(None), *box)]
    for axis, (_, weight) in enumerate(parts):
        # most axes of most tiles have weight 1 everywhere: skip the multiplication
        if (weight != 1).any():
            values = values * weight.reshape([-1 if i == axis else 1 for i in range(plan.ndim)])
    return Piece(index, tuple(begin for begin, _ in parts), values)


def _merged(pieces: Iterable[Piece], axis: int, begins: list[int]) -> Iterator[Piece]:
    """Pieces added along one axis: each emits the voxels before the start of the next tile and passes the rest on to that tile."""
    held: dict[Index, np.ndarray] = {}
    for piece in pieces:
        i = piece.index[axis]
        others = piece.index[:axis] + piece.index[axis + 1 :]
        values = _sum(piece.values, held.pop(others, None), axis + 1)
        if i + 1 < len(begins):
            cut = begins[i + 1] - piece.start[axis]
            done, rest = np.split(values, [cut], axis=axis + 1)
            if rest.shape[axis + 1]:
                held[others] = rest.copy()  # a view would keep the whole tile in memory
            values = done
        yield Piece(piece.index, piece.start, values)


def _sum(values: np.ndarray, held: np.ndarray | None, axis: int) -> np.ndarray:
    """Sum of two arrays with the same first voxel; the result has the length of the longer one."""
    if held is None:
        return values
    longer, shorter = (values, held) if values.shape[axis] >= held.shape[axis] else (held, values)
    total = longer.copy()
    total[tuple(slice(n) for n in shorter.shape)] += shorter
    return total
