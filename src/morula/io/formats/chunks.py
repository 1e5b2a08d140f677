"""Chunks that a Zarr or N5 array or an HDF5 data set declares but does not contain.

These formats allow writers to leave out chunks that hold only the fill value, and read a missing chunk as that value. A chunk that was
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

import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from morula.core.errors import FileReadError
from morula.core.location import check_links
from morula.core.remedy import Remedy
from morula.io.formats.base import READ_AS_ZEROS, Request, reject_missing
from morula.io.metadata import MetadataWarning, tell

if TYPE_CHECKING:
    import h5py

_SMALLEST = 4
"""Chunks that are decoded to see whether the writer stores empty ones: a constant chunk compresses to the smallest file."""
_MOST = 2**24
"""Most chunks of an array with missing ones; beyond, the declared shape is taken for damaged."""

Place = tuple[int, ...]


@dataclass(frozen=True)
class StoredChunks:
    """The chunks of an array: their shape, how many it declares along each axis, the bytes of those that are stored, and their names."""

    shape: tuple[int, ...]
    grid: tuple[int, ...]
    sizes: dict[Place, int]
    name: Callable[[Place], str]


def check_zarr_chunks(path: Path, array: Any, request: Request) -> None:
    """Raise for chunks of a Zarr array that were lost, and warn about chunks that may have been; `request.missing` decides.

    Raises:
        FileReadError: naming the chunks.
    """
    if request.missing == "unchecked" or 0 in array.shape:
        return
    # the key of a chunk is its place: `c/1/2`, `1/2` or `1.2`
    chunks = _stored(path, array.shape, array.shards or array.chunks, array.metadata.encode_chunk_key, request, first=1)
    _check(path, array, array.fill_value, chunks, request, kind="zarr")


def check_n5_chunks(path: Path, array: Any, chunk: Sequence[int], request: Request) -> None:
    """The same for a data set of N5, whose fill value is 0; `array` and `chunk` in the order of the axes in memory, the reverse of N5's.

    Raises:
        FileReadError: naming the chunks.
    """
    if request.missing == "unchecked" or 0 in array.shape:
        return
    chunks = _stored(path, array.shape, chunk, lambda place: "/".join(map(str, place[::-1])), request, first=-1)
    _check(path, array, 0, chunks, request, kind="zarr")


def check_files(path: Path) -> None:
    """Reject links out of the folder of an image, and pipes and devices in it.

    Raises:
        DataError: for a link out of the folder.
        FileReadError: for what is not a regular file.
    """
    for _ in _files(path):
        pass


def _stored(
    path: Path, lengths: Sequence[int], shape: Sequence[int], name: Callable[[Place], str], request: Request, *, first: Literal[1, -1]
) -> StoredChunks:
    """The chunk files of an array; the numbers in their names are their places, from the `first` axis or from the last (-1)."""
    grid = _grid(lengths, shape)
    sizes: dict[Place, int] = {}
    empty = []
    for key, size in _files(path):
        place = tuple(map(int, re.findall(r"\d+", key)))[::first]
        if len(place) == len(grid) and all(index < n for index, n in zip(place, grid, strict=True)):
            sizes[place] = size
            empty += [] if size else [key]
    if empty:  # an empty shard would be read as zeros
        rule = f"{len(empty)} chunks are empty files: {', '.join(sorted(empty)[:10])}"
        remedy = Remedy("copy it again from its source", READ_AS_ZEROS)
        reject_missing(FileReadError("zarr.missing_chunks", rule, file=path, remedy=remedy), request.missing)
    return StoredChunks(tuple(shape), grid, sizes, name)


def check_hdf5_chunks(path: Path, data: h5py.Dataset, request: Request) -> None:
    """The same for a data set of an HDF5 file.

    Raises:
        FileReadError: naming the chunks.
    """
    if request.missing == "unchecked" or 0 in data.shape or data.is_virtual:
        return
    shape = data.chunks or data.shape
    grid = _grid(data.shape, shape)
    count = data.id.get_num_chunks() if data.chunks else int(data.id.get_storage_size() > 0)
    sizes: dict[Place, int] = {}
    if count < math.prod(grid) and data.chunks:
        for index in range(count):
            found = data.id.get_chunk_info(index)
            sizes[tuple(offset // n for offset, n in zip(found.chunk_offset, shape, strict=True))] = found.size
    if count < math.prod(grid):
        _check(path, data, data.fillvalue, StoredChunks(shape, grid, sizes, str), request, kind="hdf5")


def _grid(lengths: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.ceil(n / edge) for n, edge in zip(lengths, chunk, strict=True))


def _check(path: Path, array: Any, fill: Any, chunks: StoredChunks, request: Request, *, kind: Literal["zarr", "hdf5"]) -> None:
    count = math.prod(chunks.grid)
    if len(chunks.sizes) >= count:
        return
    if count > _MOST:
        raise FileReadError(
            "image.implausible_size",
            f"declares {count} chunks (shape {tuple(array.shape)}) but holds {len(chunks.sizes)}",
            file=path,
            remedy="The size in its header is damaged: copy it again from its source.",
        )
    stored = np.zeros(chunks.grid, bool)
    for place in chunks.sizes:
        stored[place] = True
    missing = np.flatnonzero(~stored)
    first = [chunks.name(tuple(int(n) for n in np.unravel_index(place, chunks.grid))) for place in missing[:10]]
    listing = ", ".join(first) + (" ..." if len(missing) > 10 else "")
    rule = f"{len(missing)} of {count} chunks are missing: {listing}"
    remedy = Remedy("copy it again from its source", READ_AS_ZEROS)
    error = (
        FileReadError("zarr.missing_chunks", rule, file=path, remedy=remedy)
        if kind == "zarr"
        else FileReadError("hdf5.missing_chunks", rule, file=path, remedy=remedy)
    )
    if request.missing == "zeros" or _are_lost(array, fill, stored, chunks, labels=request.labels):
        reject_missing(error, request.missing)
    elif not request.labels:
        text = f"{rule}; they are read as {fill}, as the format defines for empty regions"
        tell(MetadataWarning(text, code=error.code, file=str(path), field="chunks", value=listing), stacklevel=4)


def _files(path: Path) -> Iterator[tuple[str, int]]:
    """Keys of the files in an array's folder and their sizes, the metadata aside.

    Raises:
        DataError: for a link out of the Zarr folder.
        FileReadError: for what is not a regular file.
    """
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.startswith(".") and name != "zarr.json":
                file = os.path.join(folder, name)
                if os.path.islink(file):
                    check_links(Path(file))
                found = os.stat(file)
                if not stat.S_ISREG(found.st_mode):  # reading a pipe would never end
                    raise FileReadError(
                        "file.not_regular", "is not a regular file", file=file, remedy="Copy the image again from its source."
                    )
                yield os.path.relpath(file, path).replace(os.sep, "/"), found.st_size


def _are_lost(array: Any, fill: Any, stored: np.ndarray, chunks: StoredChunks, *, labels: bool) -> bool:
    """Whether the array shows that its missing chunks were not left out on purpose."""
    if not chunks.sizes:
        return not labels
    if not labels and _has_gap(stored):
        return True
    if not labels and any(_is_cut_off(array, fill, tuple(map(int, place)), chunks) for place in np.argwhere(~stored)[:_SMALLEST]):
        return True
    for place in sorted(chunks.sizes, key=lambda one: chunks.sizes[one])[:_SMALLEST]:
        box = tuple(slice(index * edge, (index + 1) * edge) for index, edge in zip(place, chunks.shape, strict=True))
        if (np.asarray(array[box]) == fill).all():
            return True
    return False


def _is_cut_off(array: Any, fill: Any, place: tuple[int, ...], chunks: StoredChunks) -> bool:
    """Whether no voxel of the chunks around a missing one has its value where they meet it: images do not end so sharply."""
    faces = []
    for axis, index in enumerate(place):
        for neighbour, start in ((index - 1, index * chunks.shape[axis] - 1), (index + 1, (index + 1) * chunks.shape[axis])):
            if (*place[:axis], neighbour, *place[axis + 1 :]) in chunks.sizes:
                box = [slice(position * edge, (position + 1) * edge) for position, edge in zip(place, chunks.shape, strict=True)]
                box[axis] = slice(start, start + 1)
                faces.append(np.asarray(array[tuple(box)]))
    return bool(faces) and not any((face == fill).any() for face in faces)


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
