"""Arrays that lie in a file and are read when they are sliced, and views of them."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from morula.core.axes import SPATIAL, Axes
from morula.core.errors import DataError, FileReadError, MorulaError
from morula.core.image import Image

_FAILURES = (OSError, ValueError, RuntimeError, EOFError, IndexError, KeyError, TypeError, ImportError)


def damaged(path: Any, error: BaseException | str) -> FileReadError:
    """The error for a file that its format's own library cannot decode."""
    return FileReadError(
        f"{str(path)!r} cannot be read ({_first_line(error)}). The file is damaged, truncated or not of the kind that its name says: "
        "copy it again from where it came from and compare the sizes."
    )


def _first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


class LazyArray(ABC):
    """A read-only array of known `shape` and `dtype` whose values are read when it is sliced.

    Slicing follows NumPy: integers, slices, ``...``, ``None`` and index arrays; only the box around what is asked for is read. The
    file is opened at the first slice in each process and closed with the object, so that it can be pickled for worker processes.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, *, path: Any = None, chunks: Sequence[int] | None = None) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
        self.path = path
        self.chunks = None if chunks is None else tuple(int(n) for n in chunks)
        self._cache: tuple[int, Any] | None = None

    @abstractmethod
    def _open(self) -> tuple[Any, Callable[[], object]]:
        """Something that can be sliced with a tuple of slices, and the function that closes it."""

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

    def _handle(self) -> Any:
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
        except _FAILURES as error:
            raise damaged(self.path, error) from error

    def __getitem__(self, key: Any) -> np.ndarray:
        box, rest = split_index(key, self.shape)
        return self._read(box)[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype} in {str(self.path)!r}>"


def split_index(key: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[Any, ...]]:
    """A NumPy index in two steps: slices with positive step that say what to read, and the index into what was read.

    Raises:
        IndexError: as NumPy does.

    Examples:
        >>> split_index((..., 3), (10, 8))
        ((slice(0, 10, 1), slice(3, 4, 1)), (slice(None, None, None), 0))
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} dimensions, {used} were indexed")
    place = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    keys[place : place + 1] = [slice(None)] * (len(shape) - used)
    box: list[slice] = []
    rest: list[Any] = []
    for k in keys:
        if k is None:
            rest.append(None)
            continue
        wanted, within = _split_one(k, shape[len(box)])
        box.append(wanted)
        rest.append(within)
    return tuple(box), tuple(rest)


def _split_one(key: Any, n: int) -> tuple[slice, Any]:
    if isinstance(key, slice):
        start, stop, step = key.indices(n)
        if step > 0:
            return slice(start, max(start, stop), step), slice(None)
        count = len(range(start, stop, step))
        return slice(start + (count - 1) * step, start + 1, -step) if count else slice(0, 0, 1), slice(None, None, -1)
    index = np.asarray(key)
    if index.dtype == bool:
        index = np.flatnonzero(index)
    if index.size == 0:
        return slice(0, 0, 1), index.astype(np.intp)
    index = np.where(index < 0, index + n, index)
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= n:
        raise IndexError(f"index {key!r} is out of bounds for a dimension of length {n}")
    return slice(low, high + 1, 1), index - low if index.ndim else 0


class View(LazyArray):
    """Another array with its axes in another order, an index taken on some, or its values in another type; as lazy as that array.

    `axes[i]` is the source's axis of axis i, `None` for a new one of length 1; `fixed` holds the index taken on a source axis.
    """

    def __init__(self, source: Any, axes: Sequence[int | None], fixed: Mapping[int, int] | None = None, dtype: Any = None) -> None:
        chunks = getattr(source, "chunks", None)
        super().__init__(
            [1 if a is None else source.shape[a] for a in axes],
            source.dtype if dtype is None else dtype,
            path=getattr(source, "path", None),
            chunks=None if chunks is None else [1 if a is None else chunks[a] for a in axes],
        )
        self.source, self.axes, self.fixed = source, tuple(axes), dict(fixed or {})

    def _open(self) -> tuple[Any, Callable[[], object]]:
        return self.source, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        asked: list[Any] = [None] * len(self.source.shape)
        for one, index in self.fixed.items():
            asked[one] = slice(index, index + 1)
        for part, axis in zip(box, self.axes, strict=True):
            if axis is not None:
                asked[axis] = part
        block = np.asarray(self.source[tuple(asked)])
        kept = [axis for axis in self.axes if axis is not None]
        block = block.transpose([*kept, *self.fixed]).reshape([block.shape[axis] for axis in kept])
        new = tuple(position for position, axis in enumerate(self.axes) if axis is None)
        if new:
            block = np.expand_dims(block, new)[
                tuple(part if axis is None else slice(None) for part, axis in zip(box, self.axes, strict=True))
            ]
        return block.astype(self.dtype, copy=False)


def take_channel(image: Image, channel: int) -> Image:
    """One channel of an image, without the C axis; lazy.

    Raises:
        DataError: when the image has no such channel.
    """
    if not 0 <= channel < image.n_channels:
        raise DataError(f"channel {channel} was asked for but {image.source or 'the image'} has {image.n_channels} (counted from 0).")
    if "C" not in image.axes:
        return image
    place = image.axes.index("C")
    rest = [axis for axis in range(len(image.axes)) if axis != place]
    return Image(View(image.data, rest, {place: channel}), Axes(image.axes.replace("C", "")), image.voxel_size, image.source)


def canonical_view(image: Image) -> LazyArray:
    """The image as C(Z)YX, read when sliced.

    Raises:
        DataError: when it has several time points.

    Examples:
        >>> view = canonical_view(Image(np.zeros((5, 7, 3)), Axes("YXC")))
        >>> view.shape, view[1, 2:4].shape
        ((3, 5, 7), (2, 7))
    """
    fixed: dict[int, int] = {}
    if "T" in image.axes:
        place = image.axes.index("T")
        if image.shape[place] != 1:
            raise DataError(
                f"{image.source or 'the image'} has {image.shape[place]} time points; one image at a time is handled. "
                "Split it, or state axes in which this dimension is Z or C."
            )
        fixed[place] = 0
    order = [letter for letter in "C" + SPATIAL if letter == "C" or letter in image.axes]
    return View(image.data, [image.axes.index(letter) if letter in image.axes else None for letter in order], fixed)
