"""The columns of the table of objects from sums over their voxels, which can be taken of a whole image or of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.compiled import njit
from morula.core.errors import DataError
from morula.core.label_image import as_volume
from morula.core.voxel_size import VoxelSize
from morula.kernels.geometry import Geometry
from morula.measurement.shape import axis_ratios

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Sums:
    """What the columns are computed from, by id; row 0 is the background.

    Attributes:
        geometry: sizes, centroids and boxes in the whole image.
        moments: (rows, ndim, ndim), see `morula.measurement.shape.second_moments`.
        outlines: (rows,) perimeters or areas of the surface, in units of the voxel size.
        intensities: for each channel (rows, 6), see `add_intensities`.
    """

    geometry: Geometry
    moments: np.ndarray
    outlines: np.ndarray
    intensities: Sequence[np.ndarray] = ()


def columns_of(
    sums: Sums, ids: np.ndarray, size: VoxelSize, *, whole: Sequence[int], confidence: Sequence[float] | np.ndarray | None = None
) -> Columns:
    """The columns of `morula.measure` of the objects that are present, without the extra ones.

    Args:
        sums: by row.
        ids: id of each row.
        size: edge lengths of a voxel.
        whole: shape (Z)YX of the whole image.
        confidence: one value for each id from 1 to n.
    """
    present, ndim = sums.geometry.ids, len(whole)
    columns = _geometry(ids[present], sums.geometry, size)
    columns["aspect_ratio"] = axis_ratios(sums.moments[present], size.spacing(ndim))
    columns |= _outlines(sums.outlines[present], columns, size, ndim)
    starts, stops = sums.geometry.starts[present], sums.geometry.stops[present]
    columns["touches_border"] = ((starts == 0) | (stops == np.asarray(whole))).any(axis=1).astype(np.uint8)
    if confidence is not None:
        columns["confidence"] = _confidence(confidence, ids[present])
    for number, stats in enumerate(sums.intensities):
        prefix = f"c{number}_" if len(sums.intensities) > 1 else ""
        columns |= {f"{prefix}intensity_{name}": values for name, values in _intensities(stats[present]).items()}
    return columns


def _geometry(ids: np.ndarray, found: Geometry, size: VoxelSize) -> Columns:
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


def _outlines(measured: np.ndarray, columns: Mapping[str, np.ndarray], size: VoxelSize, ndim: int) -> Columns:
    """Perimeter, circularity and elongation in 2D; surface area and sphericity in 3D. Objects without an outline get NaN."""
    size_name, _, outline = _names(size.unit, ndim)
    extent = columns[size_name].astype(np.float64)
    # the ratios need the outline in a denominator, and an object of one or two pixels has none
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


def _intensities(stats: np.ndarray) -> Columns:
    mean, spread = mean_and_spread(stats)
    return {
        "mean": mean,
        "sum": stats[:, 0] * stats[:, 1] + stats[:, 2],
        "min": stats[:, 4],
        "max": stats[:, 5],
        "std": spread,
    }


def mean_and_spread(stats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row of `add_intensities`; 0 for an id without voxels.

    Examples:
        >>> stats = np.zeros((2, 6))
        >>> add_intensities(np.array([[0, 1, 1]]), np.array([[9.0, 2.0, 4.0]]), stats)
        >>> mean, spread = mean_and_spread(stats)
        >>> float(mean[1]), float(spread[1])
        (3.0, 1.0)
    """
    n = np.maximum(stats[:, 0], 1)
    shift = stats[:, 2] / n
    # rounding can leave a variance just below 0 for an object of one value
    return stats[:, 1] + shift, np.sqrt(np.maximum(stats[:, 3] / n - shift**2, 0))


def add_intensities(labels: np.ndarray, values: np.ndarray, stats: np.ndarray) -> None:
    """Add the voxels of an image, or of a part of it, to the statistics of its objects.

    Args:
        labels: (Z)YX, values below the number of rows.
        values: (Z)YX.
        stats: (rows, 6), zeros at first: count, first value, sum of the differences from it, sum of their squares, minimum and maximum.
            Differences from the first value are small, so that their squares keep their digits where values are large.
    """
    _collect_intensity(as_volume(labels), as_volume(values), stats)


@njit(cache=True, nogil=True)
def _collect_intensity(labels: np.ndarray, values: np.ndarray, stats: np.ndarray) -> None:  # pragma: no cover - compiled
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
