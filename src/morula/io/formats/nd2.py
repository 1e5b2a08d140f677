"""ND2 of Nikon through the optional package nd2 (BSD); read only. Positions are scenes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula.core.errors import DataError, MissingExtraError
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import FileContent, Format, Request, check_declared_size, lengths_to_voxel_size, pick_level, without_warnings
from morula.io.formats.planes import PlaneArray, Planes, check_planes, choose_scene, content
from morula.io.metadata import ignore_field

if TYPE_CHECKING:
    from nd2 import ND2File


_ZLIB_RATIO = 1_032  # zlib packs no data better


class _Nd2Planes(Planes):
    """An open ND2 file, of which a frame holds all channels of a plane."""

    def __init__(self, path: Path, frames: Mapping[tuple[int, int], int], shape: Sequence[int]) -> None:
        self._file, self._frames, self._shape = _opened(path), frames, shape
        self._last: tuple[int, np.ndarray] | None = None

    def plane(self, t: int, c: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        """Values of a part of a plane."""
        number = self._frames[t, z]
        if self._last is None or self._last[0] != number:
            # the library gives (C, Y, X, samples) without the axes of length 1
            values = np.asarray(self._file.read_frame(number))
            height, width = self._shape[3:]
            samples = values.shape[-1] if values.ndim > 2 and values.shape[-2:] != (height, width) else 1
            values = values.reshape(-1, height, width, samples)
            self._last = number, np.moveaxis(values, 3, 1).reshape(-1, height, width)
        return self._last[1][c, rows, columns]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Nd2Array(PlaneArray):
    """One position of an ND2 file."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype, path: Path, frames: Mapping[tuple[int, int], int]) -> None:
        super().__init__(shape, dtype, path)
        self.frames = dict(frames)

    def _planes(self) -> Planes:
        return _Nd2Planes(self.path, self.frames, self.shape)


class Nd2(Format):
    """Positions are counted from 0; without a choice the only one."""

    name: ClassVar[str] = "ND2"
    suffixes: ClassVar[tuple[str, ...]] = (".nd2",)
    magics: ClassVar[tuple[bytes, ...]] = (b"\xda\xce\xbe\x0a",)
    writes: ClassVar[bool] = False

    def read(self, path: Path, request: Request) -> FileContent:
        """Open a position."""
        pick_level(path, request.level, 1)
        file = _opened(path)
        try:
            with without_warnings():
                sizes, dtype, loops = dict(file.sizes), file.dtype, tuple(file.loop_indices)
                size = _voxel_size(file, volume=sizes.get("Z", 1) > 1)
                stored, compressed = _stored_frames(file), file.attributes.compressionType is not None
        finally:
            file.close()
        others = [letter for letter in sizes if letter not in "TPZCYXS"]
        if others:
            rule = f"has the dimensions {', '.join(others)}, which Morula does not read"
            raise DataError("nd2.dimensions", rule, file=path, remedy="Export it as OME-TIFF.")
        frame = [sizes.get(letter, 1) for letter in "CSYX"]
        check_declared_size(path, frame, dtype, _ZLIB_RATIO if compressed else 1)
        shape = (sizes.get("T", 1), sizes.get("C", 1) * sizes.get("S", 1), sizes.get("Z", 1), sizes.get("Y", 1), sizes.get("X", 1))
        position = choose_scene(path, {str(p): shape for p in range(sizes.get("P", 1))}, request)
        numbered = {(at.get("P", 0), at.get("T", 0), at.get("Z", 0)): number for number, at in enumerate(loops or ({},))}
        frames = {(t, z): numbered[position, t, z] for t in range(shape[0]) for z in range(shape[2])}
        if stored is not None and request.missing != "unchecked":
            missing = [(t, z) for (t, z), number in frames.items() if number not in stored]
            check_planes(path, missing, len(frames), request.missing)
        return content(path, Nd2Array(shape, dtype, path, frames), "TCZYX", size)


def _opened(path: Path) -> ND2File:
    try:
        from nd2 import ND2File
    except ImportError:
        rule, remedy = "is an ND2 file, which needs the package nd2", "Install it with: pip install 'morula[formats]'"
        raise MissingExtraError("extra.nd2", rule, file=path, remedy=remedy) from None
    file = _Bounded(path)
    try:
        return ND2File(file)
    except BaseException:
        file.close()
        raise


class _Bounded(io.FileIO):
    """A file of which no more is read than it holds: the library reads as many bytes as a damaged header declares."""

    def read(self, size: int | None = -1) -> bytes:
        """See `io.FileIO.read`."""
        if size is not None and size > 0:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


def _stored_frames(file: ND2File) -> set[int] | None:
    """Numbers of the frames with pixels, which the library has no public name for; `None` for the older kind of file."""
    chunks = getattr(getattr(file, "_rdr", None), "chunkmap", None)
    if not isinstance(chunks, Mapping):
        return None
    start = b"ImageDataSeq|"
    return {int(name[len(start) : -1]) for name in chunks if name.startswith(start) and name[len(start) : -1].isdigit()}


def _voxel_size(file: ND2File, *, volume: bool) -> VoxelSize | None:
    """Edge lengths, where the file says that they are calibrated."""
    try:
        channels = getattr(file.metadata, "channels", None)
    except Exception as error:  # noqa: BLE001 - the pixels are readable without, and the library fails in many ways where a field is missing
        ignore_field("metadata", type(error).__name__, f"must be readable ({error})")
        return None
    if not channels:
        return None
    described = channels[0].volume
    letters = "zyx" if volume else "yx"
    lengths, calibrated = (dict(zip("xyz", flags, strict=True)) for flags in (described.axesCalibration, described.axesCalibrated))
    return lengths_to_voxel_size([lengths[letter] for letter in letters], letters, "um") if all(map(calibrated.get, letters)) else None
