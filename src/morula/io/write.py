"""Writing of images and label images, in the format that the suffix names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.array import ArraySource
from morula.core.atomic import atomic, check_absent
from morula.core.axes import Axes
from morula.core.errors import DataError, FileWriteError, MorulaError, OptionError
from morula.core.image import Image
from morula.core.image_array import ImageArray
from morula.core.image_like import ImageLike, image_of
from morula.core.location import split_location, suffix_of
from morula.core.os_errors import naming_os_errors
from morula.core.outputs import Destination, check_outputs
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.io.formats.base import Format, Request, Target
from morula.io.formats.hdf5 import Hdf5Array, is_own_dataset, replaced_dataset
from morula.io.lazy import LazyArray, View
from morula.io.select import format_to_write


@naming_os_errors()
def write(
    path: str | os.PathLike[str],
    data: ImageLike,
    *,
    axes: str | None = None,
    voxel_size: VoxelSizeLike = None,
    labels: bool = False,
    overwrite: bool = False,
    dataset: str | None = None,
    like: str | os.PathLike[str] | None = None,
) -> Path:
    """Write an image in the format that the suffix names, atomically. The type of the values is never changed.

    Args:
        path: ``.tif`` (ImageJ, or OME-TIFF for types that ImageJ lacks), ``.ome.tif``, ``.ome.zarr``, ``.zarr``, ``.h5``, ``.npy``,
            ``.nii.gz``, ``.png`` and others.
        data: array or `Image`, in memory or lazy.
        axes: names of the dimensions; by default those of the `Image`, for an array guessed from the shape.
        voxel_size: a length in um, lengths (z, y, x), or a mapping with unit; by default that of the `Image`.
        labels: whether the values are object ids. Pyramids then select voxels instead of averaging, and labels for an existing OME-Zarr
            image are written to its ``labels/NAME``, where NAME is `dataset` or ``labels``.
        overwrite: replace an existing file.
        dataset: name inside the file. An existing HDF5 file keeps its other data sets.
        like: the file that the data were computed from, by default that of the `Image`: a NIfTI file gets its place and orientation, so
            that both overlay in other programs.

    Returns:
        Path of the file or folder that was written.

    Raises:
        FileWriteError: when it exists, the disk is full, or the folder is not writable.
        OptionError: when the format cannot hold the array, or the suffix is unknown.
        DataError: for an empty array, or labels that are not integers.

    Examples:
        >>> import tempfile
        >>> write(Path(tempfile.mkdtemp()) / "cells.h5", np.ones((4, 8, 9), np.uint32), labels=True).name
        'cells.h5'
    """
    file, inner = split_location(Path(path).expanduser())
    if inner is not None:
        dataset = inner if dataset is None else f"{inner}/{dataset}"
    array, named, size = described(data, axes, voxel_size)
    if labels and array.dtype.kind not in "uib":
        raise DataError(
            "labels.type",
            f"have values of type {array.dtype}; ids are integers",
            key="labels",
            remedy="Convert them, for example to uint32.",
        )
    if labels and array.dtype.kind == "b":  # a mask is one object; few formats store bool
        array = np.asarray(array).astype(np.uint8)
    kind = format_to_write(file, labels=labels)
    like = data.source if like is None and isinstance(data, Image | ImageArray) else like
    origin = data.origin if isinstance(data, Image) and size == data.voxel_size else None
    target = Target(named, size, labels, _label_name(dataset, labels), like=None if like is None else Path(like), origin=origin)
    output = placed(kind, file, target, name=str(path), overwrite=overwrite)
    place = output.path
    if not output.adds:
        check_absent(place, overwrite)
    check_outputs([output], files_behind(data), overwrite=overwrite)
    if output.adds:
        target = replace(target, existing=place)  # `kind.write` copies it, so that it changes in one step
    with atomic(place) as temporary:
        kind.write(temporary, array, target)
    kind.finished(file, target)
    return place


def destination(
    path: str | os.PathLike[str], *, labels: bool = False, dataset: str | None = None, overwrite: bool = False, key: str = "output"
) -> Destination:
    """Where `write` would write to this path, without writing: for checks before the work starts, see `morula.core.outputs`.

    Raises:
        OptionError: when the suffix is unknown.
        FileWriteError: when a data set exists in the file and `overwrite` is false.
    """
    file, inner = split_location(Path(path).expanduser())
    if inner is not None:
        dataset = inner if dataset is None else f"{inner}/{dataset}"
    kind = format_to_write(file, labels=labels)
    return placed(kind, file, Target(Axes("YX"), None, labels, _label_name(dataset, labels)), name=str(path), overwrite=overwrite, key=key)


def check_labels_fit(path: str | os.PathLike[str], shape: Sequence[int], *, axes: str | None = None, key: str = "output") -> None:
    """Check before the work starts that the format of a path can hold labels of this shape.

    Formats know their own limits, so a small array of as many dimensions is written to a temporary folder.

    Args:
        path: where the labels will be written.
        shape: their shape.
        axes: names of their dimensions, by default (Z)YX.
        key: the argument that names the path, for messages.

    Raises:
        FileWriteError: when it cannot, by the name of the path.
    """
    file = split_location(Path(path).expanduser())[0]
    kind = format_to_write(file, labels=True)
    if kind.folder or kind.name == "HDF5":  # these hold any array
        return
    array, named = np.zeros([min(n, 4) for n in shape], np.uint16), Axes(axes or "ZYX"[-len(shape) :])
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, f"labels{suffix_of(file)}")
        try:
            kind.write(probe, array, Target(named, labels=True))
            if "T" in named and "T" not in (kind.read(probe, Request()).axes or ""):
                raise OptionError("output.no_time", f"{kind.name} does not state which axis is the time", remedy="Write .tif or .ome.zarr.")
        except MorulaError as error:
            # the message of the probe names its own shape
            rule = f"cannot hold labels with the axes {named} and the shape {tuple(shape)}, because it is {kind.name}"
            raise FileWriteError("output.unsuitable", rule, key=key, file=str(path), remedy=error.remedy) from error


def placed(kind: Format, file: Path, target: Target, *, name: str, overwrite: bool, key: str = "path") -> Destination:
    """The file or folder that is written, and whether something is only added to it."""
    place = kind.place(file, target)
    adds = kind.adds_to(place, target, overwrite)
    replaced = None if target.dataset is None or not adds else replaced_dataset(place, target.dataset)
    own = replaced is None or is_own_dataset(place, replaced)
    return Destination(place, name, key, adds=adds, dataset=replaced, foreign=not own, array=kind.folder)


def files_behind(data: object) -> list[str]:
    """Files that an image or array is read from: those must not be replaced by what is computed from them."""
    if isinstance(data, Image | ImageArray):
        values = data.data if isinstance(data, Image) else data.view(np.ndarray)
        return ([] if data.source is None else [data.source]) + files_behind(values)
    if isinstance(data, View):
        return files_behind(data.source)
    if isinstance(data, Hdf5Array):
        return [f"{data.path}:/{data.name}"]
    path = data.path if isinstance(data, LazyArray) else getattr(data, "filename", None)  # a NumPy memory map names its file
    more = files_behind(data.base) if isinstance(data, np.ndarray) and isinstance(data.base, np.ndarray) else []
    more += data.companions if isinstance(data, LazyArray) else ()
    return ([str(path)] if isinstance(path, str | os.PathLike) else []) + more


def described(data: ImageLike, axes: str | None, voxel_size: VoxelSizeLike) -> tuple[ArraySource, Axes, VoxelSize | None]:
    """Array, axes and voxel size of the data to write.

    Raises:
        DataError: for an empty array, axes that do not fit, or values that are not numbers.
    """
    image = image_of(data, axes=axes, voxel_size=voxel_size, key="data")
    if 0 in image.shape:
        raise DataError("image.empty", f"is empty: its shape is {image.shape}", key="data")
    return image.data, image.axes, image.voxel_size


def _label_name(dataset: str | None, labels: bool) -> str | None:
    if dataset is None:
        return None
    parts = [part for part in dataset.strip("/").split("/") if part]
    if ".." in parts or not parts:
        raise OptionError(
            "dataset.invalid_name",
            "must be a name inside the file",
            key="dataset",
            value=dataset,
            remedy="Write for example 'raw' or 'volumes/raw'.",
        )
    # `write("scan.ome.zarr/labels/nuclei")` and `dataset="nuclei"` mean the same place
    return parts[1] if labels and len(parts) == 2 and parts[0] == "labels" else "/".join(parts)
