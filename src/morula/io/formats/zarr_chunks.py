"""Chunks that a Zarr array declares but its folder does not contain.

Zarr allows writers to leave out chunks that hold only the fill value, and zarr reads a missing chunk as that value. A chunk that was
lost, in a copy that was stopped or on a share that was disconnected, looks the same. A missing chunk therefore counts as empty on
purpose, except where the array itself shows that it is not:

* another chunk that holds only the fill value is stored, so that the writer does not leave out such chunks;
* in an image (not in labels), no chunk is stored at all, or a missing chunk is enclosed by stored ones: microscopes and stitching programs
  leave empty regions at the border of an image, where no picture was taken, never between recorded pixels or planes::

      stored   stored  stored         missing  stored  stored
      stored  missing  stored         missing  stored  stored
      stored   stored  stored         missing  stored  stored
      an error                        padding, a warning
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import FileReadError
from morula.core.remedy import Remedy
from morula.io.formats.base import READ_AS_ZEROS, Request, reject_missing
from morula.io.metadata import MetadataWarning

_SMALLEST = 4
"""Chunks that are decoded to see whether the writer stores empty ones: a constant chunk compresses to the smallest file."""


def check_chunks(path: Path, array: Any, request: Request) -> None:
    """Raise for chunks that were lost, and warn about chunks that may have been; `request.missing` decides.

    Raises:
        FileReadError: naming the chunks.
    """
    if request.missing == "unchecked" or 0 in array.shape:
        return
    chunks = array.shards or array.chunks
    grid = tuple(math.ceil(n / chunk) for n, chunk in zip(array.shape, chunks, strict=True))
    sizes = dict(_files(path))
    if len(sizes) >= math.prod(grid):
        return
    stored = np.zeros(grid, bool)
    keys = {}
    for place in itertools.product(*map(range, grid)):
        keys[place] = array.metadata.encode_chunk_key(place)
        stored[place] = keys[place] in sizes
    missing = [keys[tuple(place)] for place in np.argwhere(~stored).tolist()]
    if not missing:
        return
    listing = ", ".join(missing[:10]) + (" ..." if len(missing) > 10 else "")
    rule = f"{len(missing)} of {stored.size} chunks are missing: {listing}"
    error = FileReadError("zarr.missing_chunks", rule, file=path, remedy=Remedy("copy the folder again from its source", READ_AS_ZEROS))
    sizes_of = {place: sizes[key] for place, key in keys.items() if key in sizes}
    if request.missing == "zeros" or _are_lost(array, stored, sizes_of, chunks, labels=request.labels):
        reject_missing(error, request.missing)
    elif not request.labels:
        text = f"{path}: {rule}; they are read as {array.fill_value!r}, as Zarr defines for empty regions"
        warnings.warn(MetadataWarning(text, code="zarr.missing_chunks", field="chunks", value=listing), stacklevel=4)


def _files(path: Path) -> Iterator[tuple[str, int]]:
    """Keys of the files in an array's folder and their sizes, the metadata aside."""
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.startswith(".") and name != "zarr.json":
                file = os.path.join(folder, name)
                yield os.path.relpath(file, path).replace(os.sep, "/"), os.path.getsize(file)


def _are_lost(array: Any, stored: np.ndarray, sizes: dict[tuple[int, ...], int], chunks: tuple[int, ...], *, labels: bool) -> bool:
    """Whether the array shows that its missing chunks were not left out on purpose."""
    if not sizes:
        return not labels
    if not labels and _has_gap(stored):
        return True
    for place in sorted(sizes, key=lambda one: sizes[one])[:_SMALLEST]:
        box = tuple(slice(index * chunk, (index + 1) * chunk) for index, chunk in zip(place, chunks, strict=True))
        if (np.asarray(array[box]) == array.fill_value).all():
            return True
    return False


def _has_gap(stored: np.ndarray) -> bool:
    """Whether missing chunks are enclosed in a plane, or a whole plane is missing between others.

    Examples:
        >>> grid = np.ones((3, 3), bool)
        >>> grid[0, 0] = False
        >>> _has_gap(grid)
        False
        >>> grid[1, 1] = False
        >>> _has_gap(grid)
        True
    """
    from scipy import ndimage  # only files with missing chunks need it

    grid = stored.reshape([n for n in stored.shape if n > 1])
    n_outer = max(0, grid.ndim - 2)
    in_plane = np.zeros((3,) * grid.ndim, bool)
    for axis in range(n_outer, grid.ndim):
        in_plane[tuple(slice(None) if a == axis else 1 for a in range(grid.ndim))] = True
    if (ndimage.binary_fill_holes(grid, in_plane) & ~grid).any():
        return True
    for axis in range(n_outer):
        planes = grid.any(axis=tuple(a for a in range(grid.ndim) if a != axis))
        if (ndimage.binary_fill_holes(planes) & ~planes).any():
            return True
    return False
