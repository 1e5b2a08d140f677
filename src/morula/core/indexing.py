"""NumPy indexing for lazy arrays, whose files can only read boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morula.core.array import AxisIndex, Index


def split_index(key: Index, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[AxisIndex, ...]]:
    """Split a NumPy index into two steps: slices with positive step to read from the file, and the index into the block that was read.

    Args:
        key: integer, slice, ellipsis, ``None``, index array, or a tuple of these.
        shape: of the array that is indexed.

    Returns:
        One slice per axis of the array, and the index to apply to the block.

    Raises:
        IndexError: as NumPy does.

    Examples:
        >>> split_index((..., 3), (10, 8))
        ((slice(0, 10, 1), slice(3, 4, 1)), (slice(None, None, None), 0))
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} dimensions, {used} were indexed")
    place = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    # the ellipsis, written or implied at the end, stands for all axes that are not named
    keys[place : place + 1] = [slice(None)] * (len(shape) - used)
    box: list[slice] = []
    rest: list[AxisIndex] = []
    for k in keys:
        if k is None:
            rest.append(None)
            continue
        wanted, within = _split_one(k, shape[len(box)])
        box.append(wanted)
        rest.append(within)
    return tuple(box), tuple(rest)


def _split_one(key: AxisIndex, n: int) -> tuple[slice, AxisIndex]:
    """The same for one axis of length `n`."""
    if isinstance(key, slice):
        start, stop, step = key.indices(n)
        if step > 0:
            # `indices` gives stop < start for an empty slice, which not every library accepts
            return slice(start, max(start, stop), step), slice(None)
        # a negative step is read forwards and reversed afterwards
        count = len(range(start, stop, step))
        return slice(start + (count - 1) * step, start + 1, -step) if count else slice(0, 0, 1), slice(None, None, -1)
    index = np.asarray(key)
    if index.dtype == bool:
        index = np.flatnonzero(index)
    if index.size == 0:
        return slice(0, 0, 1), index.astype(np.intp)
    # index arrays: read the smallest slice that contains all indices, then select from it
    index = np.where(index < 0, index + n, index)
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= n:
        raise IndexError(f"index {key!r} is out of bounds for a dimension of length {n}")
    return slice(low, high + 1, 1), index - low if index.ndim else 0
