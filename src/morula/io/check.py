"""Images looked at before hours are spent on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.blocks import iterate_blocks


def check_image(image: Image) -> list[str]:
    """What is doubtful about an image's values, as sentences for the user. Lazy images are gone through block by block.

    Raises:
        DataError: for an image without voxels, or with NaN or infinite values.

    Examples:
        >>> from morula.core.axes import Axes
        >>> check_image(Image(np.zeros((4, 4)), Axes("YX"), source="a.tif"))
        ['a.tif is constant: every value is 0. Check that it is the right file and channel.']
    """
    name = image.source or "the image"
    if 0 in image.shape:
        raise DataError(f"{name} is empty: its shape is {image.shape}. Remove it, or write it again.")
    whole = image.dtype.kind in "bui"
    first: Any = None
    constant = True
    for block in iterate_blocks(image.data):
        if not whole:
            bad = block.size - int(np.count_nonzero(np.isfinite(block)))
            if bad:
                raise DataError(
                    f"{name} holds NaN or infinite values ({bad} of {block.size} in one block). Replace them, for example by nan_to_num."
                )
        first = block.flat[0] if first is None else first
        constant = constant and bool((block == first).all())
        if whole and not constant:
            break
    return [f"{name} is constant: every value is {float(first):g}. Check that it is the right file and channel."] if constant else []
