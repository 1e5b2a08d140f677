"""The interface of a file format: how it is recognised, read and written."""

from __future__ import annotations

import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError, OptionError
from morula.core.family import did_you_mean
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.io.metadata import MetadataWarning, ignore_field, tell

RAW_NAMES = ("raw", "image", "images", "img", "data", "volume", "exported_data", "main")
LABEL_NAMES = ("label", "labels", "masks", "mask", "gt", "segmentation", "exported_data", "data", "volume")


Missing: TypeAlias = Literal["error", "zeros", "unchecked"]


@dataclass(frozen=True)
class Request:
    """What to read from a file: a data set inside it, a pyramid level, and whether it holds label ids or intensities.

    `missing` is what becomes of planes, strips and chunks that the file declares but does not contain: an ``error``, ``zeros`` with a
    warning, or ``unchecked`` where only the header is needed.
    """

    dataset: str | None = None
    level: int = 0
    labels: bool = False
    missing: Missing = "error"
    shape: tuple[int, ...] | None = None
    """Shape (Z)YX of the image that labels belong to, for formats of outlines, which may not state it."""


@dataclass(frozen=True, eq=False)
class FileContent:
    """Content of a file: an array (lazy where the format allows it), and its axes, voxel size and origin where the file has them."""

    data: ArraySource
    axes: Axes | None = None
    voxel_size: VoxelSize | None = None
    origin: tuple[float, ...] | None = None
    """Place of the first voxel, see `Image`."""


@dataclass(frozen=True)
class Target:
    """How to write an array: its axes and voxel size, whether it holds label ids, and its name inside the file."""

    axes: Axes
    voxel_size: VoxelSize | None = None
    labels: bool = False
    dataset: str | None = None
    existing: Path | None = None
    """The existing file to which a data set is added, for formats that support it."""
    like: Path | None = None
    """The image that the array was computed from: where it has an orientation, the file gets the same."""
    origin: tuple[float, ...] | None = None
    """Place of the first voxel, see `Image`; for formats that state it."""
    properties: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    """Measurements by the id of the object, for formats that hold them."""


class Format(ABC):
    """One file format. `suffixes` choose it by name (the first is the usual one), `magics` by the first bytes of the content."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    magics: ClassVar[tuple[bytes, ...]] = ()
    folder: ClassVar[bool] = False
    writes: ClassVar[bool] = True
    labels_only: ClassVar[bool] = False
    """Whether the format holds labels only, so that its files are no images of a folder."""

    def recognises(self, path: Path) -> bool:
        """Whether the content, not the name, is of this format."""
        if not self.magics or not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(16)
        return any(head.startswith(magic) for magic in self.magics)

    def parts(self, path: Path, name: str) -> list[str]:
        """Arrays in a file whose channels `FILE:/NAME,NAME` joins; empty where the name is that of one."""
        return []

    @abstractmethod
    def read(self, path: Path, request: Request) -> FileContent:
        """Open the file; values are read later where the format allows it.

        Raises:
            FileReadError: when the file is damaged.
            DataError: when it contains no image, or several.
            OptionError: when the request does not fit the file.
        """

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write an array, in memory or lazy, to a new file.

        Raises:
            OptionError: when the format cannot hold this array.
        """
        raise OptionError(
            "format.read_only", f"{self.name} files cannot be written", file=path, remedy="Choose the suffix .ome.zarr, .tif or .h5."
        )

    def place(self, path: Path, target: Target) -> Path:
        """The file or folder that contains the array itself."""
        return path

    def adds_to(self, path: Path, target: Target, overwrite: bool) -> bool:
        """Whether the array is added to an existing file whose other content is kept.

        Raises:
            FileWriteError: when it would replace a data set and `overwrite` is false.
        """
        return False

    def finished(self, path: Path, target: Target) -> None:  # noqa: B027 - most formats need nothing here
        """Called after the array has its final name."""


READ_AS_ZEROS = "read what is missing as zeros (missing='zeros'; --missing zeros; images.missing: zeros)"


def reject_missing(error: FileReadError, missing: Missing) -> None:
    """Raise the error for missing pieces of a file, or warn where they are to be read as zeros."""
    if missing == "error":
        raise error
    if missing == "zeros":
        tell(MetadataWarning(f"{error.rule}; they are read as zeros", code=error.code, file=error.file, field="pixels"), stacklevel=4)


def reject_selection(path: Path, request: Request, kind: str) -> None:
    """Reject `dataset` and `level` for a format that contains one image.

    Raises:
        OptionError: when one of them is given.
    """
    if request.dataset is not None:
        rule = f"does not apply to a {kind} file, which contains one image"
        raise OptionError("dataset.not_applicable", rule, key="dataset", value=request.dataset, file=path, remedy="Leave it out.")
    if request.level:
        rule = f"does not apply to a {kind} file, which has no pyramid"
        raise OptionError("level.not_applicable", rule, key="level", value=request.level, file=path, remedy="Leave it out.")


def pick_level(path: Path, level: int, n_levels: int) -> int:
    """The pyramid level as an index from 0; negative levels count from the coarsest.

    Raises:
        OptionError: for a level that the file does not have.
    """
    if not -n_levels <= level < n_levels:
        raise OptionError(
            "level.missing", f"does not exist; there are 0 (full resolution) to {n_levels - 1}", key="level", value=level, file=path
        )
    return level % n_levels


def place_inside(path: Path, name: str) -> str:
    """How a data set of a file is named, without the folders that the file is in.

    Examples:
        >>> place_inside(Path("a/train.h5"), "raw"), place_inside(Path("a/plate.ome.zarr/B/3"), "0")
        ('train.h5:/raw', 'plate.ome.zarr/B/3/0')
    """
    container = next((parent for parent in path.parents if parent.suffix.lower() in (".zarr", ".n5")), None)
    return f"{path.name}:/{name}" if container is None else f"{path.relative_to(container.parent).as_posix()}/{name}"


def choose_dataset(path: Path, found: Mapping[str, object], request: Request, prefix: str = "") -> str:
    """Name of the requested data set; without a request the only one, or the only one with a customary name.

    Customary names are raw, image, data, ...; for labels label, labels, ...; at any depth.

    Args:
        path: the file, for messages.
        found: data sets by name; the values print as their shapes.
        request: what to read.
        prefix: what precedes the names inside the file, for the message.

    Raises:
        DataError: when there are none, the requested one is missing, or none is obvious; the message lists them.
    """
    listing = ", ".join(f"{name} {shape}" for name, shape in list(found.items())[:20]) + (" ..." if len(found) > 20 else "")
    if not found:
        raise DataError("dataset.none", "contains no image data set", file=path, remedy="Check that it is the right file.")
    if request.dataset is not None:
        wanted = request.dataset.strip("/")
        if wanted not in found:
            raise DataError(
                "dataset.missing",
                f"does not exist; there are {listing}",
                key="dataset",
                value=wanted,
                file=path,
                remedy=did_you_mean(wanted, list(found)),
            )
        return wanted
    if len(found) == 1:
        return next(iter(found))
    # in the order of the names: `raw` before `data`, where a file has both
    for wanted in LABEL_NAMES if request.labels else RAW_NAMES:
        same = [name for name in found if name.rsplit("/", 1)[-1].lower() == wanted]
        if len(same) == 1:
            return same[0]
    raise DataError(
        "dataset.ambiguous",
        f"contains several data sets: {listing}",
        file=path,
        remedy=Remedy(
            f"name one as {place_inside(path, f'{prefix}NAME')}", "select it (dataset=NAME; --dataset NAME; images.dataset: NAME)"
        ),
    )


def check_is_image(path: Path, shape: Sequence[int], dtype: np.dtype) -> None:
    """Reject arrays that are not images.

    Raises:
        DataError: for other than 2 to 5 dimensions, or values that are not integers or real numbers.
    """
    if not 2 <= len(shape) <= 5:
        remedy = "Write it again with 2 to 5 dimensions, for example as ZYX."
        raise DataError("image.dimensions", "images have 2 to 5 dimensions", key="shape", value=tuple(shape), file=path, remedy=remedy)
    if dtype.kind not in "buif":
        rule = f"has values of type {dtype}; images hold integers or real numbers"
        raise DataError("image.type", rule, file=path, remedy="Convert the values to integers or real numbers.")


def check_declared_size(path: Path, shape: Sequence[int], dtype: np.dtype, ratio: int) -> None:
    """Reject pixels that the file cannot hold, before anything of that size is allocated; `ratio` is the best of its compression.

    Raises:
        FileReadError: ``image.implausible_size``.
    """
    declared, held = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if declared > ratio * (held + _SMALL_FILE):
        rule = f"declares {declared} bytes of pixels (shape {tuple(shape)}) but has {held} bytes"
        remedy = "The size in its header is damaged: copy it again from its source."
        raise FileReadError("image.implausible_size", rule, file=path, remedy=remedy)


_SMALL_FILE = 2**12
"""Bytes that every file may lack: very small ones hold little but their header."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress the warnings of a library; our errors report what matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def without_log(name: str) -> Iterator[None]:
    """Keep what a library logs off the screen; what matters becomes an error or a warning with the name of the file."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def lengths_to_voxel_size(lengths: Sequence[float] | None, letters: str, unit: str = "um") -> VoxelSize | None:
    """Voxel size in um (or pixel) from one length per axis; `None` for lengths without meaning (not positive, or all 1 pixel).

    Args:
        lengths: one per axis.
        letters: names of the axes; other axes than Z, Y and X are ignored.
        unit: unit of all lengths; `None` is returned when it is not a unit of length.

    Examples:
        >>> lengths_to_voxel_size([2.0, 0.5, 0.5], "zyx")
        VoxelSize(y=0.5, x=0.5, z=2.0, unit='um')
    """
    if lengths is None or len(lengths) != len(letters):
        return None
    # 9 digits: lengths that were stored as float32 come back as they were written (0.1, not 0.10000000149)
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


def is_partial(field: str, stated: Mapping[str, str], letters: str) -> bool:
    """Whether lengths are stated for a part of the axes only, which is told: most readers would take 1 for the others.

    Args:
        field: name of the metadata field, before the letter of an axis.
        stated: texts by the letters of their axes.
        letters: the axes of the image.
    """
    if not stated or len(stated) == len(letters):
        return False
    absent = ", ".join(f"{field}{letter}" for letter in letters if letter not in stated)
    ignore_field(", ".join(f"{field}{letter}" for letter in stated), ", ".join(stated.values()), f"is of no use without {absent}")
    return True


def positive_length(field: str, value: object) -> float | None:
    """A positive number, also with a decimal comma; `None`, with a warning, for anything else."""
    try:
        length = float(str(value).strip().replace(",", "."))
    except ValueError:
        length = math.nan
    if 0 < length < math.inf:
        return length
    ignore_field(field, value, "must be a positive number")
    return None
