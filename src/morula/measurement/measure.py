"""Measurement of objects, one row per object: size, position, bounding box, diameters, outline or surface, shape, intensity."""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import fastremap
import numpy as np

from morula.core.errors import DataError, OptionError
from morula.core.family import did_you_mean
from morula.core.image_like import ImageLike, beside, image_of, spatial_array, stated_voxel_size
from morula.core.label_image import check_labels, read_only
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.kernels.geometry import geometry
from morula.measurement.columns import Columns, Sums, add_intensities, columns_of
from morula.measurement.shape import Surface, outlines, second_moments

if TYPE_CHECKING:
    import pandas as pd

_SMALL = 2**16  # ids up to here index the sums directly


def measure(
    labels: ImageLike,
    voxel_size: VoxelSizeLike = None,
    intensity: ImageLike | None = None,
    *,
    extra: Sequence[str] = (),
    confidence: Sequence[float] | np.ndarray | None = None,
    surface: Surface = "crofton",
) -> pd.DataFrame:
    """Measure every object of a label image.

    Columns: ``label``; ``voxels`` (count); ``area_um2`` or ``volume_um3`` (the name ends in the unit; ``area_px`` or ``volume_voxels``
    where the voxel size is unknown); ``centroid_z``, ``_y``, ``_x`` and ``box_z_start``, ``box_z_stop``, ... in voxels, the stop is
    exclusive, and ``centroid_z_um``, ... where the voxel size is known; ``diameter`` (longest side of the box, voxels);
    ``equivalent_diameter_um`` (of the disc or ball of equal size); ``aspect_ratio`` (longest by shortest axis); in 2D ``perimeter_um``,
    ``circularity`` (4 pi area / perimeter**2, 1 for a disc) and ``elongation`` (its inverse); in 3D ``surface_area_um2`` and
    ``sphericity`` (36 pi volume**2 / surface**3, 1 for a ball); ``touches_border`` (1 where the object touches the border of the image);
    ``confidence`` if given; with an intensity image ``intensity_mean``, ``_sum``, ``_min``, ``_max`` and ``_std`` (over the object's
    voxels), preceded by ``c0_``, ``c1_``, ... if it has several channels; then the `extra` ones, followed by their unit if they have one
    (``area_convex_um2``) unless a column above has that name. In 3D, properties of the convex hull are NaN for objects whose voxels are all
    in one plane. See `morula.measurement.shape` for outlines and surfaces.

    Args:
        labels: integer label image (Z)YX, array or `Image`; 0 is background. An object may consist of several pieces. A volume of one
            plane is measured in 2D.
        voxel_size: voxel edge lengths, as for `VoxelSize.of`; by default that of the `Image`.
        intensity: image (Z)YX or C(Z)YX, array or `Image`, of the same spatial shape.
        extra: names of numeric region properties of scikit-image, for example ``"solidity"``; in physical units, slow.
        confidence: one value for each id from 1 to n, in order.
        surface: ``crofton`` (no bias for smooth objects); or ``mesh``, in 3D triangulated (9 % too large for a ball), in 2D along the
            border pixels (5 % too long for a disc), see `morula.measurement.shape`.

    Returns:
        `pandas.DataFrame` with one row per object, ordered by label.

    Raises:
        DataError: for values that are not labels, or an intensity image of another shape.
        OptionError: for an unknown extra property, or one that is not defined for the image.

    Examples:
        >>> labels = np.array([[0, 7, 7], [0, 7, 0]])
        >>> table = measure(labels, voxel_size=0.5, intensity=10 * labels)
        >>> table[["label", "voxels", "area_um2", "intensity_mean"]]
           label  voxels  area_um2  intensity_mean
        0      7       3      0.75            70.0
    """
    return as_table(measured_columns(labels, voxel_size, intensity, extra=extra, confidence=confidence, surface=surface))


def as_table(columns: Columns) -> pd.DataFrame:
    """Columns of measurements as `measure` returns them."""
    import pandas as pd

    return pd.DataFrame(columns)


def measured_columns(
    labels: ImageLike,
    voxel_size: VoxelSizeLike = None,
    intensity: ImageLike | None = None,
    *,
    extra: Sequence[str] = (),
    confidence: Sequence[float] | np.ndarray | None = None,
    surface: Surface = "crofton",
    origin: Sequence[int] | None = None,
    whole: Sequence[int] | None = None,
) -> Columns:
    """The columns of `measure` as arrays; arguments and errors as there. Does not import pandas.

    For labels that were cut out of an image, `origin` is their first voxel in it and `whole` its shape. Centroids, boxes and the border are
    then those of that image.

    Examples:
        >>> measured_columns(np.array([[0, 7, 7], [0, 7, 0]]))["voxels"]
        array([3])
    """
    stated = stated_voxel_size(labels, key="labels") if voxel_size is None else voxel_size
    array = check_labels(spatial_array(labels, 1.0, key="labels")[0])
    whole = array.shape if whole is None else tuple(whole)
    if len(whole) == 3 and whole[0] == 1:
        array, whole, origin = array[0], whole[1:], None if origin is None else origin[1:]
        stated = stated[1:] if isinstance(stated, Sequence) and len(stated) == 3 else stated
    size = VoxelSize.of(stated, array.ndim)
    indexed, ids = _indexed(array)
    found = geometry(indexed, len(ids) - 1)
    channels = None if intensity is None else _channels(intensity, array.shape)
    spacing = size.spacing(array.ndim)
    sums = Sums(
        found if origin is None else found.shifted(origin),
        second_moments(read_only(indexed), found.centroids),
        outlines(indexed, len(ids), spacing, surface),
        [_stats(indexed, channel, len(ids)) for channel in (() if channels is None else channels)],
    )
    columns = columns_of(sums, ids, size, whole=whole, confidence=confidence)
    for name, values in _extra(extra, indexed, channels, size, frozenset(columns)).items():
        columns[name] = values
    return columns


def _indexed(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as indices into the list of ids, and that list; index 0 is the background."""
    largest = int(labels.max())
    if largest <= _SMALL:
        return labels, np.arange(largest + 1)
    ids = fastremap.unique(labels)
    # the list starts with 0 also where no voxel is background, so that an index of 0 always means background
    ids = np.concatenate([[0], ids[ids > 0]]).astype(np.int64)
    table = {int(label): index for index, label in enumerate(ids)}
    return fastremap.remap(labels, table, preserve_missing_labels=False).astype(np.uint32, copy=False), ids


def _stats(indexed: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    stats = np.zeros((rows, 6))
    add_intensities(indexed, values, stats)
    return stats


def _channels(intensity: ImageLike, shape: tuple[int, ...]) -> np.ndarray:
    """Intensity image as C(Z)YX; float32 where that is exact, as for all 16-bit values, else float64."""
    values = image_of(intensity, guess=lambda whole: _axes_beside(shape, whole), key="intensity").canonical()
    if len(shape) == 2 and values.ndim == 4 and values.shape[1] == 1:  # a volume of one plane
        values = values[:, 0]
    if values.shape[1:] != shape:
        raise DataError(
            "measure.intensity_shape",
            f"has shape {values.shape if len(values) > 1 else values.shape[1:]} but the labels have {shape}",
            key="intensity",
            remedy="Give the image that the labels belong to, (Z)YX or C(Z)YX.",
        )
    # float32 has 24 bits for the significand; sums are float64 in either case
    exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
    return values.astype(np.float32 if exact else np.float64, copy=False)


def _axes_beside(shape: tuple[int, ...], whole: tuple[int, ...]) -> str:
    """Axes of an intensity image beside labels of this shape; those of a volume of one plane beside a plane have a Z."""
    return beside((1, *shape) if len(shape) == 2 and len(whole) == 4 else shape)(whole)


def check_extra(names: Sequence[str], ndim: int = 2, taken: Container[str] = ()) -> None:
    """Reject names that are not region properties of scikit-image, or not defined for images of `ndim` dimensions.

    Raises:
        OptionError: for such a name; the remedy names the most similar property.

    Examples:
        >>> check_extra(["solidty"])
        Traceback (most recent call last):
        morula.core.errors.OptionError: extra = 'solidty': is not a region property of scikit-image. Did you mean 'solidity'?
    """
    from skimage.measure import regionprops

    # scikit-image has no public list of its properties; those of a small object are what can be measured
    probe = regionprops(np.ones((4,) * ndim, np.uint8), np.ones((4,) * ndim, np.float32))[0]
    known = [name for name in dir(probe) if not name.startswith("_")]
    for name in names:
        if name not in known or name in taken:
            if name in taken:
                raise OptionError("measure.duplicate", "is in the table already", key="extra", value=name, remedy="Leave it out.")
            rule = "is not a region property of scikit-image"
            raise OptionError("measure.unknown", rule, key="extra", value=name, remedy=did_you_mean(name, known))
        try:
            getattr(probe, name)
        except NotImplementedError:
            rule = f"is not defined for {ndim}D images"
            raise OptionError("measure.dimensions", rule, key="extra", value=name, remedy="Leave it out.") from None


_OF_HULLS = ("area_convex", "feret_diameter_max", "solidity")
"""Properties of scikit-image that need the convex hull of an object's voxels."""


def _of_hulls(names: Sequence[str], labels: np.ndarray, spacing: Sequence[float]) -> dict[str, np.ndarray]:
    """Properties of the convex hull of each object of a volume; NaN where all voxels are in one plane, for which there is no hull."""
    from skimage.measure import regionprops

    columns: dict[str, list[float]] = {name: [] for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to get convex hull image")
        for region in regionprops(labels, spacing=tuple(spacing)) if names else ():
            # scikit-image warns and gives an empty hull for a flat object, and its properties would be 0, not unknown
            solid = region.image_convex.any()
            for name, values in columns.items():
                values.append(float(getattr(region, name)) if solid else np.nan)
    return {name: np.array(values, np.float64) for name, values in columns.items()}


_POWERS = {
    "area": 0, "area_bbox": 0, "area_convex": 0, "area_filled": 0, "axis_major_length": 1, "axis_minor_length": 1, "centroid": 1,
    "centroid_local": 1, "centroid_weighted": 1, "centroid_weighted_local": 1, "coords_scaled": 1, "equivalent_diameter_area": 1,
    "feret_diameter_max": 1, "inertia_tensor": 2, "inertia_tensor_eigvals": 2, "perimeter": 1, "perimeter_crofton": 1,
}  # fmt: skip
"""Power of the unit of length of the properties of scikit-image; 0 stands for the number of axes. Others have no unit, or several."""


def _property(column: str, names: Sequence[str]) -> str:
    """The property that a column belongs to; vectors and matrices have several columns."""
    # of "moments" and "moments_hu", the longer one is the owner of "moments_hu_0"
    return max((name for name in names if column == name or re.fullmatch(rf"{name}(_\d+)+", column)), key=len)


def _with_unit(column: str, names: Sequence[str], unit: str, ndim: int) -> str:
    """Name of a column followed by its unit."""
    name = _property(column, names)
    if name not in _POWERS:
        return column
    power = _POWERS[name] or ndim
    if unit == "pixel":
        return f"{column}_{'px' if ndim == 2 else 'voxels'}"
    return f"{column}_{unit.replace('Å', 'angstrom')}{power if power > 1 else ''}"


def column_of(name: str, unit: str, ndim: int, taken: Container[str]) -> str:
    """The column of an extra property that is one number per object, beside the columns that are `taken`.

    Examples:
        >>> column_of("area_convex", "um", 2, ()), column_of("solidity", "um", 2, ())
        ('area_convex_um2', 'solidity')
    """
    column = _with_unit(name, [name], unit, ndim)
    return name if column in taken else column


def _extra(
    names: Sequence[str], indexed: np.ndarray, channels: np.ndarray | None, size: VoxelSize, taken: frozenset[str]
) -> dict[str, np.ndarray]:
    """Columns of scikit-image's region properties; a vector or a matrix gives several columns."""
    if not names:
        return {}
    from skimage.measure import regionprops_table

    check_extra(names, indexed.ndim, taken)
    # scikit-image takes channels last; one channel without that axis, so that its columns get no "_0"
    picture = None if channels is None else channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)
    spacing, whole = size.spacing(indexed.ndim), indexed.astype(np.int64)
    hulls = [name for name in names if name in _OF_HULLS and indexed.ndim == 3]
    others = tuple(name for name in names if name not in hulls)
    try:
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            if not indexed.any():
                warnings.simplefilter("ignore")  # without objects, scikit-image measures a dummy object to find the types
            found = regionprops_table(whole, picture, properties=others, separator="_", spacing=spacing)
        found |= _of_hulls(hulls, whole, spacing)
    except (NotImplementedError, AttributeError, TypeError) as error:
        raise OptionError(
            "measure.failed",
            f"cannot be measured in this {indexed.ndim}D image: {error}",
            key="extra",
            value=list(names),
            remedy="Leave it out.",
        ) from error
    for name, values in found.items():
        if values.dtype.kind not in "biuf":
            raise OptionError("measure.not_a_number", "is not a number per object", key="extra", value=name, remedy="Leave it out.")
    named = {column: _with_unit(column, names, size.unit, indexed.ndim) for column in found}
    order = sorted(found, key=lambda column: names.index(_property(column, names)))
    return {column if named[column] in taken else named[column]: found[column] for column in order}
