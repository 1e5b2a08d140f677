"""What functions need of an array that may be in memory or in a file: shape, type, and reading or writing by slices.

NumPy arrays, Zarr arrays, HDF5 data sets, memory maps and Morula's lazy arrays all fit these protocols; none of them has to inherit
from anything.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

AxisIndex: TypeAlias = int | slice | EllipsisType | np.ndarray | None
"""What may stand in an index for one axis."""

Index: TypeAlias = AxisIndex | tuple[AxisIndex, ...]
"""What may stand between the brackets of ``array[...]``."""


Box: TypeAlias = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]
"""The indices that files support."""


class SliceReader(Protocol):
    """Anything that returns a box of values for one slice per axis."""

    def __getitem__(self, box: tuple[slice, ...], /) -> object:
        """The values of the box, as anything that ``numpy.asarray`` takes."""


class ArraySource(Protocol):
    """An array that can be read in boxes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""

    def __getitem__(self, box: Box, /) -> object:
        """The values of the box, as anything that ``numpy.asarray`` takes."""


class ArrayTarget(ArraySource, Protocol):
    """An array in a file that can be read and written in boxes."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the chunks that the file is stored in."""

    def __setitem__(self, box: Box, values: ArrayLike, /) -> None:
        """Store the values of the box."""
