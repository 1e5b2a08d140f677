"""An image in memory: a NumPy array that carries its axes and its voxel size."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.voxel_size import VoxelSize, spacing_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_State: TypeAlias = tuple[Axes | None, VoxelSize | None, str | None]
_UNKNOWN: _State = (None, None, None)


class ImageArray(np.ndarray):
    """A NumPy array with axes and voxel size, as `Model.segment` returns: everything that takes an array takes it.

    Arithmetic, copies and conversions keep axes and voxel size. Slices of them follow: a step multiplies the length of a voxel, an index
    removes its axis. Operations that move axes (``transpose``, ``reshape``) or that remove Y or X give an array without both.

    Args:
        values: the values; they are not copied where they are an array.
        axes: names of the dimensions.
        voxel_size: edge lengths of a voxel; `None` when unknown.
        source: file that the values were computed from, for messages and for the formats of results.

    Attributes:
        axes: names of the dimensions; `None` after an operation that moved them.
        voxel_size: edge lengths of a voxel; `None` when unknown.
        source: the file that the values were computed from, if any.

    Raises:
        DataError: when axes and values differ in their number of dimensions.

    Examples:
        >>> labels = ImageArray([[0, 1, 1, 2]] * 4, "YX", VoxelSize(0.5, 0.5))
        >>> labels.max() == 2, labels.spacing
        (np.True_, (0.5, 0.5))
        >>> labels[::2, 1:].voxel_size
        VoxelSize(y=1.0, x=0.5, z=None, unit='um')
    """

    axes: Axes | None
    voxel_size: VoxelSize | None
    source: str | None

    def __new__(cls, values: ArrayLike, axes: str, voxel_size: VoxelSize | None = None, source: str | None = None) -> ImageArray:
        """The array; not copied where `values` is one."""
        array = np.asarray(values)
        named = Axes(axes)
        if len(named) != array.ndim:
            rule = f"name {len(named)} dimensions but the array has shape {array.shape}"
            raise DataError("axes.count", rule, key="axes", value=str(axes), remedy="Give one letter per dimension.", file=source)
        return array.view(cls)._with((named, voxel_size, source))

    def __array_finalize__(self, parent: Any) -> None:
        # NumPy makes every view and copy through this method
        self._with(parent._state if isinstance(parent, ImageArray) and parent.shape == self.shape else _UNKNOWN)

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else super().__array_wrap__(array, context, return_scalar)

    def __getitem__(self, key: Any) -> Any:
        taken = super().__getitem__(key)
        return taken._with(_sliced(self, key)) if isinstance(taken, ImageArray) else taken

    # a transposed square image has the shape of the image, so that it must not be taken for a copy
    def transpose(self, *axes: Any) -> ImageArray:
        """As of NumPy; the result has no axes and no voxel size."""
        return super().transpose(*axes)._with(_UNKNOWN)

    def swapaxes(self, first: Any, second: Any, /) -> ImageArray:
        """As of NumPy; the result has no axes and no voxel size."""
        return super().swapaxes(first, second)._with(_UNKNOWN)

    @property
    def T(self) -> ImageArray:
        """As of NumPy; the result has no axes and no voxel size."""
        return self.transpose()

    @property
    def mT(self) -> ImageArray:
        """As of NumPy; the result has no axes and no voxel size."""
        return self.swapaxes(-1, -2)

    def __reduce__(self) -> Any:
        made: Any = super().__reduce__()  # a function, its arguments, and the state of an array
        return made[0], made[1], (made[2], self._state)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self._with(state[1])

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel edge lengths in array order, as `scale` of a layer in napari; ones when unknown."""
        ndim = 3 if self.axes is not None and "Z" in self.axes else 2
        return spacing_of(self.voxel_size, ndim)

    @property
    def _state(self) -> _State:
        return self.axes, self.voxel_size, self.source

    def _with(self, state: _State) -> ImageArray:
        self.axes, self.voxel_size, self.source = state
        return self


def _sliced(array: ImageArray, key: Any) -> _State:
    """Axes and voxel size of an array that is indexed."""
    keys = list(key) if isinstance(key, tuple) else [key]
    plain = all(isinstance(index, int | np.integer | slice | EllipsisType) and not isinstance(index, bool) for index in keys)
    if array.axes is None or not plain:
        return _UNKNOWN
    place = next((i for i, index in enumerate(keys) if index is Ellipsis), len(keys))
    keys[place : place + 1] = [slice(None)] * (array.ndim - sum(index is not Ellipsis for index in keys))
    axes = "".join(letter for letter, index in zip(array.axes, keys, strict=True) if isinstance(index, slice))
    if not {"Y", "X"} <= set(axes):
        return _UNKNOWN
    size = array.voxel_size
    if size is not None:
        steps = {letter: abs(index.step or 1) for letter, index in zip(array.axes, keys, strict=True) if isinstance(index, slice)}
        z = None if size.z is None or "Z" not in steps else size.z * steps["Z"]
        size = VoxelSize(y=size.y * steps["Y"], x=size.x * steps["X"], z=z, unit=size.unit)
    return Axes(axes), size, array.source
