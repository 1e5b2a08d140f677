"""Median filters of predicted channels."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from pydantic import Field, field_validator

from morula.core.errors import DataError, OptionError
from morula.core.options import Options as BaseOptions

FilterAxes = Literal["z", "yz", "xz", "xy", "zy", "zx", "yx"]


class Options(BaseOptions):
    """A median filter along one or two axes."""

    axes: FilterAxes = "z"
    """Axes of the window; with z among them only in 3D."""
    size: int = Field(5, ge=1)
    """Voxels of the window along each of them, an odd number."""

    @field_validator("size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} is even; a median has a middle, so take {value + 1}")
        return value


def median(values: np.ndarray, axes: FilterAxes = "z", size: int = 5) -> np.ndarray:
    """The median in a window around each voxel, mirrored at the border; it takes out what single planes have alone.

    Args:
        values: (Z)YX, any numbers.
        axes: axes along which the window reaches.
        size: its voxels along each of them, an odd number.

    Raises:
        DataError: for an axis that the image has not.
        OptionError: for an even size or other axes.

    Examples:
        >>> median(np.array([[[0.0]], [[9.0]], [[1.0]]]), "z", 3).ravel()
        array([0., 1., 1.])
    """
    if axes not in get_args(FilterAxes):
        raise OptionError(f"axes are {axes!r}; use one of {', '.join(get_args(FilterAxes))}.")
    if size < 1 or size % 2 == 0:
        raise OptionError(f"size is {size}; a median has a middle, so take an odd number.")
    if "z" in axes and values.ndim == 2:
        raise DataError(f"a median along {axes} needs a 3D image, but this one has shape {values.shape}. Filter along xy, or leave it out.")
    from scipy import ndimage

    return ndimage.median_filter(values, size=[size if axis in axes else 1 for axis in "zyx"[-values.ndim :]])
