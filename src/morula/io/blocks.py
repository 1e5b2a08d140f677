"""Shapes of the chunks in files, and of the blocks in which large arrays are processed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from morula.core.array import ArraySource
from morula.core.region import blocks

BLOCK_BYTES = 2**26  # 64 MB: many chunks at once, and little beside the memory of any machine


def chunk_shape(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Shape of the chunks of a new array: 512 x 512 in 2D, 64 x 128 x 128 in 3D, one channel or time point.

    Examples:
        >>> chunk_shape((2, 40, 1000, 100), "CZYX")
        (1, 40, 128, 100)
    """
    # chunks of 1 MB in 3D and 256 KB in 2D for one byte per voxel: a plane or a small box needs few chunks, and each compresses well
    edge = {"Z": 64, "Y": 128, "X": 128} if "Z" in axes else {"Y": 512, "X": 512}
    return tuple(max(1, min(n, edge.get(letter, 1))) for n, letter in zip(shape, axes.upper(), strict=True))


def block_shape(shape: Sequence[int], itemsize: int, chunks: Sequence[int] | None = None, limit: int = BLOCK_BYTES) -> tuple[int, ...]:
    """Shape of the largest block of whole chunks below `limit` bytes (at least one chunk); the last axes are filled first.

    Examples:
        >>> block_shape((100, 512, 512), 2, (1, 512, 512), limit=2**20)
        (2, 512, 512)
    """
    # only whole chunks: a chunk that is shared by two blocks would be decompressed twice
    block = [min(c, max(n, 1)) for c, n in zip(chunks or [1] * len(shape), shape, strict=True)]
    for axis in reversed(range(len(shape))):
        rest = itemsize * int(np.prod([b for a, b in enumerate(block) if a != axis], dtype=np.int64))
        whole = max(1, limit // max(1, rest * block[axis])) * block[axis]
        block[axis] = max(1, min(whole, shape[axis]))
    return tuple(block)


def iterate_blocks(data: ArraySource, limit: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
    """The values of an array, block by block, of at most `limit` bytes each."""
    shape = block_shape(data.shape, np.dtype(data.dtype).itemsize, getattr(data, "chunks", None), limit)
    for box in blocks(data.shape, shape):
        yield np.asarray(data[box.slices])
