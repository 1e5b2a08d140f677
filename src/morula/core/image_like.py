"""Images from whatever holds them: arrays of NumPy, dask, Zarr, HDF5 and PyTorch, xarray with its dimensions, and Morula's own classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.image_array import ImageArray
from morula.core.voxel_size import VoxelSize, VoxelSizeLike

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from morula.core.array import ArraySource

ImageLike: TypeAlias = "Image | ArrayLike"
"""What functions on images take: an `Image`, an array of NumPy, dask, Zarr, HDF5, PyTorch or xarray, or nested lists of numbers."""

_LETTERS = {
    "T": ("t", "time", "frame"),
    "C": ("c", "ch", "channel", "channels", "band", "rgb", "rgba", "s", "sample"),
    "Z": ("z", "depth", "plane"),
    "Y": ("y", "row", "height"),
    "X": ("x", "column", "col", "width"),
}
_LETTER_OF = {name: letter for letter, names in _LETTERS.items() for name in names}
"""Axis letters by the names that xarray and Zarr users give dimensions."""

Guess: TypeAlias = Callable[[tuple[int, ...]], str]
"""Axes of an array that does not name them, from its shape."""


def image_of(
    values: object, *, axes: str | None = None, voxel_size: VoxelSizeLike = None, guess: Guess = Axes.guess, key: str = "image"
) -> Image:
    """The image that an object holds. Arrays that are larger than memory (dask, Zarr, HDF5) stay where they are.

    Args:
        values: see `ImageLike`. Dimensions of xarray and Zarr arrays name the axes, and coordinates with units give the voxel size.
        axes: names of the dimensions; overrides those of the object.
        voxel_size: overrides that of the object.
        guess: axes of an object that does not name them.
        key: the argument, for messages.

    Raises:
        DataError: for a path, a list of images, values that are no numbers, or dimensions that are no axes.

    Examples:
        >>> image_of(np.zeros((64, 64, 3))).axes
        'YXC'
        >>> image_of("scan.tif")
        Traceback (most recent call last):
        morula.core.errors.DataError: image = 'scan.tif': is a path, not an image. Read it first: morula.read('scan.tif').
    """
    data, found, size, source = _parts(values, key)
    shape = tuple(data.shape)
    if data.dtype.kind not in "buif":
        rule, remedy = f"has values of type {data.dtype}; images hold integers or real numbers", "Convert them."
        raise DataError("image.type", rule, key=key, remedy=remedy, file=source)
    named = Axes(axes or found or guess(shape))
    if voxel_size is not None:
        size = VoxelSize.of(voxel_size, named.ndim_spatial)
    if isinstance(values, Image) and named == values.axes and size == values.voxel_size:
        return values
    origin = (
        values.origin if isinstance(values, Image) and size == values.voxel_size and named.ndim_spatial == values.ndim_spatial else None
    )
    return Image(data, named, size, source, origin)


def spatial_array(values: ImageLike, voxel_size: VoxelSizeLike = None, *, key: str = "image") -> tuple[np.ndarray, tuple[float, ...]]:
    """Array and spacing of an image with one channel.

    Args:
        values: `Image` or array; without names of the axes they are (Z)YX.
        voxel_size: overrides the voxel size of the image.
        key: the argument, for messages.

    Returns:
        The array (Z)YX, and one voxel edge length per axis.

    Raises:
        DataError: for other than 2 or 3 spatial dimensions, or more than one channel.
    """
    image = image_of(values, guess=_only_spatial, key=key)
    array = image.canonical()
    if array.shape[0] != 1:
        raise DataError("image.channels", f"has {array.shape[0]} channels; one is expected", remedy="Take one of them.", file=image.source)
    size = image.voxel_size if voxel_size is None else voxel_size
    return array[0], VoxelSize.of(size, image.ndim_spatial).spacing(image.ndim_spatial)


def stated_voxel_size(values: ImageLike, *, key: str = "image") -> VoxelSize | None:
    """The voxel size that an object states, `None` where it states none; see `image_of`.

    Examples:
        >>> stated_voxel_size(ImageArray(np.zeros((2, 2)), "YX", VoxelSize(0.5, 0.5)))
        VoxelSize(y=0.5, x=0.5, z=None, unit='um')
    """
    return _parts(values, key)[2]


def beside(shape: tuple[int, ...]) -> Guess:
    """Axes of an array whose spatial shape is known: channels are the first axis, or the last one as in RGB pictures.

    Examples:
        >>> beside((64, 64))((64, 64, 3)), beside((64, 64))((2, 64, 64)), beside((64, 64))((64, 64))
        ('YXC', 'CYX', 'YX')
    """
    spatial = "ZYX"[-len(shape) :]

    def guess(whole: tuple[int, ...]) -> str:
        last = len(whole) == len(shape) + 1 and whole[:-1] == shape and whole[1:] != shape
        return f"{spatial}C" if last else f"C{spatial}" if len(whole) > len(shape) else _only_spatial(whole)

    return guess


def is_list_of_images(values: object) -> bool:
    """Whether a value is a list of images, not one image as nested lists of numbers.

    Examples:
        >>> is_list_of_images([np.zeros((4, 4))]), is_list_of_images([[0, 1], [1, 0]])
        (True, False)
    """
    return isinstance(values, list | tuple) and any(isinstance(value, str | os.PathLike) or np.ndim(_shaped(value)) > 1 for value in values)


def _shaped(value: object) -> Any:
    """A stand-in with the dimensions of a value that has a shape; other values are no images in a list."""
    shape = getattr(value, "shape", None)
    return np.broadcast_to(0, tuple(shape)) if shape is not None else 0


def _only_spatial(shape: tuple[int, ...]) -> str:
    if len(shape) not in (2, 3):
        rule = f"has {len(shape)} dimensions; 2 (YX) or 3 (ZYX) are expected"
        raise DataError("image.dimensions", rule, key="shape", value=shape)
    return "ZYX"[-len(shape) :]


def _parts(values: Any, key: str) -> tuple[ArraySource, str | None, VoxelSize | None, str | None]:
    """Array, axes, voxel size and source of an object, as far as it states them."""
    if isinstance(values, Image):
        return values.data, values.axes, values.voxel_size, values.source
    if isinstance(values, ImageArray):
        return values.view(np.ndarray), values.axes, values.voxel_size, values.source
    _reject(values, key)
    if hasattr(values, "dims") and hasattr(values, "coords"):  # xarray
        axes = _axes_of(values.dims, key)
        return values.data, axes, _voxel_size_of(values, axes), None
    if type(values).__module__.partition(".")[0] == "torch":
        return _of_tensor(values), None, None, None
    if all(hasattr(values, name) for name in ("shape", "dtype", "__getitem__")):
        return cast("ArraySource", values), _stored_axes(values), None, None
    return _of_numbers(values, key), None, None, None


def _reject(values: Any, key: str) -> None:
    """Raise for what is commonly given in place of an image."""
    if isinstance(values, str | os.PathLike):
        path = os.fspath(values)
        raise DataError("image.path", "is a path, not an image", key=key, value=path, remedy=f"Read it first: morula.read({path!r}).")
    if is_list_of_images(values):
        shapes = list(dict.fromkeys(tuple(getattr(image, "shape", ())) for image in values))
        rule = f"is a list of {len(values)} images{' of different shapes' if len(shapes) > 1 else ''}; one is expected"
        remedy = "Call the function for each of them; planes of one volume become an array by `numpy.stack`."
        raise DataError("image.list", rule, key=key, value=shapes, remedy=remedy)
    if hasattr(values, "data_vars") or hasattr(values, "array_keys") or (hasattr(values, "keys") and not hasattr(values, "dtype")):
        rule, remedy = f"is a {type(values).__name__}, which may hold several arrays", "Select one, for example image['raw']."
        raise DataError("image.several", rule, key=key, remedy=remedy)


def _of_numbers(values: Any, key: str) -> np.ndarray:
    """Nested lists of numbers, and other objects that convert to an array."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # NumPy's message names neither the argument nor the remedy
        rule, remedy = "is a list whose rows differ in length", "Give rows of one length, or one image."
        raise DataError("image.ragged", rule, key=key, remedy=remedy) from error
    if array.ndim == 0:
        rule = f"is a {type(values).__name__}, not an image"
        raise DataError("image.not_an_array", rule, key=key, remedy="Give an array, for example that of morula.read(path).")
    return array


def _of_tensor(values: Any) -> np.ndarray:
    """A tensor of PyTorch on any device; NumPy has no bfloat16."""
    tensor = values.detach().cpu()
    return (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()


def _axes_of(names: Sequence[object], key: str) -> str | None:
    """Axis letters of named dimensions; `None` where none has a known name."""
    letters = [_LETTER_OF.get(str(name).lower()) for name in names]
    if not any(letters):
        return None
    if not all(letters):
        known = ", ".join(names[0] for names in _LETTERS.values())
        rule, remedy = "are not all names of axes", f"Rename the dimensions to {known}."
        raise DataError("image.dimension_names", rule, key=f"{key}.dims", value=[str(name) for name in names], remedy=remedy)
    return "".join(cast("list[str]", letters))


def _stored_axes(values: Any) -> str | None:
    """Names of the dimensions in the metadata of a Zarr array, if all are known."""
    names = getattr(getattr(values, "metadata", None), "dimension_names", None)
    letters = [_LETTER_OF.get(str(name).lower(), "") for name in names or ()]
    return "".join(letters) if letters and all(letters) else None


def _voxel_size_of(values: Any, axes: str | None) -> VoxelSize | None:
    """Voxel size from evenly spaced coordinates of xarray with units; `None` where they state none."""
    lengths: dict[str, float] = {}
    units = set()
    for name, letter in zip(values.dims, axes or "", strict=False):
        if letter not in "ZYX":
            continue
        places = np.asarray(values.coords[name]) if name in values.coords else np.zeros(0)
        steps = np.diff(places) if places.dtype.kind in "uif" else np.zeros(0)
        if not len(steps) or not np.allclose(steps, steps[0], rtol=1e-3) or steps[0] == 0:
            return None
        lengths[letter.lower()] = float(abs(steps.mean()))
        units.add(str(values.coords[name].attrs.get("units", "")))
    if len(units) != 1 or not {"y", "x"} <= set(lengths):
        return None
    try:
        return VoxelSize(**lengths, unit=units.pop() or "pixel")
    except OptionError:  # a unit that is no length
        return None
