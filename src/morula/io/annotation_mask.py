"""Label images with unannotated voxels, which an annotation mask marks."""

from __future__ import annotations

import numpy as np

from morula.core.array import ArraySource
from morula.core.errors import DataError
from morula.core.image import Image
from morula.io.lazy import LazyArray, Opened, View, take_channel

UNANNOTATED = 2**32 - 1
"""Default label of unannotated voxels: the largest id, which no object of a real image has."""


def mark_unannotated(labels: Image, mask: Image, value: int = UNANNOTATED) -> Image:
    """Labels with the value `value` wherever the annotation mask is 0.

    Args:
        labels: label image.
        mask: image of the same spatial shape with one channel; not 0 where the labels are valid.
        value: label of unannotated voxels.

    Returns:
        Lazy label image, uint32, with axes and voxel size of `labels`.

    Raises:
        DataError: when the mask has another shape, or several channels.

    Examples:
        >>> labels, mask = Image(np.array([[1, 2]], np.uint8), "YX"), Image(np.array([[0, 1]], np.uint8), "YX")
        >>> np.asarray(mark_unannotated(labels, mask, 9))
        array([[9, 2]], dtype=uint32)
    """
    if mask.n_channels != 1:
        raise DataError(
            "mask.channels", f"has {mask.n_channels} channels; a mask has one", file=mask.source, remedy="Save it in one channel."
        )
    if mask.spatial_shape != labels.spatial_shape:
        raise DataError("mask.shape", f"has {mask.spatial_shape} voxels but the labels have {labels.spatial_shape}", file=mask.source)
    mask = take_channel(mask, 0)
    order = [mask.axes.index(letter) for letter in labels.axes]
    return Image(_Marked(labels.data, View(mask.data, order), value), labels.axes, labels.voxel_size, labels.source)


class _Marked(LazyArray):
    """Labels and mask, combined block by block."""

    def __init__(self, labels: ArraySource, mask: ArraySource, value: int) -> None:
        super().__init__(labels.shape, np.uint32, path=getattr(labels, "path", None), chunks=getattr(labels, "chunks", None))
        self.labels, self.mask, self.value = labels, mask, value

    def _open(self) -> Opened:
        return self, lambda: None  # never used: `_read` reads from the two arrays, which open their own files

    def _read(self, box: tuple[slice, ...]) -> np.ndarray:
        labels = np.asarray(self.labels[box]).astype(np.uint32)  # a copy: the labels may be an array in memory
        labels[np.asarray(self.mask[box]) == 0] = self.value
        return labels
