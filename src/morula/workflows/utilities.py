"""Small steps before and after a segmentation, on one image each: cubic voxels, threshold, kinds of labels, and pieces of a large image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.errors import OptionError
from morula.core.events import Artefact, Event, FileWritten, Progress
from morula.core.image import Image
from morula.core.outputs import Destination, check_outputs
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.data.components import connected
from morula.data.crop import check_region, crop
from morula.data.sampling import Grid
from morula.inference.rescale import rescaled
from morula.io.write import files_behind, write
from morula.labels.on_grid import on_grid


def cropped(image: Image, region: Region) -> Image:
    """A box of an image.

    Raises:
        DataError: when it is not inside the image.
    """
    check_region(image, region, image.source or "the image")
    return _like(image, crop(image, region), image.voxel_size)


def with_cubic_voxels(image: Image, *, labels: bool = False) -> Image:
    """An image on a grid of cubic voxels with the shortest edge of its own: a volume gets more slices, and no detail is lost.

    Values are interpolated and keep their type; of labels each voxel takes the nearest one, and no object is lost.

    Raises:
        OptionError: when the voxel size is unknown, or the result would be more than 100 times as large.

    Examples:
        >>> flat = Image(np.zeros((5, 8, 8), np.uint8), "ZYX", VoxelSize(0.25, 0.25, z=1.0))
        >>> cubic = with_cubic_voxels(flat)
        >>> cubic.shape, cubic.spacing
        ((20, 8, 8), (0.25, 0.25, 0.25))
    """
    if image.voxel_size is None:
        rule = "is unknown, so that the proportions of the voxels cannot be corrected"
        raise OptionError(
            "utilities.voxel_size", rule, key="voxel_size", remedy="State the voxel size of the image: in napari as its scale."
        )
    finest = min(image.spacing)
    shape = tuple(max(1, round(n * length / finest)) for n, length in zip(image.spatial_shape, image.spacing, strict=True))
    if math.prod(shape) > 100 * math.prod(image.spatial_shape):
        rule = f"would give {shape} voxels; the edges of a voxel differ too much"
        raise OptionError("utilities.too_large", rule, key="voxel_size", value=image.spacing, remedy="Check the voxel size.")
    size = VoxelSize(**dict.fromkeys("zyx"[-len(shape) :], finest), unit=image.voxel_size.unit)
    values = image.canonical()
    if labels:
        return _like(image, np.stack([on_grid(channel, shape) for channel in values]), size)
    found = rescaled(values, shape)
    kind = values.dtype
    return _like(image, np.rint(found).astype(kind) if kind.kind in "iu" else found.astype(kind), size)


def above(image: Image, threshold: float | None = None) -> Image:
    """A mask, uint8, of the voxels above a threshold; by default that of Otsu.

    Raises:
        OptionError: for an image with several channels.

    Examples:
        >>> np.asarray(above(Image(np.array([[1.0, 2.0, 9.0]]), "YX"))).tolist()
        [[0, 0, 1]]
    """
    from skimage.filters import threshold_otsu

    values = _one_channel(image)
    limit = threshold_otsu(values) if threshold is None else threshold
    return Image((values > limit).astype(np.uint8), image.axes.spatial_axes, image.voxel_size, image.source)


def as_instances(labels: Image) -> Image:
    """One id per connected component of each class, for labels in which all objects of a class have the same value.

    Examples:
        >>> np.asarray(as_instances(Image(np.array([[1, 1, 0, 1, 2]]), "YX"))).tolist()
        [[1, 1, 0, 2, 3]]
    """
    return connected(labels)


def as_semantic(labels: Image) -> Image:
    """One class, 1, for all objects; uint8.

    Examples:
        >>> np.asarray(as_semantic(Image(np.array([[0, 7, 3]]), "YX"))).tolist()
        [[0, 1, 1]]
    """
    return Image((_one_channel(labels) > 0).astype(np.uint8), labels.axes.spatial_axes, labels.voxel_size, labels.source)


def write_fragments(
    image: Image, size: Sequence[int], folder: str | Path, *, name: str = "fragment", labels: bool = False
) -> Iterator[Event]:
    """Cut an image into boxes of one size and write each as ``NAME_z0000_y0128_x0000.tif``, named by its first voxel.

    The last box along an axis ends at the border, so that all have the size that is asked for and some overlap.

    Args:
        image: the image.
        size: edge lengths (Z)YX in voxels; at most those of the image.
        folder: it is made where it is missing.
        name: begin of the file names.
        labels: whether the values are ids of objects.

    Raises:
        OptionError: for a size that is not between 1 and that of the image.
        FileWriteError: when a file exists, or the disk is full.
    """
    shape = image.spatial_shape
    if len(size) != len(shape) or any(not 1 <= edge <= n for edge, n in zip(size, shape, strict=False)):
        rule = f"must be {len(shape)} edges from 1 to {shape}"
        raise OptionError("utilities.fragment_size", rule, key="size", value=tuple(size), remedy="Give one length per axis of the image.")
    grid = Grid(Region.whole(shape), tuple(size), tuple(size))
    boxes = [grid[number] for number in range(len(grid))]
    files = [Path(folder).expanduser() / f"{name}_{_place(box)}.tif" for box in boxes]
    check_outputs([Destination(file) for file in files], files_behind(image))
    for done, (box, file) in enumerate(zip(boxes, files, strict=True), start=1):
        file.parent.mkdir(parents=True, exist_ok=True)
        yield FileWritten(
            write(file, replace(cropped(image, box), source=None), labels=labels), Artefact.LABELS if labels else Artefact.IMAGE
        )
        yield Progress(done, len(files), "fragment")


def _place(box: Region) -> str:
    return "_".join(f"{axis}{start:04d}" for axis, start in zip("zyx"[-len(box.start) :], box.start, strict=True))


def _one_channel(image: Image) -> np.ndarray:
    values = image.canonical()
    if len(values) != 1:
        raise OptionError("utilities.channels", f"has {len(values)} channels; one is expected", key="image", remedy="Split the channels.")
    return np.asarray(values[0])


def _like(image: Image, values: np.ndarray, size: VoxelSize | None) -> Image:
    """An image with other values C(Z)YX; without the axis of channels where there is one."""
    axes = image.axes.spatial_axes
    return Image(values[0], axes, size, image.source) if len(values) == 1 else Image(values, f"C{axes}", size, image.source)  # type: ignore[arg-type]
