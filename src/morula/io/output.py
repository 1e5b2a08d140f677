"""Large results, written block by block to OME-Zarr or HDF5; the file gets its name when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from morula.core.array import ArrayTarget, Box
from morula.core.atomic import check_absent, remove, replace
from morula.core.axes import Axes
from morula.core.errors import DataError, OptionError
from morula.core.location import split_location, suffix_of
from morula.core.outputs import Destination, check_outputs
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.core.write_errors import write_error
from morula.io.formats import hdf5, ome_zarr
from morula.io.formats.base import Target
from morula.io.formats.zarr import wait_for_writes, waiting_for_writes
from morula.io.select import format_to_write


class Output:
    """An array on disk that is written block by block.

    ``output[box] = block`` writes a block and ``output[box]`` reads it back. Several threads may write blocks of whole `chunks` at the
    same time. Until `finish`, the data are in a hidden file or folder beside `path`. As a context manager, the output is finished at the
    end of the block, and removed when the block raises.
    """

    def __init__(self, path: Path, array: ArrayTarget, unfinished: Path, file: hdf5.WritableFile | None = None) -> None:
        self.path = path
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype = np.dtype(array.dtype)
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self._array, self._unfinished, self._file = array, unfinished, file

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __setitem__(self, key: Box, values: ArrayLike) -> None:
        try:
            self._array[key] = values
            # the error of a full disk is remembered, not raised, while HDF5 writes: see `WritableFile`
            if self._file is not None:
                self._file.check()
        except OSError as error:
            raise write_error(self.path, error) from error

    def __getitem__(self, key: Box) -> np.ndarray:
        return np.asarray(self._array[key])

    def finish(self) -> Path:
        """Complete the file (an OME-Zarr gets its pyramid) and rename it to `path`.

        Raises:
            FileWriteError: when the disk is full or not writable; the unfinished output is removed.
        """
        try:
            if self._file is None:
                return finish_pyramid(self.path)
            self._file.close()
            replace(self._unfinished, self.path)
        except OSError as error:
            self.discard()
            raise write_error(self.path, error) from error
        return self.path

    def discard(self) -> None:
        """Remove the unfinished output."""
        if self._file is None:
            wait_for_writes()  # a chunk that is written later would bring the folder back
        else:
            with suppress(OSError):  # it is removed anyway
                self._file.close()
        remove(self._unfinished)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()


def open_output(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    axes: str,
    voxel_size: VoxelSizeLike = None,
    *,
    labels: bool = False,
    overwrite: bool = False,
    chunks: Sequence[int] | None = None,
) -> Output:
    """Start an array on disk that is written block by block.

    Args:
        path: ``.ome.zarr`` or ``.h5``; ``scan.ome.zarr/labels/nuclei`` and ``out.h5:/probabilities`` name an array inside. Labels for an
            existing OME-Zarr image are written to its ``labels/labels`` unless named.
        shape: of the array, in the order of `axes`, which is TC(Z)YX for OME-Zarr.
        dtype: type of the values.
        axes: names of the dimensions.
        voxel_size: as for `write`.
        labels: whether the array holds object ids.
        overwrite: replace an existing file when the output is finished; of an HDF5 file with other data sets only the named one.
        chunks: shape of the chunks in an HDF5 file; blocks should consist of whole chunks.

    Raises:
        FileWriteError: when `path` exists and `overwrite` is false, or its folder is not writable.
        OptionError: for other formats.
        DataError: for a shape that does not fit the axes.

    Examples:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "cells.ome.zarr"
        >>> with open_output(place, (4, 300, 300), "uint16", "ZYX", labels=True) as output:
        ...     output[:, :100, :100] = 7
        >>> from morula.io.read import read_labels
        >>> int(read_labels(place).data[0, 99, 99])
        7
    """
    file, inner = split_location(Path(path).expanduser())
    named = Axes(axes)
    if len(named) != len(shape) or 0 in shape:
        raise DataError(
            "output.shape", f"must give each of the axes {named} a length of at least 1", key="shape", value=tuple(shape), file=file
        )
    size = None if voxel_size is None else VoxelSize.of(voxel_size, named.ndim_spatial)
    kind = format_to_write(file, labels=labels)
    target = Target(named, size, labels, inner.removeprefix("labels/") if inner and labels and kind.name == "OME-Zarr" else inner)
    place = kind.place(file, target)
    check_absent(place, overwrite)
    kind.adds_to(place, target, overwrite)
    check_outputs([Destination(place, str(path), "path", array=kind.folder)], overwrite=overwrite)
    unfinished = _unfinished(place)  # in the same folder, because only renaming within a file system is atomic
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        remove(unfinished)  # of an interrupted run
        if isinstance(kind, ome_zarr.OmeZarr):
            return Output(place, ome_zarr.start(unfinished, shape, dtype, named, size, labels=labels), unfinished)
        if isinstance(kind, hdf5.Hdf5):
            if target.dataset is not None and place.is_file() and hdf5.holds_others(place, target.dataset):
                shutil.copyfile(place, unfinished)  # the file changes in one step, when its copy takes its place
            opened = hdf5.WritableFile(unfinished)
            return Output(place, hdf5.create(opened.file, shape, dtype, target, chunks), unfinished, opened)
    except OSError as error:
        raise write_error(place, error) from error
    raise OptionError("output.not_blockwise", "cannot be written block by block", file=file, remedy="Choose the suffix .ome.zarr or .h5.")


def finish_pyramid(path: str | os.PathLike[str]) -> Path:
    """Complete an OME-Zarr that `open_output` started: build the pyramid from level 0 block by block, then rename it to `path`.

    Raises:
        DataError: when no such output was started.
        FileWriteError: when the disk is full or not writable; the unfinished output is removed.
    """
    path = Path(path)
    unfinished = _unfinished(path)
    if not unfinished.is_dir():
        raise DataError("output.not_started", "was not started by open_output, or is finished already", file=path)
    try:
        with waiting_for_writes():
            ome_zarr.finish(unfinished)
        replace(unfinished, path)
        # listed last: a label image that is listed but not there would make the image unreadable for other programs
        if path.parent.name == "labels":
            ome_zarr.list_label_image(path)
    except OSError as error:
        remove(unfinished)
        raise write_error(path, error) from error
    return path


def _unfinished(place: Path) -> Path:
    """Hidden name of the unfinished output; not random, so that all processes that write to it agree."""
    return place.with_name(f".{place.name}.unfinished{suffix_of(place)}")
