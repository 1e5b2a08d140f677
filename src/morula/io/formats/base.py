"""What a file format is: how it is recognised, read and written."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from morula.core.axes import Axes
from morula.core.errors import DataError, OptionError
from morula.core.family import did_you_mean
from morula.core.voxel_size import VoxelSize

RAW_NAMES = ("raw", "image", "images", "img", "data", "volume", "exported_data", "main")
LABEL_NAMES = ("label", "labels", "masks", "mask", "gt", "segmentation", "exported_data", "data", "volume")


@dataclass(frozen=True)
class Request:
    """What is asked of a file: a data set inside it, a pyramid level, and whether label ids are wanted rather than intensities."""

    dataset: str | None = None
    level: int = 0
    labels: bool = False


@dataclass(frozen=True, eq=False)
class FileContent:
    """What a file holds: an array (lazy where the format allows it), and its axes and voxel size where the file states them."""

    data: Any
    axes: Axes | None = None
    voxel_size: VoxelSize | None = None


@dataclass(frozen=True)
class Target:
    """How to write: axes and voxel size of the array, whether it holds label ids, the name inside the file, and whether to replace that."""

    axes: Axes
    voxel_size: VoxelSize | None = None
    labels: bool = False
    dataset: str | None = None
    existing: Path | None = None
    """The file that one data set is added to, where the format does that."""


class Format(ABC):
    """One file format. `suffixes` choose it by name (the first is the usual one), `magics` by the first bytes of the content."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    magics: ClassVar[tuple[bytes, ...]] = ()
    folder: ClassVar[bool] = False
    writes: ClassVar[bool] = True

    def recognises(self, path: Path) -> bool:
        """Whether the content, not the name, is of this format."""
        if not self.magics or not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(16)
        return any(head.startswith(magic) for magic in self.magics)

    @abstractmethod
    def read(self, path: Path, request: Request) -> FileContent:
        """Open the file; values are read later where the format allows it."""

    def write(self, path: Path, data: Any, target: Target) -> None:
        """Write an array, in memory or lazy, to a new file.

        Raises:
            OptionError: when the format cannot hold this array.
        """
        raise OptionError(f"{self.name} files can be read but not written; choose the suffix .ome.zarr, .tif or .h5 for {path.name!r}.")

    def place(self, path: Path, target: Target) -> Path:
        """The file or folder that the array itself will lie in."""
        return path

    def adds_to(self, path: Path, target: Target, overwrite: bool) -> bool:
        """Whether the array is added to a file that exists, whose other content stays.

        Raises:
            FileWriteError: when it would replace something that may not be replaced.
        """
        return False

    def finished(self, path: Path, target: Target) -> None:  # noqa: B027 - most formats need nothing here
        """What is left to do once the array is in its place."""


def reject_selection(path: Path, request: Request, kind: str) -> None:
    """Refuse `dataset` and `level` for a format that holds one image.

    Raises:
        OptionError: when one of them is given.
    """
    if request.dataset is not None:
        raise OptionError(f"dataset={request.dataset!r} was given but {path.name!r} is a {kind} file, which holds one image. Leave it out.")
    if request.level:
        raise OptionError(f"level={request.level} was given but {path.name!r} is a {kind} file, which has no pyramid. Leave it out.")


def pick_level(path: Path, level: int, n_levels: int) -> int:
    """The level, checked; negative ones count from the coarsest.

    Raises:
        OptionError: for a level that the file does not have.
    """
    if not -n_levels <= level < n_levels:
        raise OptionError(f"level {level} was asked for but {path.name!r} has {n_levels}: 0 (full size) to {n_levels - 1}.")
    return level % n_levels


def choose_dataset(path: Path, found: Mapping[str, Any], request: Request) -> str:
    """The data set asked for, or the only or obvious one of those found (name -> something that prints as its shape).

    Obvious are the customary names (raw, image, data, ... or label, labels, ... when labels are wanted), at any depth.

    Raises:
        DataError: listing the data sets when none is obvious, the one asked for is absent, or there are none.
    """
    listing = ", ".join(f"{name} {shape}" for name, shape in list(found.items())[:20]) + (" ..." if len(found) > 20 else "")
    if not found:
        raise DataError(f"{str(path)!r} holds no image data set. Check that it is the right file.")
    if request.dataset is not None:
        wanted = request.dataset.strip("/")
        if wanted not in found:
            raise DataError(f"{str(path)!r} has no data set {wanted!r}; it holds {listing}.{did_you_mean(wanted, list(found))}")
        return wanted
    if len(found) == 1:
        return next(iter(found))
    for wanted in LABEL_NAMES if request.labels else RAW_NAMES:
        same = [name for name in found if name.rsplit("/", 1)[-1].lower() == wanted]
        if len(same) == 1:
            return same[0]
    raise DataError(f"{str(path)!r} holds several data sets: {listing}. Name one with dataset=..., or as {path.name}:/NAME.")


def check_is_image(path: Path, shape: Sequence[int], dtype: Any) -> None:
    """Refuse what is no image: other than 2 to 5 dimensions, or values that are not numbers.

    Raises:
        DataError: saying what the file holds.
    """
    if not 2 <= len(shape) <= 5:
        raise DataError(f"{str(path)!r} holds an array of shape {tuple(shape)}; images have 2 to 5 dimensions.")
    if dtype.kind not in "buif":
        raise DataError(f"{str(path)!r} holds values of type {dtype}; images hold integers or real numbers.")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep a library's own warnings away from the user: what matters is said by our errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def lengths_to_voxel_size(lengths: Sequence[float] | None, letters: str, unit: str = "um") -> VoxelSize | None:
    """Voxel size in um (or pixel) from a length an axis, ``None`` where they say nothing (not positive, or all 1 pixel).

    A 3D size without z is no size: guessing z would fake an isotropic volume.

    Examples:
        >>> lengths_to_voxel_size([2.0, 0.5, 0.5], "zyx")
        VoxelSize(y=0.5, x=0.5, z=2.0, unit='um')
    """
    if lengths is None or len(lengths) != len(letters):
        return None
    of = {letter: float(f"{float(length):.9g}") for letter, length in zip(letters.lower(), lengths, strict=True) if letter.lower() in "zyx"}
    if not all(0 < length < float("inf") for length in of.values()):
        return None
    try:
        size = VoxelSize(y=of["y"], x=of["x"], z=of.get("z"), unit=unit)
    except OptionError:  # a unit that is no length, for example seconds
        return None
    if size.unit == "pixel":
        return None if all(length == 1 for length in of.values()) else size
    return size.to("um")
