"""OME-Zarr and Zarr that are no folder: in a zip file, or on a server (HTTP, S3 and others, through fsspec). Read only.

A server does not list what it has. So images are found by their metadata alone, and a chunk that the server does not have is read as the
fill value of the array: the format allows to leave out such chunks.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError, MissingExtraError
from morula.core.location import is_remote, url_of
from morula.io import ngff
from morula.io.formats.base import FileContent, Format, Request, check_is_image, choose_dataset, pick_level, without_warnings
from morula.io.formats.hdf5 import stated_axes, stated_size
from morula.io.lazy import LazyArray, Opened

if TYPE_CHECKING:
    import zarr

_NEEDED = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
"""Packages that fsspec needs, by the scheme of an address."""


class StoreArray(LazyArray):
    """A Zarr array in a zip file or on a server.

    Args:
        path: the file or the address.
        inner: place of the array in it.
    """

    path: Path

    def __init__(self, path: Path, inner: str) -> None:
        found = node_at(path, inner)
        super().__init__(found.shape, found.dtype, path=path, chunks=found.chunks)
        self.inner = inner

    def _open(self) -> Opened:
        return node_at(self.path, self.inner), lambda: None


def node_at(path: Path, inner: str) -> Any:
    """The Zarr array or group at a place in a zip file or on a server.

    Raises:
        FileReadError: when there is none.
        MissingExtraError: when a package for this kind of address is not installed.
    """
    import zarr

    from morula.io.formats.blosc_frames import checked  # imports zarr

    with without_warnings():
        try:
            found = zarr.open(_store(path), path=inner, mode="r")
            return checked(found) if isinstance(found, zarr.Array) else found
        except (FileNotFoundError, KeyError) as error:
            place = url_of(path) if is_remote(path) else str(path)
            rule = f"has no Zarr array or group{f' at {inner!r}' if inner else ''}"
            raise FileReadError("zarr.no_node", rule, file=place, remedy="Correct the address.") from error


def _store(path: Path) -> Any:
    from zarr.storage import FsspecStore, ZipStore

    if not is_remote(path):
        return ZipStore(path, mode="r")
    url = url_of(path)
    package = _NEEDED.get(url.partition("://")[0], "")
    if missing := [name for name in ("fsspec", package) if name and importlib.util.find_spec(name) is None]:
        rule, remedy = f"needs the package {missing[0]}", "Install it with: pip install 'morula[remote]'."
        raise MissingExtraError("remote.not_installed", rule, file=url, remedy=remedy)
    return FsspecStore.from_url(url, read_only=True)


class ZarrStore(Format):
    """Zipped Zarr, and addresses of Zarr."""

    name: ClassVar[str] = "zipped or remote Zarr"
    suffixes: ClassVar[tuple[str, ...]] = (".ome.zarr.zip", ".zarr.zip", ".ozx")
    writes: ClassVar[bool] = False

    def recognises(self, path: Path) -> bool:
        """Whether this is an address, or a zip file that is named as Zarr."""
        return is_remote(path) or (path.name.lower().endswith(self.suffixes) and path.is_file())

    def read(self, path: Path, request: Request) -> FileContent:
        """Open one level of the image, or the array or image that is asked for; labels where they are wanted and there are some."""
        inner = (request.dataset or "").strip("/")
        node = node_at(path, inner)
        if hasattr(node, "shape"):
            return _array(path, inner, node, request)
        attributes = node.attrs.asdict()
        if request.labels and not ngff.is_label(attributes) and (place := _label_place(path, inner, request)):
            inner, attributes = place, node_at(path, place).attrs.asdict()
        paths = ngff.level_paths(attributes)
        if paths:
            return _level(path, inner, attributes, paths[pick_level(path, request.level, len(paths))], request)
        return _only_array(path, inner, node, request)


def _level(path: Path, inner: str, attributes: object, name: str, request: Request) -> FileContent:
    data = StoreArray(path, f"{inner}/{name}".strip("/"))
    check_is_image(path, data.shape, data.dtype)
    described = ngff.parse(attributes, data.ndim)
    assert described is not None  # it names levels
    level = request.level % len(described.paths)
    return FileContent(data, described.axes, described.voxel_size(level), described.origin(level))


def _array(path: Path, inner: str, node: zarr.Array, request: Request) -> FileContent:
    pick_level(path, request.level, 1)
    data = StoreArray(path, inner)
    check_is_image(path, data.shape, data.dtype)
    attributes = node.attrs.asdict()
    names = getattr(node.metadata, "dimension_names", None)
    stated = {**attributes, "DIMENSION_LABELS": [name or "?" for name in names]} if names else attributes
    axes = stated_axes(stated, data.ndim) or Axes.guess(data.shape)
    return FileContent(data, axes, stated_size(attributes, axes))


def _label_place(path: Path, inner: str, request: Request) -> str:
    """Place of the label image of an image; empty where it has none."""
    place = f"{inner}/labels".strip("/")
    try:
        names = ngff.label_names(node_at(path, place).attrs.asdict())
    except FileReadError:
        return ""
    return f"{place}/{choose_dataset(path, dict.fromkeys(names, ''), Request(labels=True), prefix='labels/')}" if names else ""


def _only_array(path: Path, inner: str, node: zarr.Group, request: Request) -> FileContent:
    """The one array of a group without metadata of OME, where the arrays can be listed."""
    if is_remote(path):
        rule = "is a group without metadata of OME-Zarr, and a server does not list its arrays"
        raise DataError("zarr.no_image", rule, file=url_of(path), remedy="Name the array: ADDRESS/NAME.")
    arrays = {name: array.shape for name, array in node.arrays()}
    chosen = f"{inner}/{choose_dataset(path, arrays, Request(labels=request.labels))}".strip("/")
    return _array(path, chosen, node_at(path, chosen), request)
