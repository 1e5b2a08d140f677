"""Lazy arrays: their values are in a file and are read when the array is sliced; and lazy views of them."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from morula.core.array import ArraySource, Index, SliceReader
from morula.core.axes import Axes, several_time_points
from morula.core.errors import DataError, MorulaError
from morula.core.file_errors import unreadable_file
from morula.core.image import Image
from morula.core.indexing import split_index
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize

Opened: TypeAlias = tuple[SliceReader, Callable[[], object]]
"""What an open file is read through, and the function that closes the file."""


class LazyArray(ABC):
    """A read-only array of known `shape` and `dtype` whose values are read when it is sliced.

    Indexing follows NumPy: integers, slices, ``...``, ``None`` and index arrays; only the box around the requested values is read. The
    file is opened at the first access in each process and closed with the object, so that it can be pickled for worker processes.

    Args:
        shape: lengths of the axes.
        dtype: type of the values; always in native byte order.
        path: the file, for messages.
        chunks: shape of the chunks that the file is stored in, `None` when it has none.

    Attributes:
        companions: further files that hold values of the array.
    """

    companions: Sequence[str] = ()

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, *, path: Path | None = None, chunks: Sequence[int] | None = None) -> None:
        self.shape = tuple(int(n) for n in shape)
        # readers hand out native byte order; numba and torch accept no other
        self.dtype: np.dtype = np.dtype(dtype).newbyteorder("=")
        self.path = path
        self.chunks = None if chunks is None else tuple(int(n) for n in chunks)
        self._cache: tuple[int, SliceReader] | None = None

    @abstractmethod
    def _open(self) -> Opened:
        """An object that is indexed with a tuple of slices, and the function that closes it."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return self.size * self.dtype.itemsize

    def _handle(self) -> SliceReader:
        # the cache belongs to one process: after a fork the child opens the file itself, since file positions are shared
        if self._cache is None or self._cache[0] != os.getpid():
            handle, close = self._open()
            weakref.finalize(self, close)
            self._cache = (os.getpid(), handle)
        return self._cache[1]

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self._handle()[box], dtype=self.dtype)
        except MorulaError:
            raise
        except Exception as error:  # the libraries of the formats raise errors of any class for damaged values
            raise unreadable_file(self.path, error) from error

    def __getitem__(self, key: Index) -> np.ndarray:
        # files read boxes only; what a box cannot express (reversed axes, index arrays, new axes) is applied to the block in memory
        box, rest = split_index(key, self.shape)
        return self._read(box)[rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": None}  # an open file cannot be pickled; the other process opens it again

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype} in {str(self.path)!r}>"


class View(LazyArray):
    """Lazy view of another array: axes transposed, added or fixed at an index, or values converted to another type.

    Args:
        source: the other array, in memory or lazy.
        axes: for each axis of the view, the axis of the source; `None` for a new axis of length 1.
        fixed: index by source axis, for the axes of the source that the view does not have.
        dtype: type of the values, that of the source when `None`.
    """

    def __init__(
        self, source: ArraySource, axes: Sequence[int | None], fixed: Mapping[int, int] | None = None, dtype: DTypeLike | None = None
    ) -> None:
        chunks = getattr(source, "chunks", None)
        super().__init__(
            [1 if a is None else source.shape[a] for a in axes],
            source.dtype if dtype is None else dtype,
            path=getattr(source, "path", None),
            chunks=None if chunks is None else [1 if a is None else chunks[a] for a in axes],
        )
        self.source, self.axes, self.fixed = source, tuple(axes), dict(fixed or {})

    def _open(self) -> Opened:
        return self.source, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        requested: list[slice] = [slice(None)] * len(self.source.shape)
        for fixed_axis, index in self.fixed.items():
            requested[fixed_axis] = slice(index, index + 1)
        for part, axis in zip(box, self.axes, strict=True):
            if axis is not None:
                requested[axis] = part
        block = np.asarray(self.source[tuple(requested)])
        kept = [axis for axis in self.axes if axis is not None]
        # fixed axes have length 1 here, so that dropping them by `reshape` keeps the order of the values
        block = block.transpose([*kept, *self.fixed]).reshape([block.shape[axis] for axis in kept])
        new = tuple(position for position, axis in enumerate(self.axes) if axis is None)
        if new:  # the requested part of a new axis may be empty or strided like any other
            block = np.expand_dims(block, new)[
                tuple(part if axis is None else slice(None) for part, axis in zip(box, self.axes, strict=True))
            ]
        return block.astype(self.dtype, copy=False)


class Stack(LazyArray):
    """Lazy arrays C... of one shape as one array with all their channels.

    Raises:
        DataError: when their shapes differ.

    Examples:
        >>> Stack([np.zeros((1, 2)), np.ones((2, 2))], "a.h5")[:, 0].tolist()
        [0.0, 1.0, 1.0]
    """

    def __init__(self, parts: Sequence[ArraySource], name: str) -> None:
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            rule = f"holds data sets of the shapes {shapes}, which cannot become channels of one image"
            raise DataError("image.shapes_differ", rule, file=name, remedy="Name data sets of one shape.")
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        super().__init__(shape, np.result_type(*(part.dtype for part in parts)), chunks=getattr(parts[0], "chunks", None))
        self.parts = tuple(parts)

    def _open(self) -> Opened:
        return self, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        channels, *inside = box
        return np.concatenate([np.asarray(part[(slice(None), *inside)], self.dtype) for part in self.parts])[channels]


class Flipped(LazyArray):
    """Lazy view of another array with some axes reversed.

    Args:
        source: the other array, in memory or lazy.
        axes: the reversed axes.

    Examples:
        >>> Flipped(np.arange(6).reshape(2, 3), [1])[0, :2].tolist()
        [2, 1]
    """

    def __init__(self, source: ArraySource, axes: Sequence[int]) -> None:
        super().__init__(source.shape, source.dtype, path=getattr(source, "path", None), chunks=getattr(source, "chunks", None))
        self.source, self.axes = source, tuple(axes)

    def _open(self) -> Opened:
        return self.source, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        requested = list(box)
        for axis in self.axes:
            length = self.shape[axis]
            places = range(*box[axis].indices(length))
            requested[axis] = slice(length - 1 - places[-1], length - places[0], places.step) if places else slice(0, 0)
        return np.flip(np.asarray(self.source[tuple(requested)], dtype=self.dtype), self.axes)


class Part(LazyArray):
    """Lazy view of a box of another array.

    Args:
        source: the other array, in memory or lazy.
        box: the first voxel along each axis, and the one behind the last.

    Examples:
        >>> Part(np.arange(12).reshape(3, 4), Region((1, 1), (3, 3)))[:, 0].tolist()
        [5, 9]
    """

    def __init__(self, source: ArraySource, box: Region) -> None:
        super().__init__(box.shape, source.dtype, path=getattr(source, "path", None), chunks=getattr(source, "chunks", None))
        self.source, self.box = source, box

    def _open(self) -> Opened:
        return self.source, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        bounds = (part.indices(n) for part, n in zip(box, self.shape, strict=True))
        return np.asarray(self.source[tuple(slice(a + lo, b + lo, step) for (a, b, step), lo in zip(bounds, self.box.start, strict=True))])


def take_region(image: Image, region: Region) -> Image:
    """A box (Z)YX of an image; lazy. Its `origin` says where it lies in the image.

    Raises:
        DataError: when the box does not lie in the image.
    """
    if len(region.start) != image.ndim_spatial or not all(
        0 <= a < b <= n for a, b, n in zip(region.start, region.stop, image.spatial_shape, strict=False)
    ):
        spatial = image.axes.spatial_axes
        rule = f"does not lie in the image, which has {' x '.join(map(str, image.spatial_shape))} voxels ({spatial})"
        remedy = f"Give a first voxel and the one behind the last for each of {', '.join(spatial.lower())}."
        raise DataError("image.no_region", rule, key="region", value=str(region), file=image.source, remedy=remedy)
    ends = dict(zip(image.axes.spatial_axes, zip(region.start, region.stop, strict=True), strict=True))
    bounds = [ends.get(letter, (0, n)) for letter, n in zip(image.axes, image.shape, strict=True)]
    box = Region(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))
    before = image.origin or (0.0,) * image.ndim_spatial
    origin = tuple(place + start * edge for place, start, edge in zip(before, region.start, image.spacing, strict=True))
    return replace(image, data=Part(image.data, box), origin=origin)


def take_channel(image: Image, channel: int) -> Image:
    """One channel of an image (counted from 0), without the C axis; lazy.

    Raises:
        DataError: when the image has no such channel.
    """
    if not 0 <= channel < image.n_channels:
        raise DataError(
            "image.no_channel",
            f"does not exist; there are {image.n_channels}, counted from 0",
            key="channel",
            value=channel,
            file=image.source,
        )
    if "C" not in image.axes:
        return image
    place = image.axes.index("C")
    rest = [axis for axis in range(len(image.axes)) if axis != place]
    return replace(image, data=View(image.data, rest, {place: channel}), axes=Axes(image.axes.replace("C", "")))


def take_time(image: Image, point: int) -> Image:
    """One time point of an image (counted from 0), without the T axis; lazy. An image without T has one.

    Raises:
        DataError: when the image has no such time point.
    """
    place = image.axes.index("T") if "T" in image.axes else None
    count = 1 if place is None else image.shape[place]
    if not 0 <= point < count:
        rule = f"does not exist; there are {count}, counted from 0"
        raise DataError("image.no_time_point", rule, key="time", value=point, file=image.source, remedy="Name one of them.")
    if place is None:
        return image
    kept = [axis for axis in range(len(image.axes)) if axis != place]
    return replace(image, data=View(image.data, kept, {place: point}), axes=Axes(image.axes.replace("T", "")))


def without_time(image: Image) -> Image:
    """An image with one time point without its T axis; lazy.

    Raises:
        DataError: for several time points.
    """
    if "T" not in image.axes:
        return image
    place = image.axes.index("T")
    if image.shape[place] != 1:
        raise several_time_points(image.shape[place], image.source)
    kept = [axis for axis in range(len(image.axes)) if axis != place]
    return replace(image, data=View(image.data, kept, {place: 0}), axes=Axes(image.axes.replace("T", "")))


def time_points(image: Image) -> list[Image]:
    """The images of a time series, in order, each without the T axis; lazy. An image without T is the only one."""
    return [take_time(image, point) for point in range(image.shape[image.axes.index("T")] if "T" in image.axes else 1)]


def is_flat(image: Image) -> bool:
    """Whether an image is 2D: without Z axis, or with one of length 1."""
    return "Z" not in image.axes or image.shape[image.axes.index("Z")] == 1


def without_z(image: Image) -> Image:
    """A flat image without its Z axis; lazy. Other images are returned as they are."""
    if "Z" not in image.axes or not is_flat(image):
        return image
    place = image.axes.index("Z")
    kept = [axis for axis in range(len(image.axes)) if axis != place]
    size = image.voxel_size
    size = None if size is None else VoxelSize(y=size.y, x=size.x, unit=size.unit)
    origin = None if image.origin is None else image.origin[1:]
    return replace(image, data=View(image.data, kept, {place: 0}), axes=Axes(image.axes.replace("Z", "")), voxel_size=size, origin=origin)


def with_z(image: Image, length: float | None) -> Image:
    """A 2D image with a Z axis of length 1, in front of Y and X; lazy.

    Args:
        image: the image.
        length: edge of a voxel along Z, in the unit of the image's voxel size; `None` when unknown.
    """
    if "Z" in image.axes:
        return image
    place = min(image.axes.index("Y"), image.axes.index("X"))
    axes: list[int | None] = list(range(len(image.axes)))
    axes.insert(place, None)
    size = image.voxel_size
    size = None if size is None or length is None else VoxelSize(y=size.y, x=size.x, z=length, unit=size.unit)
    origin = None if image.origin is None else (0.0, *image.origin)
    named = Axes(f"{image.axes[:place]}Z{image.axes[place:]}")
    return replace(image, data=View(image.data, axes), axes=named, voxel_size=size, origin=origin)


def like(image: Image, other: Image) -> Image:
    """An image with the dimensions of another one, where only a Z axis of length 1 makes the difference."""
    if image.ndim_spatial == other.ndim_spatial:
        return image
    if other.ndim_spatial == 2:
        return without_z(image)
    return with_z(image, None if other.voxel_size is None else other.voxel_size.z) if is_flat(other) else image
