"""Reading of images and label images from files of any format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, MorulaError
from morula.core.file_errors import unreadable_file
from morula.core.image import Image
from morula.core.label_image import LARGEST_ID
from morula.core.location import PLANES, is_remote, split_location, url_of
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.io.blocks import iterate_blocks
from morula.io.formats.base import Missing, Request
from morula.io.formats.plane_folder import read_planes
from morula.io.lazy import Stack, View, take_channel, take_time
from morula.io.metadata import naming
from morula.io.select import format_of

SEVERAL = ("dataset.ambiguous", "scene.ambiguous", "tiff.several_series")
"""Codes of the errors for files of several images of which none is named."""

_EXACT = {2: 2**11, 4: 2**24, 8: 2**53}  # up to here a float of so many bytes holds every whole number


def read(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    level: int = 0,
    axes: str | None = None,
    voxel_size: VoxelSizeLike = None,
    channel: int | None = None,
    time: int | None = None,
    missing: Missing = "error",
) -> Image:
    """Open an image; its values are read when the image is sliced.

    Args:
        path: a file or a Zarr folder; ``train.h5:/raw`` and ``scan.zarr/labels/nuclei`` name an array inside, ``train.h5:/raw,nuclei``
            several (HDF5, Zarr), whose channels become those of one image.
        dataset: name of the data set in a container (HDF5, Zarr), or number of the image in a file of several (TIFF, CZI, LIF, ND2);
            needed only when none is obvious.
        level: pyramid level; 0 is the finest, -1 the coarsest.
        axes: names of the dimensions; overrides the file's metadata and the guess from the shape.
        voxel_size: overrides the file's metadata; a length in um, lengths (z, y, x), or a mapping with unit.
        channel: return only this channel (counted from 0), without the C axis.
        time: return only this time point (counted from 0), without the T axis.
        missing: planes, strips or chunks that the file declares but does not contain are an ``error``, or read as ``zeros`` with a warning.

    Returns:
        The image: lazy data in the order and type of the file, axes, and voxel size in um (`None` where the file has none).

    Raises:
        MissingFileError: when there is no such file.
        FileReadError: when it is damaged, truncated or of an unknown format.
        DataError: when it contains no image, or several of which none is named.
        OptionError: for an argument that does not fit the file.

    Examples:
        >>> import tempfile
        >>> from morula.io.write import write
        >>> file = write(Path(tempfile.mkdtemp()) / "cells.tif", np.ones((4, 8, 9), np.uint16), axes="ZYX", voxel_size=[2, 0.5, 0.5])
        >>> image = read(file)
        >>> image.axes, image.shape, image.spacing
        ('ZYX', (4, 8, 9), (2.0, 0.5, 0.5))
    """
    image = open_image(path, Request(dataset, level, missing=missing), axes, voxel_size)
    image = image if time is None else take_time(image, time)
    return image if channel is None else take_channel(image, channel)


def read_labels(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    level: int = 0,
    axes: str | None = None,
    voxel_size: VoxelSizeLike = None,
    channel: int | None = None,
    missing: Missing = "error",
    shape: tuple[int, ...] | None = None,
) -> Image:
    """Open a label image: 0 is background, every other value the id of an object. Arguments as for `read`.

    Outlines (ROIs of ImageJ, GeoJSON, COCO) are filled; `shape` is the shape (Z)YX of their image, which such files may not state.
    Files of signed or floating-point type are checked block by block; values that are not ids are an error, never rounded.

    Returns:
        Lazy image without C axis, and without a T axis of length 1, of an unsigned integer type of at most 32 bits.

    Raises:
        DataError: for colours instead of ids, fractions, negative ids, or ids of 2**32 and above; and all that `read` raises.
    """
    image = open_image(path, Request(dataset, level, labels=True, missing=missing, shape=shape), axes, voxel_size)
    if "T" in image.axes and image.shape[image.axes.index("T")] == 1:
        image = take_time(image, 0)
    if channel is not None:
        image = take_channel(image, channel)
    elif image.n_channels > 1:
        colours = ". These look like colours, not ids" if image.n_channels in (3, 4) and image.dtype == np.uint8 else ""
        raise DataError(
            "labels.channels",
            f"labels have {image.n_channels} channels; a label image has one, the id of each voxel's object{colours}",
            file=image.source,
            remedy="Save ids in one channel (uint16 or uint32), or name the channel.",
        )
    elif "C" in image.axes:
        image = take_channel(image, 0)
    return replace(image, data=_ids(image))


def label_places(path: str | os.PathLike[str]) -> list[Path]:
    """What is read as labels: the path, and the label images of an OME-Zarr image."""
    place = Path(path).expanduser()
    return [place, *(entry for entry in (place / "labels").glob("*") if entry.is_dir())]


def read_labels_and_classes(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    *,
    axes: str | None = None,
    voxel_size: VoxelSizeLike = None,
    missing: Missing = "error",
) -> tuple[Image, Image | None]:
    """Open a label image that may have a second channel with the class of each object.

    Args:
        path: as for `read`.
        shape: (Z)YX shape of the raw image; the channel axis is recognised by comparison with it.
        axes: as for `read`.
        voxel_size: as for `read`.
        missing: as for `read`.

    Returns:
        The label image, and the class image or `None`.

    Raises:
        DataError: as `read_labels`.
    """
    image = open_image(path, Request(labels=True, missing=missing, shape=shape), axes, voxel_size)
    spatial = "ZYX"[-len(shape) :]
    # only the comparison with the raw image distinguishes a channel axis of length 2 from two planes
    stated = {(*shape, 2): f"{spatial}C", (2, *shape): f"C{spatial}"}.get(image.shape)
    if stated is None or "T" in image.axes:
        return read_labels(path, axes=axes, voxel_size=voxel_size, missing=missing, shape=shape), None
    image = open_image(path, Request(labels=True, missing=missing), stated, voxel_size)
    ids, classes = (take_channel(image, channel) for channel in (0, 1))
    return replace(ids, data=_ids(ids)), replace(classes, data=_ids(classes))


def open_image(path: str | os.PathLike[str], request: Request, axes: str | None = None, voxel_size: VoxelSizeLike = None) -> Image:
    """The image as it is stored, from the metadata of the file alone: the common part of `read` and `read_labels`."""
    file, inner = split_location(Path(path).expanduser())
    name = inner if request.dataset is None else request.dataset
    if inner is not None and request.dataset is not None:
        name = f"{inner.strip('/')}/{request.dataset.strip('/')}"
    shown = url_of(file) if is_remote(file) else str(file)
    source = shown if name is None else f"{shown}:/{name.strip('/')}"
    # a group inside a Zarr folder is itself a Zarr folder, possibly with OME metadata of its own
    if name is not None and file.is_dir() and (file / name.strip("/")).is_dir():
        file, name = file / name.strip("/"), None
    if name is not None and "," in name and file.exists():
        with _guarded(source):
            parts = format_of(file).parts(file, name.strip("/"))
        if parts:
            places = (f"{file}:/{part.strip(' /')}" for part in parts)
            return _joined([open_image(place, replace(request, dataset=None), axes, voxel_size) for place in places], source)
    with naming(source), _guarded(source):
        if name == PLANES and file.is_dir() and file.suffix.lower() not in (".zarr", ".n5"):
            found = read_planes(file, replace(request, dataset=None))
        else:
            found = format_of(file).read(file, replace(request, dataset=None if name is None else name.strip("/")))
    named = _axes(found.axes, axes, found.data.shape)
    if min(found.data.shape) < 1:  # a damaged header may declare a negative length
        raise DataError(
            "image.empty", f"is empty: its shape is {tuple(found.data.shape)}", file=source, remedy="Remove it, or write it again."
        )
    size = found.voxel_size if voxel_size is None else VoxelSize.of(voxel_size, named.ndim_spatial)
    if size is not None and voxel_size is None:
        if named.ndim_spatial == 3 and size.z is None:
            size = None  # z is unknown: better no size than a guessed one
        elif named.ndim_spatial == 2:  # writers state a z of 1 for planes, too
            size = VoxelSize(y=size.y, x=size.x, unit=size.unit)
    # a place in lengths that were replaced has no meaning
    origin = found.origin if size == found.voxel_size and len(found.origin or ()) == named.ndim_spatial else None
    return Image(found.data, named, size, source, origin)


def _joined(parts: Sequence[Image], source: str) -> Image:
    """The channels of several images of one shape as one image.

    Raises:
        DataError: when their axes or shapes differ.
    """
    first, rest = parts[0], parts[0].axes.replace("C", "")
    if any(part.axes.replace("C", "") != rest for part in parts):
        rule = f"holds data sets with the axes {', '.join(part.axes for part in parts)}, which cannot become channels of one image"
        raise DataError("image.shapes_differ", rule, file=source, remedy="Name data sets of one shape.")
    views = [View(part.data, [part.axes.find(axis) if axis in part.axes else None for axis in f"C{rest}"]) for part in parts]
    return Image(Stack(views, source), Axes(f"C{rest}"), first.voxel_size, source, first.origin)


@contextmanager
def _guarded(source: str) -> Iterator[None]:
    """Turn any failure of a reader into an error that names the file.

    Readers trust the metadata after parsing, and a damaged file can break any such assumption: the libraries of the formats then raise
    errors of any class.
    """
    try:
        yield
    except MorulaError as error:
        if error.file is not None or not error.rule:
            raise
        raise type(error)(error.code, error.rule, key=error.key, value=error.value, remedy=error.remedy, file=source) from error
    except Exception as error:  # the libraries of the formats raise errors of any class for damaged files
        raise unreadable_file(source, error) from error


def _axes(stated: Axes | None, given: str | None, shape: tuple[int, ...]) -> Axes:
    """Axes of the array: those that the user gave, without a C or T that it does not have, else those of the file, else guessed."""
    if given is None:
        return stated if stated is not None else Axes.guess(shape)
    axes = Axes(given)
    # one setting for a whole data set, of which some files lack an axis
    for letter in "TC":
        if len(axes) > len(shape) and letter in axes:
            axes = Axes(axes.replace(letter, ""))
    return axes


def _ids(image: Image) -> ArraySource:
    """The values in the smallest unsigned type that holds them, after they were checked to be ids."""
    dtype = image.dtype
    if dtype.kind == "u" and dtype.itemsize <= 4:  # every value is an id: the file need not be read
        return image.data
    if dtype.kind == "b":
        return View(image.data, range(len(image.shape)), dtype=np.uint8)
    low, high = 0.0, 0.0
    for block in iterate_blocks(image.data):
        if dtype.kind == "f":
            if not np.isfinite(block).all():
                raise DataError(
                    "labels.not_finite",
                    "hold NaN or infinity; ids are whole numbers",
                    file=image.source,
                    remedy="Save them as uint16 or uint32.",
                )
            broken = block != np.rint(block)
            if broken.any():
                raise DataError(
                    "labels.fraction",
                    "labels hold fractions; ids are whole numbers",
                    value=float(block[broken][0]),
                    file=image.source,
                    remedy="Give the label image, not the raw image, and scale labels without interpolation.",
                )
        low, high = min(low, block.min().item()), max(high, block.max().item())
    if low < 0:
        raise DataError(
            "labels.negative_id", "ids are 0 (background) or positive", value=int(low), file=image.source, remedy="Replace negative ids."
        )
    if high > LARGEST_ID:
        raise DataError(
            "labels.large_id",
            f"ids go up to {LARGEST_ID}",
            value=int(high),
            file=image.source,
            remedy="Relabel the objects to consecutive ids.",
        )
    # whole numbers above this limit are rounded to even ones, which looks like valid ids
    if dtype.kind == "f" and high > _EXACT.get(dtype.itemsize, 2**53):
        raise DataError(
            "labels.inexact",
            f"{dtype} does not distinguish whole numbers above {_EXACT[dtype.itemsize]}, so that objects may have merged",
            value=int(high),
            file=image.source,
            remedy="Save the original ids as uint32.",
        )
    smallest = next(kind for kind in (np.uint8, np.uint16, np.uint32) if high <= np.iinfo(kind).max)
    return View(image.data, range(len(image.shape)), dtype=smallest)
