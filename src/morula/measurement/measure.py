"""Measurement of objects, one row per object: size, position, bounding box, diameters, outline or surface, shape, intensity."""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

import fastremap
import numpy as np
from numba import njit

from morula.core.errors import DataError, OptionError
from morula.core.family import did_you_mean
from morula.core.image_like import ImageLike, beside, image_of, spatial_array, stated_voxel_size
from morula.core.label_image import as_volume, check_labels, read_only
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.kernels.geometry import Geometry, geometry
from morula.measurement.shape import Surface, aspect_ratios, crofton_perimeters, perimeters, surface_areas

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
    import pandas as pd

    return pd.DataFrame(measured_columns(labels, voxel_size, intensity, extra=extra, confidence=confidence, surface=surface))


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
) -> dict[str, np.ndarray]:
    """The columns of `measure` as arrays; arguments and errors as there. Does not import pandas.

    For labels that were cut out of an image, `origin` is their first voxel in it and `whole` its shape. Centroids, boxes and the border are
    then those of that image.

    Examples:
        >>> measured_columns(np.array([[0, 7, 7], [0, 7, 0]]))["voxels"]
        array([3])
    """
    stated = stated_voxel_size(labels, key="labels") if voxel_size is None else voxel_size
    array = check_labels(spatial_array(labels, 1.0, key="labels")[0])
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
        stated = stated[1:] if isinstance(stated, Sequence) and len(stated) == 3 else stated
    size = VoxelSize.of(stated, array.ndim)
    indexed, ids = _indexed(array)
    found = geometry(indexed, len(ids) - 1)
    present = found.ids
    placed = found if origin is None else found.shifted(origin)
    columns = _geometry(ids[present], placed, size)
    columns["aspect_ratio"] = aspect_ratios(read_only(indexed), found.centroids, size.spacing(array.ndim))[present]
    columns |= _outlines(indexed, found, columns, size, surface)
    stops = placed.stops[present] == np.asarray(array.shape if whole is None else whole)
    columns["touches_border"] = ((placed.starts[present] == 0) | stops).any(axis=1).astype(np.uint8)
    if confidence is not None:
        columns["confidence"] = _confidence(confidence, ids[present])
    channels = None if intensity is None else _channels(intensity, array.shape)
    if channels is not None:
        for name, values in _intensities(indexed, channels, len(ids)).items():
            columns[name] = values[present]
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


def _geometry(ids: np.ndarray, found: Geometry, size: VoxelSize) -> dict[str, np.ndarray]:
    present = found.ids
    voxels, starts, stops = found.sizes[present], found.starts[present], found.stops[present]
    ndim = starts.shape[1]
    axes = "zyx"[-ndim:]
    extent = voxels * float(np.prod(size.spacing(ndim)))
    size_name, diameter_name, _ = _names(size.unit, ndim)
    columns = {"label": ids, "voxels": voxels, size_name: extent}
    columns |= {f"centroid_{axis}": found.centroids[present, i] for i, axis in enumerate(axes)}
    if size.unit != "pixel":
        unit = _ascii(size.unit)
        columns |= {f"centroid_{axis}_{unit}": columns[f"centroid_{axis}"] * n for axis, n in zip(axes, size.spacing(ndim), strict=True)}
    for i, axis in enumerate(axes):
        columns |= {f"box_{axis}_start": starts[:, i], f"box_{axis}_stop": stops[:, i]}
    columns["diameter"] = (stops - starts).max(axis=1)
    columns[diameter_name] = 2 * np.sqrt(extent / np.pi) if ndim == 2 else np.cbrt(6 * extent / np.pi)
    return columns


def _outlines(
    indexed: np.ndarray, found: Geometry, columns: Mapping[str, np.ndarray], size: VoxelSize, surface: Surface
) -> dict[str, np.ndarray]:
    """Perimeter, circularity and elongation in 2D; surface area and sphericity in 3D. Objects without an outline get NaN."""
    ndim, present = indexed.ndim, found.ids
    size_name, _, outline = _names(size.unit, ndim)
    extent = columns[size_name].astype(np.float64)
    # the ratios need the outline in a denominator, and an object of one or two pixels has none
    rows, spacing = len(found.sizes), size.spacing(ndim)
    if ndim == 2:
        measured = (crofton_perimeters if surface == "crofton" else perimeters)(indexed, rows, spacing)[present]
    else:
        measured = surface_areas(indexed, rows, spacing, surface)[present]
    known = np.where(measured > 0, measured, np.nan)
    if ndim == 2:
        circularity = 4 * np.pi * extent / known**2
        return {outline: measured, "circularity": circularity, "elongation": 1 / circularity}
    return {outline: measured, "sphericity": 36 * np.pi * extent**2 / known**3}


def _names(unit: str, ndim: int) -> tuple[str, str, str]:
    """Names of the columns of size, equivalent diameter and outline."""
    if unit == "pixel":
        if ndim == 2:
            return "area_px", "equivalent_diameter_px", "perimeter_px"
        return "volume_voxels", "equivalent_diameter_voxels", "surface_area_px"
    unit = _ascii(unit)
    outline = f"perimeter_{unit}" if ndim == 2 else f"surface_area_{unit}2"
    return (f"area_{unit}2" if ndim == 2 else f"volume_{unit}3"), f"equivalent_diameter_{unit}", outline


def _ascii(unit: str) -> str:
    """A unit for the names of columns, which stay plain ASCII."""
    return unit.replace("Å", "angstrom")


def _confidence(confidence: Sequence[float] | np.ndarray, ids: np.ndarray) -> np.ndarray:
    values = np.asarray(confidence, np.float32)
    if values.ndim != 1 or (len(ids) and ids.max() > len(values)):
        raise DataError(
            "measure.confidence_shape",
            f"has shape {values.shape} but the largest id is {ids.max(initial=0)}",
            key="confidence",
            remedy="Give one value for each id from 1 on.",
        )
    return values[ids - 1]


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


@njit(cache=True, nogil=True)
def _collect_intensity(labels: np.ndarray, values: np.ndarray, stats: np.ndarray) -> None:  # pragma: no cover - compiled
    """Per object: count, first value, sum of the differences from it, sum of their squares, minimum and maximum.

    Differences from the first value are small, so that their squares keep their digits where values are large.
    """
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                label = labels[z, y, x]
                if label == 0:
                    continue
                row, value = stats[label], np.float64(values[z, y, x])
                if row[0] == 0:
                    row[1] = row[4] = row[5] = value
                row[0] += 1
                difference = value - row[1]
                row[2] += difference
                row[3] += difference * difference
                row[4] = min(row[4], value)
                row[5] = max(row[5], value)


def _intensities(indexed: np.ndarray, channels: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    columns = {}
    for number, channel in enumerate(channels):
        stats = np.zeros((rows, 6))
        _collect_intensity(as_volume(indexed), as_volume(channel), stats)
        n = np.maximum(stats[:, 0], 1)
        shift = stats[:, 2] / n
        prefix = f"c{number}_" if len(channels) > 1 else ""
        columns[f"{prefix}intensity_mean"] = stats[:, 1] + shift
        columns[f"{prefix}intensity_sum"] = stats[:, 0] * stats[:, 1] + stats[:, 2]
        columns[f"{prefix}intensity_min"] = stats[:, 4]
        columns[f"{prefix}intensity_max"] = stats[:, 5]
        # rounding can leave a variance just below 0 for an object of one value
        columns[f"{prefix}intensity_std"] = np.sqrt(np.maximum(stats[:, 3] / n - shift**2, 0))
    return columns


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
