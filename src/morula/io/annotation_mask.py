"""Label images with the part that a mask leaves out marked by a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.lazy import LazyArray, View, take_channel

UNANNOTATED = 2**32 - 1
"""The label of voxels that nobody has looked at, where a mask tells them."""


def mark_unannotated(labels: Image, mask: Image, value: int = UNANNOTATED) -> Image:
    """Labels uint32 that have the value wherever the mask is 0; lazy.

    Raises:
        DataError: when the mask has another shape, or several channels.

    Examples:
        >>> labels, mask = Image(np.array([[1, 2]], np.uint8), "YX"), Image(np.array([[0, 1]], np.uint8), "YX")
        >>> np.asarray(mark_unannotated(labels, mask, 9))
        array([[9, 2]], dtype=uint32)
    """
    name = mask.source or "the mask"
    if mask.n_channels != 1:
        raise DataError(f"{name} has {mask.n_channels} channels; a mask has one, not 0 where the labels hold. Save it in one channel.")
    if mask.spatial_shape != labels.spatial_shape:
        raise DataError(f"{name} has {mask.spatial_shape} voxels but the labels have {labels.spatial_shape}. Give a mask of their shape.")
    mask = take_channel(mask, 0)
    order = [mask.axes.index(letter) for letter in labels.axes]
    return Image(_Marked(labels.data, View(mask.data, order), value), labels.axes, labels.voxel_size, labels.source)


class _Marked(LazyArray):
    def __init__(self, labels: Any, mask: Any, value: int) -> None:
        super().__init__(labels.shape, np.uint32, path=getattr(labels, "path", None), chunks=getattr(labels, "chunks", None))
        self.labels, self.mask, self.value = labels, mask, value

    def _open(self) -> tuple[Any, Callable[[], object]]:
        return self, lambda: None

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        labels = np.asarray(self.labels[box]).astype(np.uint32)
        labels[np.asarray(self.mask[box]) == 0] = self.value
        return labels
