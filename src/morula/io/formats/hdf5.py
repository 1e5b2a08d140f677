"""HDF5, with the voxel size in the attribute ``element_size_um`` (z, y, x) and axes in ``DIMENSION_LABELS`` or ilastik's ``axistags``."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import h5py
import numpy as np
from numpy.typing import DTypeLike

from morula.core.array import ArraySource
from morula.core.axes import LETTERS, Axes
from morula.core.errors import DataError, FileReadError, FileWriteError, MorulaError
from morula.core.file_errors import unreadable_file
from morula.core.outputs import MARKER
from morula.core.region import blocks
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.io.blocks import block_shape, chunk_shape
from morula.io.formats.base import (
    READ_AS_ZEROS,
    FileContent,
    Format,
    Request,
    Target,
    check_is_image,
    choose_dataset,
    lengths_to_voxel_size,
    pick_level,
    reject_missing,
)
from morula.io.formats.chunks import check_hdf5_chunks
from morula.io.lazy import LazyArray, Opened
from morula.io.metadata import ignore_field

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CACHE_BYTES = 2**26  # chunks in memory while a file is written, so that one that is filled piece by piece is compressed once


class Hdf5Array(LazyArray):
    """A data set of an HDF5 file that is opened for reading only."""

    path: Path

    def __init__(self, path: Path, name: str, found: h5py.Dataset) -> None:
        super().__init__(found.shape, found.dtype, path=path, chunks=found.chunks)
        self.name = name

    def _open(self) -> Opened:
        file = h5py.File(self.path, "r")
        return file[self.name], file.close


class Hdf5(Format):
    """HDF5 files of any layout, also BigDataViewer's and Imaris' when the data set is named."""

    name: ClassVar[str] = "HDF5"
    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5", ".hdf", ".he5", ".ims")
    magics: ClassVar[tuple[bytes, ...]] = (b"\x89HDF\r\n\x1a\n",)

    def parts(self, path: Path, name: str) -> list[str]:
        """Names with commas between them, unless a data set has just that name."""
        with h5py.File(path, "r") as file:
            return [] if name in file else name.split(",")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the data set asked for, or the only or obvious one."""
        pick_level(path, request.level, 1)
        try:
            with h5py.File(path, "r") as file:
                found = _datasets(file)
                name = choose_dataset(path, {key: value.shape for key, value in found.items()}, request)
                data = found[name]
                check_is_image(path, data.shape, data.dtype)
                _check_sources(path, name, data, request)
                check_hdf5_chunks(path, data, request)
                axes = stated_axes(data.attrs, data.ndim) or Axes.guess(data.shape)
                return FileContent(Hdf5Array(path, name, data), axes, stated_size(data.attrs, axes))
        except MorulaError:
            raise
        except (OSError, RuntimeError, KeyError) as error:
            raise unreadable_file(path, error) from error

    def adds_to(self, path: Path, target: Target, overwrite: bool) -> bool:
        """A named data set is added to the file of that name; the others in it stay."""
        if target.dataset is None:
            if overwrite and path.is_file() and h5py.is_hdf5(path):
                _check_alone(path, name_of(target))
            return False
        if not path.is_file():
            return False
        with h5py.File(path, "r") as file:
            _check_place(file, target.dataset, path)
            if target.dataset in file and not overwrite:
                raise FileWriteError(
                    "dataset.exists",
                    "exists already in the file",
                    key="dataset",
                    value=target.dataset,
                    file=path,
                    remedy="Pass overwrite=True to replace it (other data sets are kept), or choose another name.",
                )
        return True

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write one data set (``raw`` or ``label`` unless named), in chunks with gzip."""
        if target.existing is not None:  # the user's file changes in one step, when its copy takes its place
            shutil.copyfile(target.existing, path)
        with WritableFile(path) as opened:
            dataset = create(opened.file, data.shape, data.dtype, target)
            for box in blocks(data.shape, block_shape(data.shape, dataset.dtype.itemsize, dataset.chunks)):
                dataset[box.slices] = np.asarray(data[box.slices])
                opened.check()


class _Sink(io.FileIO):
    """A file that remembers the first error of the system instead of raising it."""

    error: OSError | None = None

    def write(self, data: Buffer) -> int:
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return length

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


class WritableFile:
    """An HDF5 file open for writing, new or existing, that survives a full disk.

    The HDF5 library ends the whole process when it cannot write on closing (h5py 3.16, HDF5 2.0). So it writes to a Python file that
    never fails, and `check` and `close` raise what went wrong.
    """

    def __init__(self, path: Path) -> None:
        exists = path.exists()
        self._sink = _Sink(path, "r+b" if exists else "w+b")
        self.file = h5py.File(self._sink, "r+" if exists else "w", rdcc_nbytes=_CACHE_BYTES)

    def check(self) -> None:
        """Raise the first error of the system, if there was one."""
        if self._sink.error is not None:
            raise self._sink.error

    def close(self) -> None:
        """Close the file and `check`."""
        self.file.close()
        self._sink.close()
        self.check()

    def __enter__(self) -> WritableFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except OSError:
            if error is None:
                raise


def create(file: h5py.File, shape: Sequence[int], dtype: DTypeLike, target: Target, chunks: Sequence[int] | None = None) -> h5py.Dataset:
    """An empty data set with axes and voxel size stated, in place of one of the same name."""
    name = name_of(target)
    _check_place(file, name, target.existing)
    if name in file:
        del file[name]
    dataset = file.create_dataset(
        name,
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=chunk_shape(shape, target.axes) if chunks is None else tuple(chunks),
        compression="gzip",
        compression_opts=4,
        shuffle=True,  # bytes of the same weight beside each other: smaller files in half the time
    )
    for dimension, letter in zip(dataset.dims, target.axes.lower(), strict=True):
        dimension.label = letter
    dataset.attrs[MARKER] = "labels" if target.labels else "image"
    size = target.voxel_size
    # the attribute is in um by definition; a size in pixels is no physical size
    if size is not None and size.unit != "pixel":
        size = size.to("um")
        dataset.attrs["element_size_um"] = [length for length in (size.z, size.y, size.x) if length is not None]
    return dataset


def name_of(target: Target) -> str:
    """Name of the data set that is written."""
    return target.dataset or ("label" if target.labels else "raw")


def _check_place(file: h5py.File, name: str, path: Path | None) -> None:
    """Reject the name of a group, whose data sets would be lost, and of something inside a data set."""
    parts = name.strip("/").split("/")
    above = next((each for n in range(1, len(parts)) if isinstance(file.get(each := "/".join(parts[:n])), h5py.Dataset)), None)
    if above is None and not isinstance(file.get(name), h5py.Group):
        return
    rule = "is a group of the file, which is not replaced" if above is None else f"is inside the data set {above}"
    raise FileWriteError("dataset.not_a_place", rule, key="dataset", value=name, file=path, remedy="Choose another name.")


def _check_alone(path: Path, name: str) -> None:
    """Reject a file that would be replaced as a whole, where it holds anything besides the data set of this name."""
    with h5py.File(path, "r") as file:
        other = next((member for member in file if member != name), next((f"the attribute {member}" for member in file.attrs), None))
    if other is not None:
        rule = f"holds {other}, which would be lost"
        remedy = f"Name a data set, and the rest of the file is kept (dataset={name!r}; {path.name}:/{name}), or name another file."
        raise FileWriteError("output.not_own", rule, file=path, remedy=remedy)


def replaced_dataset(path: Path, name: str) -> str | None:
    """The data set that one of this name replaces in a file, `None` where there is none."""
    with h5py.File(path, "r") as file:
        return name if name in file else None


def is_own_dataset(path: Path, name: str) -> bool:
    """Whether Morula wrote a data set: it has Morula's mark."""
    with h5py.File(path, "r") as file:
        return MARKER in file[name].attrs


def holds_others(path: Path, name: str) -> bool:
    """Whether a file holds another data set than the one of this name."""
    with h5py.File(path, "r") as file:
        return bool(file.visititems(lambda path, found: True if isinstance(found, h5py.Dataset) and path != name else None))


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and 2 <= node.ndim <= 5 and node.dtype.kind in "buif":
            found[name] = node

    file.visititems(visit)
    return found


def _check_sources(path: Path, name: str, data: h5py.Dataset, request: Request) -> None:
    """Reject a data set whose pixels are in files elsewhere, or in files that do not exist, which HDF5 reads as zeros.

    Raises:
        DataError: for files outside of the folder of the file: the files of others could show any file of the computer.
        FileReadError: for files that are missing.
    """
    places = [str(place[0]) for place in data.external or ()]
    if data.is_virtual:
        places += [str(source.file_name) for source in data.virtual_sources() if str(source.file_name) != "."]
    folder = Path(os.path.realpath(path.parent))
    outside = [place for place in places if not Path(os.path.realpath(folder / place)).is_relative_to(folder)]
    if outside:
        rule = f"keeps its pixels in {outside[0]}, outside of its folder"
        advice = "Copy the data set into the file, for example with h5repack."
        raise DataError("hdf5.outside", rule, key="dataset", value=name, file=path, remedy=advice)
    missing = sorted({place for place in places if "%" not in place and not (folder / place).is_file()})
    if missing:
        rule = f"{len(missing)} files that hold pixels of {name} are missing: {', '.join(missing[:10])}"
        reject_missing(
            FileReadError("hdf5.missing_files", rule, file=path, remedy=Remedy("copy them, too", READ_AS_ZEROS)), request.missing
        )


def stated_axes(attributes: Mapping[str, Any], ndim: int) -> Axes | None:
    """Axes that the attributes of a data set state: ``axistags`` (ilastik), ``DIMENSION_LABELS``, ``_ARRAY_DIMENSIONS`` or ``axes``.

    Returns:
        `None` where there are none, or they do not fit an array of `ndim` dimensions. An attribute of an unexpected type is ignored with a
        `MetadataWarning`: the pixels are readable without it.
    """
    names: list[str] = []
    for key in ("axistags", "DIMENSION_LABELS", "_ARRAY_DIMENSIONS", "axes"):
        if names or key not in attributes:
            continue
        try:
            value = attributes[key]
            names = (
                [str(axis["key"]) for axis in json.loads(_text(value))["axes"]] if key == "axistags" else [_text(name) for name in value]
            )
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            ignore_field(key, _safe(attributes, key), f"must name axes ({error})")
    letters = "".join(name[:1].upper() for name in names)
    named = all(name not in ("", "?") and not name.startswith(("dim_", "phony_dim")) for name in names)  # others are placeholders
    if names and named and (len(letters) != ndim or len(set(letters)) != ndim or not {"Y", "X"} <= set(letters)):
        ignore_field("axes", names, f"must name each of the {ndim} dimensions once, y and x among them")
    if len(letters) != ndim or set(letters) - set(LETTERS) or len(set(letters)) != ndim or not {"Y", "X"} <= set(letters):
        return None
    return Axes(letters)


def stated_size(attributes: Mapping[str, Any], axes: Axes) -> VoxelSize | None:
    """Voxel size that the attribute ``element_size_um`` or ``resolution`` states, (z, y, x) in um."""
    for key in ("element_size_um", "resolution"):
        if key in attributes:
            try:
                lengths = np.asarray(attributes[key])
            except (ValueError, TypeError, OSError) as error:
                ignore_field(key, _safe(attributes, key), f"must hold lengths ({error})")
                continue
            n = axes.ndim_spatial
            if lengths.dtype.kind in "uif" and lengths.ndim == 1 and len(lengths) in (n, 3, len(axes)) and (lengths[-n:] > 0).all():
                return lengths_to_voxel_size(lengths[-n:].tolist(), "zyx"[-n:])
            ignore_field(key, _safe(attributes, key), f"must hold {n} lengths above 0")
    return None


def _safe(attributes: Mapping[str, Any], key: str) -> object:
    """The value of an attribute for a message, where it can be read."""
    try:
        return attributes[key]
    except (ValueError, TypeError, OSError):
        return None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
