"""Results of Cellpose: ``NAME_seg.npy``, a pickled dictionary with the label image under ``masks``.

A pickle can run any code when it is loaded. This reader runs none of NumPy's and Python's: the few names that occur in these files stand
for small classes of its own, which only hold what an array consists of; any other name is an error.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from morula.core.errors import DataError

SUFFIX = "_seg.npy"
"""Ends the names of the files that Cellpose writes next to images."""


def read_masks(path: Path) -> np.ndarray:
    """The label image (Z)YX in a file of Cellpose.

    Raises:
        DataError: when the pickle holds anything else than arrays, numbers, texts and containers, or no label image.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
        content = _value(_Unpickler(file, path).load())
    content = content[0] if isinstance(content, list) and len(content) == 1 else content
    masks = _value(content.get("masks")) if isinstance(content, dict) else None
    if not isinstance(masks, np.ndarray) or masks.ndim not in (2, 3) or masks.dtype.kind not in "buif":
        rule = "holds pickled Python objects, but no label image named masks, as files of Cellpose do"
        raise DataError("npy.objects", rule, file=path, remedy="Save the array itself with numpy.save.")
    return masks


class _Kind:
    """A dtype: its letter and size, and its byte order."""

    def __init__(self, letters: object, *_: object) -> None:
        self.letters, self.order = str(letters), "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = str(state[1]) if str(state[1]) in "<>" else "<"

    @property
    def dtype(self) -> np.dtype:
        """The dtype, of numbers only."""
        found = np.dtype(f"{self.order}{self.letters.lstrip('<>|=')}")
        if found.kind not in "buif":
            raise ValueError(f"values of type {self.letters} are not read")
        return found


class _Array:
    """An array as it is pickled: shape, type and bytes."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def value(self) -> object:
        """The array; the list of objects of an array of objects."""
        _, shape, kind, columns_first, content = self.state
        if isinstance(content, list):
            return content
        return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if columns_first else "C")


def _from_buffer(content: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, kind, order == "F", content)
    return array


def _value(content: object) -> object:
    return content.value() if isinstance(content, _Array) else content


def _joined(*parts: object) -> str:
    return "/".join(map(str, parts))


def _number(kind: _Kind, content: object = b"") -> object:
    return np.frombuffer(content, kind.dtype)[0].item() if isinstance(content, bytes) and content else None


_NUMPY: dict[str, Callable[..., object] | str] = {
    "_reconstruct": _Array,
    "scalar": _number,
    "_frombuffer": _from_buffer,
    "ndarray": "ndarray",  # an argument of _reconstruct; nothing can call it
    "dtype": _Kind,
}
_NUMPY_MODULES = ("numpy", *(f"{core}.{part}" for core in ("numpy.core", "numpy._core") for part in ("multiarray", "numeric")))
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")


class _Bounded:
    """A file that is never asked for more than it holds: memory is taken before reading, and a pickle may declare any length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        """The next bytes, as far as there are any."""
        return self._file.read(min(count, self._size))

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        return self._file.readinto(buffer)  # type: ignore[attr-defined]


class _Unpickler(pickle._Unpickler):  # in Python: the one in C takes memory for any number of a memo
    """Loads containers, numbers, texts, and what stands for arrays and paths."""

    dispatch: ClassVar = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(_Bounded(file, path.stat().st_size))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if module in _NUMPY_MODULES and name in _NUMPY:
            return _NUMPY[name]
        if module.split(".")[0] == "pathlib" and name in _PATHS:
            return _joined
        rule = (
            f"holds a pickled {module}.{name}; only arrays, numbers, texts and containers are loaded from pickles, which can run any code"
        )
        remedy = "In Cellpose, save the masks as TIFF or PNG (cellpose.io.save_masks); from others, save the array itself with numpy.save."
        raise DataError("npy.objects", rule, file=self._path, remedy=remedy)
