"""A folder whose files are the planes of one volume: ``FOLDER:/planes``.

A folder alone stands for many images, so that the volume has a name of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.formats.base import FileContent, Request, reject_selection
from morula.io.formats.mask_folder import picture_format, pictures_in
from morula.io.lazy import LazyArray, Opened, without_time, without_z


class PlaneStack(LazyArray):
    """The planes of several files along a new first axis; each file is read when its plane is needed.

    Args:
        planes: arrays of one shape and type.
        files: their files.
    """

    def __init__(self, planes: Sequence[ArraySource], files: Sequence[Path]) -> None:
        first = planes[0]
        super().__init__((len(planes), *first.shape), first.dtype, path=files[0], chunks=(1, *first.shape))
        self.planes, self.companions = tuple(planes), [str(file) for file in files[1:]]

    def _open(self) -> Opened:
        return self, lambda: None  # each plane opens its own file

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        numbers = range(*box[0].indices(len(self.planes)))
        lengths = (len(range(*part.indices(n))) for part, n in zip(box[1:], self.shape[1:], strict=True))
        values = np.empty((len(numbers), *lengths), self.dtype)
        for place, number in enumerate(numbers):
            values[place] = self.planes[number][tuple(box[1:])]
        return values


def read_planes(folder: Path, request: Request) -> FileContent:
    """The volume (Z, ...) of the pictures of a folder, in the natural order of their names; its length of a voxel along z is unknown.

    Raises:
        DataError: when there are none, one is a volume itself, or they differ in shape, axes or type.
    """
    reject_selection(folder, replace(request, dataset=None), "a folder of planes")
    files = pictures_in(folder)
    if not files:
        rule, remedy = "holds no planes: no TIFF, PNG, BMP or JPEG file", "Name a folder of such files."
        raise DataError("planes.none", rule, file=folder, remedy=remedy)
    planes = [_plane(file, request) for file in files]
    first = planes[0]
    for plane in planes:
        if (plane.axes, plane.shape, plane.dtype) != (first.axes, first.shape, first.dtype):
            rule = f"is {_shown(plane)}, but {files[0].name} beside it is {_shown(first)}; all planes of a volume are alike"
            raise DataError("planes.differ", rule, file=plane.source, remedy="Take it out of the folder, or convert it.")
    return FileContent(PlaneStack([plane.data for plane in planes], files), Axes(f"Z{first.axes}"), first.voxel_size)


def _plane(file: Path, request: Request) -> Image:
    content = picture_format(file).read(file, replace(request, dataset=None, shape=None))
    plane = without_z(without_time(Image(content.data, content.axes or Axes.guess(content.data.shape), content.voxel_size, str(file))))
    if "Z" in plane.axes:
        rule = f"is a volume itself (axes {plane.axes}, shape {plane.shape}), not a plane of one"
        raise DataError("planes.volume", rule, file=file, remedy=f"Name the folder {file.parent} alone: each file is an image.")
    return plane


def _shown(plane: Image) -> str:
    return f"{' x '.join(map(str, plane.shape))} ({plane.axes}) {plane.dtype}"
