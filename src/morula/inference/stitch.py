"""Overlapping tiles become boxes that are finished, with as little held in memory as the overlaps need."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from morula.inference.plan import Tiles

Index = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Weighted values K(Z)YX of the tile at `index`, or what is left of it to hand on; `start` is its first voxel in the image."""

    index: Index
    start: tuple[int, ...]
    values: np.ndarray


def walk(plan: Tiles) -> list[Index]:
    """Indices of all tiles, the longest axis of the image outermost, so that what is held between tiles has the smallest cross-section."""
    order = _order(plan)
    steps = itertools.product(*(range(len(plan.starts[axis])) for axis in order))
    return [tuple(step[order.index(axis)] for axis in range(plan.ndim)) for step in steps]


def stitch(plan: Tiles, tiles: Iterable[tuple[Index, np.ndarray]]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Blend predicted tiles, given in the order of `walk`, to boxes that cover the image once.

    A box is handed out as soon as no later tile touches it. What is kept meanwhile are the blended zones of one tile, one row and one layer
    of tiles (nothing at all where tiles do not overlap beyond their margins).

    Args:
        plan: the tiles.
        tiles: (index, prediction K(Z)YX float32 of the tile's full shape).

    Yields:
        (first voxel (Z)YX, values K(Z)YX float32).
    """
    weights = [plan.weights(axis) for axis in range(plan.ndim)]
    pieces: Iterator[Piece] = (_weighted(plan, weights, index, values) for index, values in tiles)
    for axis in reversed(_order(plan)):
        pieces = _merged(pieces, axis, [begin for begin, _ in weights[axis]])
    for piece in pieces:
        yield piece.start, piece.values


def _order(plan: Tiles) -> list[int]:
    return sorted(range(plan.ndim), key=lambda axis: -plan.shape[axis])


def _weighted(plan: Tiles, weights: list[list[tuple[int, np.ndarray]]], index: Index, values: np.ndarray) -> Piece:
    """The part of a tile that counts, times its weights."""
    parts = [weights[axis][i] for axis, i in enumerate(index)]
    offsets = [begin - plan.starts[axis][i] for axis, (i, (begin, _)) in enumerate(zip(index, parts, strict=True))]
    box = tuple(slice(offset, offset + len(weight)) for offset, (_, weight) in zip(offsets, parts, strict=True))
    values = values[(slice(None), *box)]
    for axis, (_, weight) in enumerate(parts):
        if (weight != 1).any():
            values = values * weight.reshape([-1 if i == axis else 1 for i in range(plan.ndim)])
    return Piece(index, tuple(begin for begin, _ in parts), values)


def _merged(pieces: Iterable[Piece], axis: int, begins: list[int]) -> Iterator[Piece]:
    """Pieces added up along one axis: each hands out what lies before the next tile's first voxel and leaves the rest to that tile."""
    held: dict[Index, np.ndarray] = {}
    for piece in pieces:
        i = piece.index[axis]
        others = piece.index[:axis] + piece.index[axis + 1 :]
        values = _sum(piece.values, held.pop(others, None), axis + 1)
        if i + 1 < len(begins):
            cut = begins[i + 1] - piece.start[axis]
            done, rest = np.split(values, [cut], axis=axis + 1)
            if rest.shape[axis + 1]:
                held[others] = rest.copy()
            values = done
        yield Piece(piece.index, piece.start, values)


def _sum(values: np.ndarray, held: np.ndarray | None, axis: int) -> np.ndarray:
    """Two arrays that begin at the same voxel, added; the result is as long as the longer one."""
    if held is None:
        return values
    longer, shorter = (values, held) if values.shape[axis] >= held.shape[axis] else (held, values)
    total = longer.copy()
    total[tuple(slice(n) for n in shorter.shape)] += shorter
    return total
