"""Skeletons of single objects, and their longest path.

The longest of all shortest paths in a graph is its diameter. Computing all of them is quadratic; bounds on the farthest voxel of each voxel
exclude almost all of them after a few (Takes and Kosters, CIKM 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix


def skeleton(mask: np.ndarray, spacing: Sequence[float], mode: Literal["full", "main"] = "full") -> np.ndarray:
    """Skeleton of one object: voxels of the mask, at least one where the mask has any.

    `main` keeps the longest path: in the largest connected component, the path between its two most distant voxels, over all 8 or 26
    neighbours, with lengths under `spacing`.

    Examples:
        >>> skeleton(np.ones((3, 7), bool), (1, 1)).sum() > 0
        np.True_
    """
    from skimage.morphology import skeletonize  # slow to import, and listing representations imports this module

    # padded, so that an object that fills its box has background on all sides
    thin = skeletonize(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]
    if not thin.any():  # thinning can remove a small object completely; its centre stands for it
        thin = np.zeros_like(mask)
        inside = np.argwhere(mask)
        if len(inside):
            thin[tuple(inside[(((inside - inside.mean(axis=0)) * spacing) ** 2).sum(axis=1).argmin()])] = True
    return _longest_path(thin, spacing) if mode == "main" else thin


def _longest_path(thin: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    from scipy.sparse.csgraph import dijkstra

    voxels = np.argwhere(thin)
    if len(voxels) < 3:
        return thin
    graph = _neighbour_graph(thin, voxels, spacing)
    start, reached = 0, np.zeros(len(voxels), bool)
    remaining = np.ones(len(voxels), bool)
    while remaining.any():  # the largest connected component
        source = int(remaining.argmax())
        piece = np.isfinite(dijkstra(graph, indices=source))
        if piece.sum() > reached.sum():
            start, reached = source, piece
        remaining &= ~piece
    first = _outermost(graph, start, reached)
    lengths, before = dijkstra(graph, indices=first, return_predecessors=True)
    path = [_farthest(lengths)]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    out = np.zeros_like(thin)
    out[tuple(voxels[path].T)] = True
    return out


def _outermost(graph: coo_matrix, start: int, piece: np.ndarray) -> int:
    """An end of the longest of all shortest paths within a connected component.

    With rings, the voxel farthest from an arbitrary one need not be an end. The distances from each examined voxel bound those of all
    others; voxels that can still have a longer path are examined, the most promising first.
    """
    from scipy.sparse.csgraph import dijkstra

    bound = np.where(piece, np.inf, -np.inf)
    best, longest, here = start, -1.0, start
    while bound[here] > longest * (1 + 1e-9):
        lengths = dijkstra(graph, indices=here)
        far = _farthest(lengths)
        if lengths[far] > longest:
            best, longest = here, float(lengths[far])
        bound = np.minimum(bound, lengths[far] + lengths)
        bound[here] = lengths[far]
        # alternate between the farthest voxel, which raises the best length, and the highest bound
        here = far if bound[far] > longest * (1 + 1e-9) else int(bound.argmax())
    return best


def _farthest(lengths: np.ndarray) -> int:
    return int(np.where(np.isfinite(lengths), lengths, -1).argmax())


def _neighbour_graph(thin: np.ndarray, voxels: np.ndarray, spacing: Sequence[float]) -> coo_matrix:
    from scipy.sparse import coo_matrix

    index = np.full(tuple(n + 2 for n in thin.shape), -1)
    index[tuple((voxels + 1).T)] = np.arange(len(voxels))
    rows, columns, weights = [], [], []
    for offset in np.argwhere(np.ones((3,) * thin.ndim)) - 1:
        if not offset.any():
            continue
        # the index is padded by one voxel, so that no neighbour needs a test of the border
        other = index[tuple((voxels + 1 + offset).T)]
        here = np.flatnonzero(other >= 0)
        rows.append(here)
        columns.append(other[here])
        weights.append(np.full(len(here), float(np.linalg.norm(offset * np.asarray(spacing)))))
    size = len(voxels)
    return coo_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(size, size)).tocsr()
