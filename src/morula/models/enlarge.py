"""Images on a finer grid, that of the targets which a network learns (super-resolution)."""

from __future__ import annotations

from collections.abc import Sequence

from morula.core.errors import DataError
from morula.core.image import Image
from morula.models.scale import view_at_scale


def enlarged(image: Image, factors: Sequence[int]) -> Image:
    """An image, linearly interpolated to a grid that is finer by whole factors (Z)YX; lazy. The image itself where there are none.

    Raises:
        DataError: as `enlarged_shape`.

    Examples:
        >>> import numpy as np
        >>> np.asarray(enlarged(Image(np.array([[0, 4]], np.uint8), "YX"), (1, 2))).round(2)
        array([[0., 1., 3., 4.]], dtype=float32)
    """
    enlarged_shape(image, factors)
    return view_at_scale(image, _of_all_axes(image, factors)) if any(factor != 1 for factor in factors) else image


def enlarged_shape(image: Image, factors: Sequence[int]) -> tuple[int, ...]:
    """Spatial shape (Z)YX of an image on a grid that is finer by these factors.

    Raises:
        DataError: for more factors than axes, or fewer.
    """
    every = _of_all_axes(image, factors)
    if factors and len(every) != image.ndim_spatial:
        rule = f"has {len(factors)} factors but the images have {image.ndim_spatial} axes"
        raise DataError(
            "enlarge.axes", rule, key="method.enlarge", value=tuple(factors), file=image.source, remedy="Give one factor per axis."
        )
    return tuple(n * factor for n, factor in zip(image.spatial_shape, every, strict=True)) if factors else image.spatial_shape


def _of_all_axes(image: Image, factors: Sequence[int]) -> tuple[int, ...]:
    """The factors, with 1 for a Z axis of length 1 that they leave out."""
    flat = len(factors) == 2 and image.ndim_spatial == 3 and image.spatial_shape[0] == 1
    return (1, *factors) if flat else tuple(factors)
