"""Plain Zarr arrays, version 2 and 3: axes from the dimension names, voxel size from the attribute ``element_size_um``.

zarr is imported where it is used, because its import takes longer than all other imports of this package together.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from morula.core.array import ArraySource, ArrayTarget
from morula.core.axes import Axes
from morula.core.file_errors import unreadable_file
from morula.core.location import check_links, leaves_container
from morula.core.outputs import MARKER
from morula.core.region import blocks
from morula.io.blocks import block_shape, chunk_shape
from morula.io.formats.base import (
    FileContent,
    Format,
    Request,
    Target,
    check_is_image,
    choose_dataset,
    pick_level,
    without_warnings,
)
from morula.io.formats.chunks import check_zarr_chunks
from morula.io.formats.hdf5 import stated_axes, stated_size
from morula.io.lazy import LazyArray, Opened
from morula.io.metadata import ignore_field

if TYPE_CHECKING:
    import zarr


class ZarrArray(LazyArray):
    """A Zarr array that is opened for reading only. Damaged chunks are errors; for missing ones see
    `morula.io.formats.chunks`."""

    path: Path

    def __init__(self, path: Path) -> None:
        check_links(path)
        found = open_array(path)
        super().__init__(found.shape, found.dtype, path=path, chunks=found.chunks)
        self.attributes = attributes_of(path)
        # only version 3 has dimension names in the metadata; xarray stores them as an attribute in version 2
        self.names = getattr(found.metadata, "dimension_names", None)

    def _open(self) -> Opened:
        return open_array(self.path), lambda: None


def open_array(path: Path, mode: str = "r") -> zarr.Array:
    """The Zarr array at a path.

    Raises:
        FileReadError: when there is none, or its metadata are damaged.
    """
    import zarr

    try:
        with without_warnings():
            found = zarr.open_array(str(path), mode=mode)
            if mode != "r":
                return found
            from morula.io.formats.blosc_frames import checked  # imports zarr

            return checked(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable_file(path, error) from error


def attributes_of(path: Path) -> dict[str, Any]:
    """Attributes of the Zarr node at a path; none when there is no node.

    Raises:
        FileReadError: when the metadata of version 3, which describe the array, are no JSON.
    """
    # read as JSON, without zarr: recognising a folder must be cheap
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        file = path / name
        if file.is_file():
            try:
                values = json.loads(file.read_bytes())  # of any encoding of Unicode
            except (ValueError, RecursionError) as error:
                if key is not None:
                    raise unreadable_file(file, error) from error
                ignore_field(name, file.read_bytes()[:40], f"must be JSON: {error}")
                return {}
            found = values if key is None else values.get(key, {}) if isinstance(values, dict) else None
            if not isinstance(found, dict):
                ignore_field(key or name, found, "must be a mapping")
                return {}
            return found
    return {}


def node_kind(path: Path) -> str | None:
    """``"array"``, ``"group"``, or `None` where there is no Zarr node."""
    if (path / ".zarray").is_file():
        return "array"
    if (path / ".zgroup").is_file() or (path / ".zattrs").is_file():
        return "group"
    if not (path / "zarr.json").is_file():
        return None
    try:
        return "array" if json.loads((path / "zarr.json").read_text("utf-8")).get("node_type") == "array" else "group"
    except (ValueError, AttributeError, RecursionError) as error:
        raise unreadable_file(path / "zarr.json", error) from error


def nodes_below(path: Path, stop: Callable[[Path], bool] = lambda node: False) -> dict[str, Path]:
    """Arrays below a group by name, and groups for which `stop` holds, which are not entered."""
    found: dict[str, Path] = {}
    visited: set[str] = set()

    def visit(node: Path, name: str) -> None:
        real = os.path.realpath(node)
        if real in visited:  # a link back to a folder above would never end
            return
        visited.add(real)
        kind = node_kind(node)
        if kind == "array" or (name and kind == "group" and stop(node)):
            found[name] = node
        elif kind == "group" or not name:
            for entry in sorted(os.scandir(node), key=lambda e: e.name):
                if not entry.is_dir() or entry.name.startswith("."):
                    continue
                if leaves_container(Path(entry.path)):
                    ignore_field("link", entry.path, "leads out of the image")
                else:
                    visit(Path(entry.path), f"{name}/{entry.name}" if name else entry.name)

    visit(path, "")
    return found


def read_array(path: Path, request: Request) -> FileContent:
    """One Zarr array with what it states of itself."""
    data = ZarrArray(path)
    check_is_image(path, data.shape, data.dtype)
    check_zarr_chunks(path, open_array(path), request)
    stated = data.attributes if not data.names else {**data.attributes, "DIMENSION_LABELS": [name or "?" for name in data.names]}
    axes = stated_axes(stated, data.ndim) or Axes.guess(data.shape)
    return FileContent(data, axes, stated_size(data.attributes, axes))


def create_array(
    path: Path, shape: Sequence[int], dtype: DTypeLike, axes: str, *, attributes: Mapping[str, Any] | None = None, version: int = 3
) -> zarr.Array:
    """An empty array, chunked for (Z)YX work; missing groups above it are made by `create_groups`."""
    extra: dict[str, Any] = (
        {"dimension_names": list(axes.lower())} if version == 3 else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    )
    import zarr
    from numcodecs import Zstd
    from zarr.codecs import ZstdCodec

    # the checksum in each frame makes a changed bit an error; every reader of Zstandard compares it
    compressor = ZstdCodec(level=0, checksum=True) if version == 3 else Zstd(level=0, checksum=True)
    with without_warnings():
        return zarr.create_array(
            str(path),
            shape=tuple(shape),
            dtype=np.dtype(dtype),
            chunks=chunk_shape(shape, axes),
            zarr_format=version,  # type: ignore[arg-type]
            compressors=compressor,
            attributes=dict(attributes or {}),
            overwrite=True,
            config={"write_empty_chunks": True},  # so that a chunk that is missing later was lost
            **extra,
        )


def create_groups(root: Path, inner: Path, version: int = 3) -> None:
    """Make every folder from `root` down to the parent of `inner` a Zarr group, where it is none yet."""
    for folder in [inner, *inner.parents]:
        if folder != inner and node_kind(folder) is None:
            put_attributes(folder, {}, version)
        if folder == root:
            return


def put_attributes(path: Path, attributes: Mapping[str, object], version: int = 3) -> None:
    """Write the attributes of a group, which is made where there is none; former attributes go."""
    import zarr

    with without_warnings():
        zarr.open_group(str(path), mode="a", zarr_format=version).attrs.put(attributes)  # type: ignore[arg-type]


def fill(target: ArrayTarget, data: ArraySource) -> None:
    """Copy an array, in memory or lazy, into a Zarr array of the same shape, block by block."""
    for box in blocks(target.shape, block_shape(target.shape, target.dtype.itemsize, target.chunks)):
        target[box.slices] = np.asarray(data[box.slices])


def wait_for_writes() -> None:
    """Wait for the chunks that zarr still writes in its own threads after one of them failed: what is removed now must not come back."""
    from zarr.core.sync import sync

    async def others() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    sync(others())  # on zarr's own event loop, where these tasks run


@contextmanager
def waiting_for_writes() -> Iterator[None]:
    """`wait_for_writes` when the block ends with an error."""
    try:
        yield
    except BaseException:  # of zarr, or Ctrl-C: its writes end before the error goes on
        wait_for_writes()
        raise


def _is_pyramid(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether arrays are levels of a pyramid whose metadata are missing: they are named 0, 1, ... and become smaller."""
    if len(shapes) < 2 or set(shapes) != {str(level) for level in range(len(shapes))}:
        return False
    levels = [shapes[str(level)] for level in range(len(shapes))]
    return all(
        len(fine) == len(coarse) and fine != coarse and all(n >= m for n, m in zip(fine, coarse, strict=True))
        for fine, coarse in itertools.pairwise(levels)
    )


class Zarr(Format):
    """Zarr arrays and groups of arrays without OME metadata."""

    name: ClassVar[str] = "Zarr"
    suffixes: ClassVar[tuple[str, ...]] = (".zarr",)
    folder: ClassVar[bool] = True

    def parts(self, path: Path, name: str) -> list[str]:
        """Names with commas between them."""
        return name.split(",")

    def recognises(self, path: Path) -> bool:
        """Whether this folder is a Zarr node."""
        return path.is_dir() and node_kind(path) is not None

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the array, or the one of a group that is asked for or obvious."""
        if node_kind(path) == "array" and request.dataset is None:
            pick_level(path, request.level, 1)
            return read_array(path, request)
        below = nodes_below(path)
        shapes = {name: open_array(node).shape for name, node in below.items()}
        if request.dataset is None and _is_pyramid(shapes):
            return read_array(below[str(pick_level(path, request.level, len(shapes)))], request)
        pick_level(path, request.level, 1)
        return read_array(below[choose_dataset(path, shapes, request)], request)

    def place(self, path: Path, target: Target) -> Path:
        """The array's own folder: the path, or the data set in it."""
        return path / target.dataset if target.dataset else path

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write a version 3 array."""
        size = target.voxel_size
        attributes: dict[str, object] = {MARKER: "labels" if target.labels else "image"}
        if size is not None and size.unit != "pixel":
            size = size.to("um")
            attributes["element_size_um"] = [length for length in (size.z, size.y, size.x) if length is not None]
        with waiting_for_writes():
            fill(create_array(path, data.shape, data.dtype, target.axes, attributes=attributes), data)

    def finished(self, path: Path, target: Target) -> None:
        """Make the folders above a data set groups."""
        if target.dataset:
            create_groups(path, path / target.dataset)
