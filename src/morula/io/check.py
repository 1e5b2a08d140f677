"""Checks of the values of an image, before training or prediction starts."""

from __future__ import annotations

from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.blocks import iterate_blocks

_EDGES = (1e-11, 1e-2)
"""Shortest and longest edge of a voxel in metres: a tenth of an ångström, and a centimetre."""


def check_image(image: Image) -> list[str]:
    """Warnings about the values and the voxel size of an image, as sentences. Lazy images are read block by block.

    Integer images are read only until a second value is found; of float images all values are checked.

    Raises:
        DataError: for an image without voxels, or with NaN or infinite values.

    Examples:
        >>> from morula.core.axes import Axes
        >>> check_image(Image(np.zeros((4, 4)), Axes("YX"), source="a.tif"))
        ['a.tif is constant: every value is 0. Check that it is the right file and channel.']
    """
    name = image.source or "the image"
    if 0 in image.shape:
        raise DataError("image.empty", f"is empty: its shape is {image.shape}", file=image.source, remedy="Remove it, or write it again.")
    is_integer = image.dtype.kind in "bui"
    first: Any = None
    constant = True
    for block in iterate_blocks(image.data):
        if not is_integer:
            bad = block.size - int(np.count_nonzero(np.isfinite(block)))
            if bad:
                raise DataError(
                    "image.not_finite",
                    f"holds NaN or infinite values ({bad} of {block.size} in one block)",
                    file=image.source,
                    remedy="Replace them, for example with numpy.nan_to_num.",
                )
        # compared in the type of the file: as floats, large ids and 64-bit values would seem equal
        first = block.flat[0] if first is None else first
        constant = constant and bool((block == first).all())
        if is_integer and not constant:  # nothing else can be wrong with integers
            break
    found = [f"{name} is constant: every value is {float(first):g}. Check that it is the right file and channel."] if constant else []
    return found + _doubtful_edges(image, name)


def check_weights(weights: Image) -> None:
    """Check that factors of the loss are finite and not negative; lazy images are read block by block.

    Raises:
        DataError: when they are not.

    Examples:
        >>> from morula.core.axes import Axes
        >>> check_weights(Image(np.array([[0.0, 2.5]]), Axes("YX")))
    """
    for block in iterate_blocks(weights.data):
        bad = block.size - int(np.count_nonzero((block >= 0) & (block < np.inf)))
        if bad:
            rule, remedy = f"holds negative, infinite or NaN weights ({bad} of {block.size} in one block)", "Write 0 where nothing counts."
            raise DataError("weights.value", rule, file=weights.source, remedy=remedy)


def _doubtful_edges(image: Image, name: str) -> list[str]:
    """A warning about edge lengths that no microscope has; usually the unit is wrong."""
    if image.voxel_size is None or image.voxel_size.unit == "pixel":
        return []
    edges = image.voxel_size.to("m").spacing(image.ndim_spatial)
    if all(_EDGES[0] <= edge <= _EDGES[1] for edge in edges):
        return []
    lengths = " x ".join(f"{edge:.3g}" for edge in image.spacing)
    return [f"{name} has voxels of {lengths} {image.voxel_size.unit}. Check the unit in the file, or state the right voxel size."]
