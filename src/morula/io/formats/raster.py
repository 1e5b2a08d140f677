"""PNG, BMP and JPEG through Pillow; PNG of 16-bit colours through imagecodecs."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar

import imagecodecs
import numpy as np
import PIL.Image

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError, MorulaError, OptionError
from morula.core.file_errors import unreadable_file
from morula.core.location import suffix_of
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import FileContent, Format, Request, Target, lengths_to_voxel_size, reject_selection, without_warnings
from morula.io.lazy import LazyArray, Opened, View
from morula.io.metadata import ignore_field

_TYPES = {"1": "bool", "L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32", "P": "uint8"}
_SAMPLES = {"LA": 2, "RGB": 3, "RGBA": 4}
_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # parts of a PNG without which its pixels cannot be decoded
_DEEP_SAMPLES = {2: 3, 4: 2, 6: 4}  # by the kind of colour in the header of a PNG
_COARSEST_PIXEL = 20.0  # um; see the TIFF format
_FINEST_PIXEL = 1e6 / 2**31  # um; of smaller pixels the files cannot hold the number per metre
_MOST_PIXELS = 2**30  # 32768 x 32768; 4 GB as RGBA
_FAILURES = (OSError, ValueError, SyntaxError, EOFError)  # Pillow says SyntaxError for a broken PNG


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    limit = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None  # slides of 20,000 x 20,000 are no attack here
    try:
        with without_warnings(), _readable(path) as picture:
            yield picture
    except MorulaError:
        raise
    except _FAILURES as error:
        raise unreadable_file(path, error) from error
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit


def _readable(path: Path) -> PIL.Image.Image:
    """The picture; where Pillow rejects a PNG for what is said about its pixels, the pixels alone."""
    try:
        return PIL.Image.open(path)
    except (ValueError, SyntaxError) as error:
        with path.open("rb") as file:
            parts = list(_parts(file))
        if not parts:
            raise
        picture = PIL.Image.open(io.BytesIO(b"".join([_PNG, *(part for kind, part in parts if kind in _PIXELS)])))
        ignore_field("PNG", str(error), "cannot be read")
        return picture


def _parts(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of each part of a PNG; nothing of other files."""
    if file.read(8) == _PNG:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            yield kind, head + file.read(length + 4)


class RasterArray(LazyArray):
    """A picture, decoded when it is sliced."""

    path: Path

    def __init__(self, shape: tuple[int, ...], dtype: str, mode: str, path: Path) -> None:
        super().__init__(shape, dtype, path=path)
        self.mode = mode

    def _open(self) -> Opened:
        _check_png(self.path)
        with _opened(self.path) as picture:
            return np.asarray(picture if picture.mode == self.mode else picture.convert(self.mode)), lambda: None


class DeepPng(LazyArray):
    """A PNG of 16-bit colours, decoded when it is sliced."""

    path: Path

    def _open(self) -> Opened:
        _check_png(self.path)
        try:
            return imagecodecs.png_decode(self.path.read_bytes()), lambda: None
        except (imagecodecs.PngError, ValueError) as error:
            raise unreadable_file(self.path, error) from error


class Raster(Format):
    """Pictures of 8 or 16 bits, grey or RGB. Palettes are ids for labels and colours for images."""

    name: ClassVar[str] = "picture"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".bmp", ".jpg", ".jpeg")
    magics: ClassVar[tuple[bytes, ...]] = (_PNG, b"\xff\xd8\xff", b"BM")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the picture."""
        reject_selection(path, request, "picture")
        with _opened(path) as picture:
            if request.labels and picture.format == "JPEG":
                raise DataError(
                    "labels.jpeg", "labels are a JPEG, whose compression changes ids", file=path, remedy="Save them again as PNG or TIFF."
                )
            mode = picture.mode
            if (mode not in _TYPES and mode not in _SAMPLES) or (mode == "P" and not request.labels):
                mode = "RGB"
            shape = (picture.height, picture.width)
            _check_declared_size(path, shape)
            dpi = picture.info.get("dpi")
            _tell_ignored(picture)
        if (deep := _deep_samples(path)) is not None:
            return FileContent(DeepPng((*shape, deep), np.uint16, path=path), Axes("YXC"), _voxel_size(dpi))
        if mode in _SAMPLES:
            return FileContent(RasterArray((*shape, _SAMPLES[mode]), "uint8", mode, path), Axes("YXC"), _voxel_size(dpi))
        return FileContent(RasterArray(shape, _TYPES[mode], mode, path), Axes("YX"), _voxel_size(dpi))

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write a 2D picture; JPEG never for labels."""
        kind = {".png": "PNG", ".bmp": "BMP"}.get(suffix_of(path), "JPEG")
        if kind == "JPEG" and target.labels:
            raise OptionError(
                "format.lossy_labels", "JPEG changes ids near edges; labels are not written to it", remedy="Choose .png, .tif or .ome.zarr."
            )
        size = target.voxel_size
        extra: dict[str, tuple[float, float]] = {}
        if size is not None and size.unit != "pixel" and kind != "JPEG":
            size = size.to("um")
            if min(size.x, size.y) > _FINEST_PIXEL:
                extra["dpi"] = (25400.0 / size.x, 25400.0 / size.y)
        PIL.Image.fromarray(_picture(data, target.axes, kind)).save(path, format=kind, **extra)


def _tell_ignored(picture: PIL.Image.Image) -> None:
    """Warn of a picture that other programs turn, and of one of several frames, of which the first is read."""
    turned = picture.getexif().get(0x0112)
    if turned not in (None, 1):
        ignore_field("Orientation", turned, "is not 1, but pixels are read as they are stored")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        ignore_field("frames", frames, "is not 1: the first is read")


def _deep_samples(path: Path) -> int | None:
    """Channels of a PNG of 16-bit colours, of which Pillow would give 8 bits; `None` for other pictures."""
    with path.open("rb") as file:
        head = file.read(26)  # signature, IHDR, width, height, bit depth, kind of colour
    return _DEEP_SAMPLES.get(head[25]) if len(head) == 26 and head.startswith(_PNG) and head[24] == 16 else None


def _check_png(path: Path) -> None:
    """Compare the checksums of the parts of a PNG, of which Pillow leaves those of the pixels out. Other files have none.

    Raises:
        FileReadError: for the first part that is damaged.
    """
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            checksum = zlib.crc32(kind)
            while length and (block := file.read(min(length, 2**20))):
                checksum, length = zlib.crc32(block, checksum), length - len(block)
            if length or file.read(4) != struct.pack(">I", checksum):
                raise unreadable_file(path, f"the checksum of its part {kind.decode('ascii', 'replace')!r} is wrong")
            if kind == b"IEND":
                return
    raise unreadable_file(path, "it ends before its last part")


def _check_declared_size(path: Path, shape: tuple[int, int]) -> None:
    """Raise for pictures of more pixels than can be decoded: they are decoded as a whole, and a small file may declare any size."""
    if math.prod(shape) > _MOST_PIXELS:
        raise FileReadError(
            "image.too_large",
            f"declares {shape[1]} x {shape[0]} pixels; pictures of up to {_MOST_PIXELS} pixels are read",
            file=path,
            remedy="Convert it to a tiled TIFF or OME-Zarr.",
        )


def _voxel_size(dpi: Sequence[float] | None) -> VoxelSize | None:
    if not dpi or min(dpi) <= 0:
        return None
    lengths = [float(f"{25400.0 / float(d):.6g}") for d in reversed(dpi)]
    return lengths_to_voxel_size(lengths, "yx") if max(lengths) <= _COARSEST_PIXEL else None


def _picture(data: ArraySource, axes: Axes, kind: str) -> np.ndarray:
    letters = [letter for letter, n in zip(axes, data.shape, strict=True) if letter in "YX" or n > 1]
    if set(letters) - set("YXC"):
        raise OptionError(
            "format.dimensions",
            f"{kind} stores one 2D image but the array has the axes {axes} and the shape {tuple(data.shape)}",
            remedy="Write .tif or .ome.zarr.",
        )
    order = [axes.index(letter) for letter in ("Y", "X", *(["C"] if "C" in letters else []))]
    fixed = {axis: 0 for axis in range(len(axes)) if axis not in order}
    picture = np.ascontiguousarray(View(data, order, fixed)[...])
    allowed = ("bool", "uint8", "uint16") if kind == "PNG" else ("bool", "uint8") if kind == "BMP" else ("uint8",)
    colours = (3, 4) if kind == "PNG" else (3,)
    if picture.dtype.name not in allowed or (picture.ndim == 3 and (picture.shape[2] not in colours or picture.dtype != np.uint8)):
        raise OptionError(
            "format.type",
            f"{kind} cannot store {picture.dtype} of shape {picture.shape}; it stores {' and '.join(allowed)}, or RGB of uint8",
            remedy="Write .tif or .ome.zarr.",
        )
    return picture
