"""LIF of Leica through the optional package liffile (BSD); read only. Each image of the file is a scene, called by its path in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from morula.core.errors import DataError, MissingExtraError
from morula.core.file_errors import unreadable_file
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import FileContent, Format, Request, lengths_to_voxel_size, pick_level, positive_length, without_log
from morula.io.formats.planes import choose_scene, content
from morula.io.lazy import LazyArray, Opened
from morula.io.metadata import ignore_field

if TYPE_CHECKING:
    from liffile import LifFile
    from liffile.liffile import LifImageABC

_LETTERS = {"X": "X", "Y": "Y", "Z": "Z", "T": "T", "C": "C", "S": "C", "λ": "C", "Λ": "C"}


class LifArray(LazyArray):
    """One image of a LIF file, mapped into memory."""

    path: Path

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, path: Path, number: int) -> None:
        super().__init__(shape, dtype, path=path)
        self.number = number

    def _open(self) -> Opened:
        file = _opened(self.path)
        try:
            image = file.images[self.number]
            # copy on write: the library turns blue, green, red around in place
            return image.asarray(mode="c", out="memmap"), file.close  # type: ignore[call-arg] # of `LifImage`
        except BaseException:  # of liffile, or Ctrl-C: the file is closed, and the error goes on
            file.close()
            raise


class Lif(Format):
    """Images are counted from 0; without a choice the only one."""

    name: ClassVar[str] = "LIF"
    suffixes: ClassVar[tuple[str, ...]] = (".lif",)
    magics: ClassVar[tuple[bytes, ...]] = (b"\x70\x00\x00\x00",)
    writes: ClassVar[bool] = False

    def read(self, path: Path, request: Request) -> FileContent:
        """Open an image."""
        pick_level(path, request.level, 1)
        with without_log("liffile"), _opened(path) as file:
            images = list(file.images)
            number = choose_scene(path, _names(images), request)
            image = images[number]
            letters, shape = image.dims, image.shape
            axes = "".join(_LETTERS.get(letter, "?") for letter in letters)
            described = list(zip(letters, axes, shape, strict=True))
            surplus = [letter for letter, axis, n in described if n > 1 and (axis == "?" or axes.count(axis) > 1)]
            if surplus:
                rule = f"has the dimensions {', '.join(f'{letter} ({n})' for letter, n in zip(letters, shape, strict=True))}"
                remedy = "Merge tiles in LAS X (M), or export the image as OME-TIFF."
                raise DataError("lif.dimensions", f"{rule}, of which {', '.join(surplus)} cannot be read", file=path, remedy=remedy)
            needed, block = int(np.prod(shape, dtype=np.int64)) * image.dtype.itemsize, image.memory_block
            held = min(block.size, path.stat().st_size - block.offset)
            if held < needed:
                raise unreadable_file(path, f"the image {image.name!r} holds {held} bytes but needs {needed}")
            size = _voxel_size(image, axes)
            return content(path, LifArray(shape, image.dtype, path, number), axes, size)


def _names(images: list[LifImageABC]) -> dict[str, object]:
    """Names of the images, with numbers where they are repeated, and their shapes."""
    names: dict[str, object] = {}
    for number, image in enumerate(images):
        names[image.path if image.path not in names else f"{image.path} #{number}"] = image.shape
    return names


def _opened(path: Path) -> LifFile:
    try:
        from liffile import LifFile
    except ImportError:
        rule, remedy = "is a LIF file, which needs the package liffile", "Install it with: pip install 'morula[formats]'"
        raise MissingExtraError("extra.liffile", rule, file=path, remedy=remedy) from None
    return LifFile(path, squeeze=False)


def _voxel_size(image: LifImageABC, axes: str) -> VoxelSize | None:
    """Edge lengths from the physical length between the first and the last voxel of each axis."""
    letters = {"1": "X", "2": "Y", "3": "Z"}
    found: dict[str, float] = {}
    for dimension in image.xml_element.findall("./Data/Image/ImageDescription/Dimensions/DimensionDescription"):
        letter, text = letters.get(dimension.get("DimID", "")), dimension.get("Length", "")
        count, unit = int(dimension.get("NumberOfElements", "1")), dimension.get("Unit", "")
        if letter is None or count < 2:
            continue
        length = positive_length(f"DimensionDescription.{letter}.Length", text.strip().removeprefix("-"))  # negative: the axis points back
        one = None if length is None else lengths_to_voxel_size([length / (count - 1)] * 2, "yx", unit or "pixel")
        if one is not None and one.unit == "um":
            found[letter] = one.x
        elif length is not None:
            ignore_field(f"DimensionDescription.{letter}.Unit", unit, "must be a unit of length")
    wanted = [letter for letter in "ZYX" if letter in axes and (letter != "Z" or "Z" in found)]
    return lengths_to_voxel_size([found[letter] for letter in wanted], "".join(wanted), "um") if {"Y", "X"} <= set(found) else None
