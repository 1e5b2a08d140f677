"""NIfTI 1 and 2 through nibabel (https://nifti.nimh.nih.gov/): stored (x, y, z, time, channel), read as TC(Z)YX."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, OptionError
from morula.core.file_errors import unreadable_file
from morula.core.location import suffix_of
from morula.io.formats.base import FileContent, Format, Request, Target, lengths_to_voxel_size, reject_selection, without_warnings
from morula.io.lazy import LazyArray, Opened, View

_LETTERS = "XYZTC"
_UNITS = {"mm": "mm", "micron": "um", "meter": "m"}
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


class NiftiArray(LazyArray):
    """The array of a NIfTI file in its own order (x, y, z, ...), with the file's scaling applied."""

    path: Path

    def _open(self) -> Opened:
        return _load(self.path).dataobj, lambda: None


def _load(path: Path) -> Any:
    import nibabel

    try:
        with without_warnings():
            return nibabel.load(path)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise unreadable_file(path, error) from error


class Nifti(Format):
    """``.nii`` and ``.nii.gz``; voxel sizes are taken as they are. Orientation matrices are not applied, but labels must have that
    of their image."""

    name: ClassVar[str] = "NIfTI"
    suffixes: ClassVar[tuple[str, ...]] = (".nii.gz", ".nii")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the image."""
        reject_selection(path, request, self.name)
        found = _load(path)
        shape, header = found.shape, found.header
        if not 2 <= len(shape) <= 5:
            raise DataError("image.dimensions", "images have 2 to 5 dimensions", key="shape", value=tuple(shape), file=path)
        scaled = found.dataobj.slope != 1 or found.dataobj.inter != 0
        source = NiftiArray(shape, np.float64 if scaled else found.get_data_dtype(), path=path)
        _check_complete(path, found)
        # Z and T of length 1 stand only for the axes behind them
        kept = [
            axis
            for axis, letter in enumerate(_LETTERS[: len(shape)])
            if not (letter in "ZT" and shape[axis] == 1 and len(shape) > axis + 1)
        ]
        order = sorted(kept, key=lambda axis: "TCZYX".index(_LETTERS[axis]))
        view = View(source, order, {axis: 0 for axis in range(len(shape)) if axis not in order})
        axes = Axes("".join(_LETTERS[axis] for axis in order))
        unit = _UNITS.get(header.get_xyzt_units()[0], "pixel")
        lengths = [float(header.get_zooms()[_LETTERS.index(letter)]) for letter in axes.spatial]
        lengths = [float(f"{length:.6g}") for length in lengths]  # stored as float32
        return FileContent(view, axes, lengths_to_voxel_size(lengths, axes.spatial, unit))

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write with the lengths in the header's units and a diagonal matrix."""
        import nibabel

        dtype = np.dtype(data.dtype)
        if dtype.name not in _TYPES:
            raise OptionError(
                "format.type",
                f"NIfTI cannot store {dtype}; it stores {', '.join(_TYPES)}",
                file=path,
                remedy="Convert the values, or write .ome.zarr or .h5.",
            )
        axes = target.axes
        letters = _LETTERS if "C" in axes else "XYZT" if "T" in axes else "XYZ" if "Z" in axes else "XY"
        places = [axes.index(letter) if letter in axes else None for letter in letters]
        array = View(data, places)[...]
        size = target.voxel_size
        zooms = [1.0] * len(letters)
        unit = "unknown"
        if size is not None:
            unit = {"um": "micron", "mm": "mm", "m": "meter", "pixel": "unknown"}.get(size.unit, "micron")
            size = size if size.unit in ("um", "mm", "m", "pixel") else size.to("um")
            zooms[:3] = [size.x, size.y, size.z or 1.0][: len(letters)]
        edges = [*zooms, 1.0][:3]
        affine = np.diag([*edges, 1.0])
        image = (nibabel.Nifti2Image if max(array.shape) > 32767 else nibabel.Nifti1Image)(array, affine, dtype=dtype)
        image.header.set_zooms(zooms)
        image.header.set_xyzt_units(unit)
        with without_warnings():
            nibabel.save(image, path)


def orientation_of(path: Path) -> str | None:
    """Directions of the stored axes x, y and z in the patient or stage, for example ``LPS`` or ``RAS``, from the orientation matrix.

    Returns:
        `None` for other files, and for headers without a matrix.
    """
    if suffix_of(path) not in Nifti.suffixes or not path.is_file():
        return None
    import nibabel

    header = _load(path).header
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        return None
    return "".join(letter or "?" for letter in nibabel.aff2axcodes(header.get_best_affine()))


def check_same_orientation(image: Path, labels: Path) -> None:
    """Reject labels whose orientation matrix names other directions than that of their image: voxel by voxel they do not fit.

    The arrays may nevertheless fit, where a program wrote a default matrix; only the user knows. The labels are therefore not turned.

    Raises:
        DataError: when both have a matrix, of different directions.
    """
    directions = orientation_of(image), orientation_of(labels)
    if None in directions or directions[0] == directions[1]:
        return
    raise DataError(
        "nifti.orientation",
        f"labels are stored in the orientation {directions[1]} but their image {image} in {directions[0]}",
        file=labels,
        remedy="Store both in one orientation (nibabel.as_closest_canonical). If the voxels fit as they are, copy the image's matrix "
        "into the labels.",
    )


def _check_complete(path: Path, found: Any) -> None:
    if suffix_of(path) == ".nii.gz":
        return  # the compressed length says nothing; reading fails where the data end
    needed = int(found.dataobj.offset) + int(np.prod(found.shape, dtype=np.int64)) * found.get_data_dtype().itemsize
    if path.stat().st_size < needed:
        raise unreadable_file(path, f"it ends after {path.stat().st_size} bytes but needs {needed}")
