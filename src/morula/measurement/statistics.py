"""The statistics table of CellSeg3D: one row per object, and the values of the whole image in the first row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from morula.core.image_like import ImageLike, spatial_array
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.measurement.measure import measured_columns
from morula.measurement.table import column

if TYPE_CHECKING:
    import pandas as pd


def statistics(labels: ImageLike, voxel_size: VoxelSizeLike = None) -> pd.DataFrame:
    """Measurements of objects and the area fraction of the image that they fill, with the column names of CellSeg3D.

    Columns: ``Label``; ``Volume`` (voxels); ``Centroid x``, ``y`` and ``z`` (voxels); ``Sphericity (axes)`` (of the spheroid with the
    object's longest and shortest axis, 1 for a ball; empty where an object is too small or flat for it); where the voxel size is known
    ``Volume (um3)`` and ``Centroid x (um)``, ...; then, in the first row alone, ``Image size``, ``Total image volume``,
    ``Total object volume (pixels)``, ``Filling ratio`` and ``Number objects``. In 2D volumes are areas, and there is no z.

    Args:
        labels: integer label image (Z)YX, array or `Image`; 0 is background.
        voxel_size: voxel edge lengths, as for `VoxelSize.of`; the image's own when `None`.

    Returns:
        `pandas.DataFrame` of texts with one row per object, ordered by label; a single row for an image without objects.

    Raises:
        DataError: for values that are not labels.

    Examples:
        >>> table = statistics(np.array([[0, 7, 7], [0, 7, 0]]))
        >>> table[["Volume", "Filling ratio", "Number objects"]]
          Volume Filling ratio Number objects
        0      3           0.5              1
    """
    import pandas as pd

    array = spatial_array(labels)[0]
    size = VoxelSize.of(voxel_size if voxel_size is not None else getattr(labels, "voxel_size", None), array.ndim)
    table = measured_columns(array, voxel_size=size, extra=("axis_major_length", "axis_minor_length"))
    axes = "zyx"[-array.ndim :]
    columns: dict[str, list[object]] = {"Label": table["label"].tolist(), "Volume": table["voxels"].tolist()}
    columns |= {f"Centroid {axis}": table[f"centroid_{axis}"].tolist() for axis in reversed(axes)}
    columns["Sphericity (axes)"] = spheroid_sphericity(column(table, "axis_major_length"), column(table, "axis_minor_length")).tolist()
    if size.unit != "pixel":
        power, spacing = array.ndim, size.spacing(array.ndim)
        columns[f"Volume ({size.unit}{power})"] = (table["voxels"] * np.prod(spacing)).tolist()
        lengths = dict(zip(axes, spacing, strict=True))
        columns |= {f"Centroid {axis} ({size.unit})": (table[f"centroid_{axis}"] * lengths[axis]).tolist() for axis in reversed(axes)}
    filled = int(table["voxels"].sum())
    whole = {
        "Image size": " x ".join(map(str, array.shape)),
        "Total image volume": array.size,
        "Total object volume (pixels)": filled,
        "Filling ratio": filled / max(array.size, 1),
        "Number objects": len(table["label"]),
    }
    rows = max(len(table["label"]), 1)  # the values of the image need a row also where there is no object
    return pd.DataFrame(
        {name: [_cell(value) for value in values] + [""] * (rows - len(values)) for name, values in columns.items()}
        | {name: [_cell(value)] + [""] * (rows - 1) for name, value in whole.items()}
    )


def spheroid_sphericity(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """Sphericity of prolate spheroids: surface area of the ball of equal volume divided by that of the spheroid.

    Args:
        major: lengths of the longest axes.
        minor: lengths of the shortest axes, in the same unit.

    Returns:
        Values up to 1; NaN where an axis has no length.


    Examples:
        >>> spheroid_sphericity(np.array([2.0, 4.0]), np.array([2.0, 2.0])).round(3)
        array([1.   , 0.929])
    """
    a, b = np.asarray(major, np.float64), np.asarray(minor, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # arcsin(e) / e is 0 / 0 for a ball; below 1e-6 it is 1 to 12 digits
        e = np.sqrt(1 - (b / a) ** 2)
        flank = np.where(e > 1e-6, a * b * np.arcsin(e) / e, b * b)
        sphericity = 2 * (a * b * b) ** (2 / 3) / (b * b + flank)
    return np.where((b > 0) & (a >= b), sphericity, np.nan)


def _cell(value: object) -> str:
    return "" if isinstance(value, float) and np.isnan(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
