"""Outlines of objects as polygons along the edges of pixels, and the pixels inside polygons. The one undoes the other, pixel by pixel.

An outline runs along the edges of the pixels, through corners with whole coordinates: pixel (y, x) is the square from (y, x) to
(y + 1, x + 1). The outline of one pixel has 4 corners::

    (y, x) -----> (y, x + 1)
       ^    pixel     |
       |              v        inside is on the right
    (y + 1, x) <--- (y + 1, x + 1)

Each piece of an object (pixels connected by edges) gives one outer ring, clockwise on the screen, and one ring per hole. Rings of one piece
may touch at a corner but never cross, so that they are valid polygons (OGC 06-103r4, simple features). A pixel is inside polygons when
its centre is, by the even-odd rule.
"""

from __future__ import annotations

import cc3d
import numpy as np

from morula.core.compiled import njit

_DY, _DX = np.array([0, 1, 0, -1]), np.array([1, 0, -1, 0])  # east, south, west, north: each is the right turn of the one before


def trace(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outlines of all objects of a plane.

    Args:
        labels: (Y, X) unsigned integers; 0 is background.

    Returns:
        Corners (y, x) of all rings, (n, 2) int32, the last one not repeated; the index of each ring's first corner, and the end, (r + 1,);
        and (r, 2): the id of each ring's object, and the number of its piece, from 1. The outer ring of a piece comes before its holes.

    Examples:
        >>> corners, starts, of = trace(np.array([[0, 7, 7]], np.uint32))
        >>> corners.tolist(), starts.tolist(), of.tolist()
        ([[0, 1], [0, 3], [1, 3], [1, 1]], [0, 4], [[7, 1]])
    """
    # pieces are connected by edges alone: two that touch at a corner are two polygons
    labels = np.require(labels, requirements=["C", "W"])  # cc3d takes no array that is mapped from a file
    pieces, number = cc3d.connected_components(labels, connectivity=4, return_N=True, out_dtype=np.uint32)
    corners, starts, of = _traced(pieces.reshape(labels.shape))
    ids = np.zeros(number + 1, np.int64)
    ids[pieces.ravel()] = labels.ravel()
    order = np.argsort(of, kind="stable")  # rings of a piece together; the first one that is met is the outer one
    lengths = np.diff(starts)[order]
    new = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(starts[:-1][order] - new[:-1], lengths) + np.arange(new[-1])
    return corners[places], new, np.stack([ids[of[order]], of[order]], axis=1)


@njit(cache=True, nogil=True)
def _traced(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: C901 - the loop over pixels
    ny, nx = pieces.shape
    seen = np.zeros((ny, nx), np.bool_)  # upper edges of pixels that are part of a ring; each ring has one
    corners, starts, of = np.zeros((1024, 2), np.int32), np.zeros(256, np.int64), np.zeros(256, np.int64)
    n_corners = n_rings = 0
    for y in range(ny):
        for x in range(nx):
            piece = pieces[y, x]
            if piece == 0 or seen[y, x] or (y > 0 and pieces[y - 1, x] == piece):
                continue
            if n_rings + 1 >= len(of):
                starts, of = _longer(starts), _longer(of)
            of[n_rings] = piece
            cy, cx, direction = y, x, 0
            while True:
                if direction == 0:
                    seen[cy, cx] = True
                cy, cx = cy + _DY[direction], cx + _DX[direction]
                # the pixels ahead of the corner: one that belongs to the piece is followed to the left first, so that a ring never meets
                # itself at a corner where two pixels of the piece touch
                left, right = _ahead(pieces, cy, cx, direction)
                turn = direction
                if left == piece:
                    turn = (direction + 3) % 4
                elif right != piece:
                    turn = (direction + 1) % 4
                if turn != direction:
                    if n_corners == len(corners):
                        corners = np.concatenate((corners, np.zeros_like(corners)))
                    corners[n_corners, 0], corners[n_corners, 1] = cy, cx
                    n_corners += 1
                direction = turn
                if cy == y and cx == x and direction == 0:
                    break
            n_rings += 1
            starts[n_rings] = n_corners
    return _from_the_start(corners[:n_corners], starts[: n_rings + 1]), starts[: n_rings + 1], of[:n_rings]


@njit(cache=True, nogil=True)
def _ahead(pieces: np.ndarray, y: int, x: int, direction: int) -> tuple[int, int]:  # pragma: no cover - compiled
    """The pieces of the pixels to the left and to the right ahead of a corner; 0 outside of the image."""
    if direction == 0:
        left, right = (y - 1, x), (y, x)
    elif direction == 1:
        left, right = (y, x), (y, x - 1)
    elif direction == 2:
        left, right = (y, x - 1), (y - 1, x - 1)
    else:
        left, right = (y - 1, x - 1), (y - 1, x)
    ny, nx = pieces.shape
    a = pieces[left] if 0 <= left[0] < ny and 0 <= left[1] < nx else 0
    b = pieces[right] if 0 <= right[0] < ny and 0 <= right[1] < nx else 0
    return a, b


@njit(cache=True, nogil=True)
def _longer(values: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    return np.concatenate((values, np.zeros_like(values)))


@njit(cache=True, nogil=True)
def _from_the_start(corners: np.ndarray, starts: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    """The corners with each ring's last one first: it is the corner where the ring began."""
    out = np.empty_like(corners)
    for ring in range(len(starts) - 1):
        first, end = starts[ring], starts[ring + 1]
        out[first] = corners[end - 1]
        out[first + 1 : end] = corners[first : end - 1]
    return out


@njit(cache=True, nogil=True)
def fill(  # pragma: no cover - compiled
    plane: np.ndarray, corners: np.ndarray, starts: np.ndarray, ids: np.ndarray
) -> int:
    """Write the ids of polygons into a plane, in their order: later ones cover earlier ones.

    Args:
        plane: (Y, X) uint32; changed.
        corners: corners (y, x) of all rings, (n, 2) float64; pixel (y, x) has its centre at (y + 0.5, x + 0.5).
        starts: index of each ring's first corner, and the end, (r + 1,).
        ids: id of each ring, (r,). Consecutive rings of one id are one polygon: what is inside an even number of them is outside.

    Returns:
        Number of pixels that had another id before.
    """
    ny, nx = plane.shape
    covered = 0
    ring = 0
    while ring < len(ids):
        last = ring
        while last + 1 < len(ids) and ids[last + 1] == ids[ring]:
            last += 1
        first, end = starts[ring], starts[last + 1]
        if end > first:
            low = max(0, int(np.floor(corners[first:end, 0].min())))
            high = min(ny, int(np.ceil(corners[first:end, 0].max())))
            offsets, crossings = _crossings(corners, starts[ring : last + 2], low, high)
            for y in range(low, high):
                across = np.sort(crossings[offsets[y - low] : offsets[y - low + 1]])
                for k in range(0, len(across) - 1, 2):
                    for x in range(max(0, int(np.ceil(across[k] - 0.5))), min(nx, int(np.ceil(across[k + 1] - 0.5)))):
                        covered += plane[y, x] != 0 and plane[y, x] != ids[ring]
                        plane[y, x] = ids[ring]
        ring = last + 1
    return covered


@njit(cache=True, nogil=True)
def _crossings(  # pragma: no cover - compiled
    corners: np.ndarray, starts: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where edges cross the middles of the rows from `low` to `high`: the x of all, row by row, and the index of each row's first."""
    counts = np.zeros(max(high - low, 0) + 1, np.int64)
    for write in (False, True):
        if write:
            counts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)[:-1]))
            values, place = np.empty(counts[-1]), counts.copy()
        for ring in range(len(starts) - 1):
            begin, end = starts[ring], starts[ring + 1]
            for k in range(begin, end):
                j = k + 1 if k + 1 < end else begin
                y0, y1 = corners[k, 0], corners[j, 0]
                x0, x1 = corners[k, 1], corners[j, 1]
                if y0 > y1:
                    y0, y1, x0, x1 = y1, y0, x1, x0
                # the middle of a row is above an edge's lower end and not above its upper one, so that a corner counts once
                for y in range(max(low, int(np.ceil(y0 - 0.5))), min(high, int(np.ceil(y1 - 0.5)))):
                    if write:
                        values[place[y - low]] = x0 + (y + 0.5 - y0) / (y1 - y0) * (x1 - x0)
                        place[y - low] += 1
                    else:
                        counts[y - low] += 1
    return counts, values
