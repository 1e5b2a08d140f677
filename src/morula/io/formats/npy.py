"""NumPy's own format. It states neither axes nor voxel size: axes are guessed from the shape unless given."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.file_errors import unreadable_file
from morula.io.formats.base import FileContent, Format, Request, Target, check_is_image, reject_selection
from morula.io.formats.cellpose import read_masks
from morula.io.lazy import LazyArray, Opened


class NpyArray(LazyArray):
    """An array mapped into memory."""

    path: Path

    def _open(self) -> Opened:
        return np.load(self.path, mmap_mode="r", allow_pickle=False), lambda: None


def _holds_objects(path: Path) -> bool:
    """Whether a file holds pickled objects; Cellpose saves its results so."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return header(file)[2].hasobject
        except (ValueError, OSError, EOFError):
            return False  # reading it gives the error


class Npy(Format):
    """``.npy`` files; of pickled objects, only the label images of Cellpose are read."""

    name: ClassVar[str] = "NumPy"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    magics: ClassVar[tuple[bytes, ...]] = (b"\x93NUMPY",)

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the array."""
        reject_selection(path, request, self.name)
        if _holds_objects(path):
            masks = read_masks(path)
            return FileContent(masks, Axes("ZYX"[-masks.ndim :]))
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise unreadable_file(path, error) from error
        check_is_image(path, array.shape, array.dtype)
        return FileContent(NpyArray(array.shape, array.dtype, path=path))

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write the array as it is."""
        with path.open("wb") as file:
            array = np.ascontiguousarray(data)
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            # not np.save: its error for a full disk does not say that the disk is full
            file.write(array.reshape(-1).view(np.uint8).data)
