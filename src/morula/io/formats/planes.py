"""Images of microscopes that are read plane by plane; what the formats of CZI, ND2 and LIF files share."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import READ_AS_ZEROS, FileContent, Missing, Request, check_is_image, reject_missing
from morula.io.lazy import LazyArray, Opened, View


class Planes(ABC):
    """An open file of which parts of single planes are read."""

    @abstractmethod
    def plane(self, t: int, c: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        """Values (y, x) of a part of a plane; the slices have a step of 1."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
        places = [range(part.start, part.stop, part.step or 1) for part in box]
        lengths = [len(place) for place in places]
        if 0 in lengths:
            return np.zeros(lengths, np.uint8)
        rows, columns = (slice(place[0], place[-1] + 1) for place in places[3:])
        steps = (slice(None, None, places[3].step), slice(None, None, places[4].step))
        found = [self.plane(t, c, z, rows, columns)[steps] for t, c, z in itertools.product(*places[:3])]
        return np.stack(found).reshape(lengths)


class PlaneArray(LazyArray):
    """The image (T, C, Z, Y, X) of a file that is read plane by plane."""

    path: Path

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, path: Path) -> None:
        super().__init__(shape, dtype, path=path, chunks=(1, 1, 1, *shape[3:]))

    @abstractmethod
    def _planes(self) -> Planes:
        """The open file."""

    def _open(self) -> Opened:
        planes = self._planes()
        return planes, planes.close


def content(path: Path, source: ArraySource, axes: str, size: VoxelSize | None) -> FileContent:
    """An image without the T, C and Z of length 1, which these formats always have."""
    kept = [place for place, letter in enumerate(axes) if letter in "YX" or source.shape[place] > 1]
    view = View(source, kept, {place: 0 for place in range(len(axes)) if place not in kept})
    check_is_image(path, view.shape, view.dtype)
    return FileContent(view, Axes("".join(axes[place] for place in kept)), size)


def choose_scene(path: Path, scenes: Mapping[str, object], request: Request) -> int:
    """The number of the requested scene: its place in the file, or its name. Without a request the only one.

    Args:
        path: the file, for messages.
        scenes: what the scenes are called; the values print as their shapes.
        request: what to read.

    Raises:
        DataError: when there is none, the requested one is missing, or there are several.
    """
    names = list(scenes)
    shown = ((number, name, scenes[name]) for number, name in enumerate(names[:20]))
    listing = ", ".join(f"{number} {'' if name == str(number) else repr(name) + ' '}{shape}" for number, name, shape in shown)
    listing += " ..." if len(names) > 20 else ""
    if not names:
        raise DataError("dataset.none", "contains no image", file=path, remedy="Check that it is the right file.")
    wanted = request.dataset
    if wanted is None and len(names) == 1:
        return 0
    ways = Remedy(f"name one as {path.name}:/0", "select it (dataset='0'; --scene 0; images.scene: 0)")
    if wanted is None:
        raise DataError("scene.ambiguous", f"contains several images: {listing}", file=path, remedy=ways)
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise DataError("dataset.missing", f"does not exist; there are {listing}", key="dataset", value=wanted, file=path, remedy=ways)


def check_planes(path: Path, missing: Sequence[object], total: int, mode: Missing) -> None:
    """Raise, or warn, for planes that the metadata declare but the file does not contain; the libraries read them as zeros."""
    if missing:
        listing = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
        rule = f"{len(missing)} of {total} planes are missing: {listing} (counted from 0)"
        remedy = Remedy("copy the file again from its source", "repeat an acquisition that was stopped", READ_AS_ZEROS)
        reject_missing(FileReadError("image.missing_planes", rule, file=path, remedy=remedy), mode)
