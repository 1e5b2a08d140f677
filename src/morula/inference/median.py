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
    """Axes of the window; those with z only in 3D."""
    size: int = Field(5, ge=1)
    """Length of the window along each of these axes in voxels, odd."""

    @field_validator("size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise OptionError("median.size", "must be odd", key="size", value=value, remedy=f"Use {value + 1}.")
        return value


def median(values: np.ndarray, axes: FilterAxes = "z", size: int = 5) -> np.ndarray:
    """The median in a window around each voxel, with reflection at the border; removes structures of single planes.

    Args:
        values: (Z)YX, any numbers.
        axes: axes of the window.
        size: length of the window along each of these axes in voxels, odd.

    Raises:
        DataError: for an axis that the image does not have.
        OptionError: for an even size or other axes.

    Examples:
        >>> median(np.array([[[0.0]], [[9.0]], [[1.0]]]), "z", 3).ravel()
        array([0., 1., 1.])
    """
    if axes not in get_args(FilterAxes):
        raise OptionError("median.axes", f"must be one of {', '.join(get_args(FilterAxes))}", key="axes", value=axes)
    if size < 1 or size % 2 == 0:
        raise OptionError("median.size", "must be odd and at least 1", key="size", value=size)
    if "z" in axes and values.ndim == 2:
        raise DataError(
            "median.dimensions",
            f"a median along {axes} needs a 3D image, but this one has the shape {values.shape}",
            key="axes",
            value=axes,
            remedy="Filter along xy, or leave the filter out.",
        )
    from scipy import ndimage

    # reflection, SciPy's default: the window at the border holds values of the image only
    return ndimage.median_filter(values, size=[size if axis in axes else 1 for axis in "zyx"[-values.ndim :]])
