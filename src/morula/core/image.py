"""An image: an array that may be lazy, with its axes, its voxel size and its origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from morula.core.axes import Axes, canonical, several_time_points
from morula.core.errors import DataError
from morula.core.indexing import split_index
from morula.core.voxel_size import VoxelSize

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from morula.core.array import ArraySource, Index


@dataclass(frozen=True, eq=False)
class Image:
    """An image or label image. ``np.asarray(image)`` reads all values.

    Attributes:
        data: anything with ``shape``, ``dtype`` and NumPy slicing: an array, a Zarr array, an HDF5 data set.
        axes: names of the dimensions of `data`.
        voxel_size: edge lengths of a voxel; `None` when unknown.
        source: file that the image was read from, for messages.
        origin: place of the first voxel (Z)YX in the unit of `voxel_size`, in voxels when that is unknown; of a part of an image, or as
            the file states it.

    Raises:
        DataError: when `axes` and `data` differ in their number of dimensions.

    Examples:
        >>> import numpy as np
        >>> image = Image(np.zeros((5, 64, 32)), Axes("ZYX"), VoxelSize(0.1, 0.1, z=0.5))
        >>> image.ndim_spatial, image.spatial_shape, image.spacing
        (3, (5, 64, 32), (0.5, 0.1, 0.1))
    """

    data: ArraySource
    axes: Axes
    voxel_size: VoxelSize | None = None
    source: str | None = None
    origin: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        # callers may give plain letters; a frozen dataclass allows no other way to replace them by checked ones
        object.__setattr__(self, "axes", Axes(self.axes))
        if len(self.axes) != len(self.data.shape):
            raise DataError(
                "axes.count",
                f"name {len(self.axes)} dimensions but the array has shape {tuple(self.data.shape)}",
                key="axes",
                value=str(self.axes),
                remedy="Give one letter per dimension, for example axes='ZYX'.",
                file=self.source,
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the order of `axes`."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the values."""
        return self.data.dtype

    @property
    def ndim_spatial(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return self.axes.ndim_spatial

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the spatial axes (Z)YX, in voxels."""
        return tuple(self.shape[self.axes.index(letter)] for letter in "ZYX" if letter in self.axes)

    @property
    def n_channels(self) -> int:
        """Number of channels; 1 without a C axis."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel edge lengths in array order, in the unit of `voxel_size`; ones when unknown."""
        return VoxelSize.of(self.voxel_size, self.ndim_spatial).spacing(self.ndim_spatial)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:

        # `data` has to support slicing only; np.asarray of an object without `__array__` would read it index by index
        return np.asarray(self.data if isinstance(self.data, np.ndarray) else self.data[...], dtype=dtype)

    def canonical(self) -> np.ndarray:
        """All values as C(Z)YX."""

        if "T" in self.axes and self.shape[self.axes.index("T")] != 1:
            raise several_time_points(self.shape[self.axes.index("T")], self.source)
        return canonical(np.asarray(self), self.axes)

    def lazy(self) -> CanonicalView:
        """The values as C(Z)YX; they are read when the view is sliced."""
        return CanonicalView(self)


class CanonicalView:
    """View of an image as C(Z)YX. It is indexed like a NumPy array; only the box around the requested values is read.

    Raises:
        DataError: when it has several time points.

    Examples:
        >>> import numpy as np
        >>> view = Image(np.zeros((5, 64, 32, 3)), Axes("ZYXC")).lazy()
        >>> view.shape, view[0:2, 1:3, :, 4:10].shape, view[-1, ..., 0].shape
        ((3, 5, 64, 32), (2, 2, 64, 6), (5, 64))
    """

    def __init__(self, image: Image) -> None:
        if "T" in image.axes and image.shape[image.axes.index("T")] != 1:
            raise several_time_points(image.shape[image.axes.index("T")], image.source)
        self._image = image
        self.shape = (image.n_channels, *image.spatial_shape)
        self.dtype = image.dtype
        self.ndim = len(self.shape)
        # those of dask list the length of every chunk; `chunksize` is what one has
        chunks = getattr(image.data, "chunksize", None) or getattr(image.data, "chunks", None)
        edges: dict[str, int] = {}
        if chunks is not None and all(isinstance(edge, int) for edge in chunks):
            edges = dict(zip(image.axes, chunks, strict=True))
        self.chunks = tuple(edges.get(letter, 1) for letter in f"C{image.axes.spatial_axes}") if edges else None
        """Shape of the chunks C(Z)YX in which the image is stored, which are read as a whole; `None` where it has none."""

    def __getitem__(self, key: Index) -> np.ndarray:

        box, rest = split_index(key, self.shape)
        axes = self._image.axes
        wanted = dict(zip(f"C{axes.spatial_axes}", box, strict=True))
        stored = tuple(wanted.get(letter, slice(None)) for letter in axes)
        block = canonical(np.asarray(self._image.data[stored]), axes)
        # the file has no channel axis: `canonical` added one of length 1, and a slice of it may still be empty
        if "C" not in axes:
            block = block[box[0]]
        return block[rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:

        return np.asarray(self[...], dtype=dtype)
