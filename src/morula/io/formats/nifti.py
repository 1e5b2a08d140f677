"""NIfTI 1 and 2 through nibabel (https://nifti.nimh.nih.gov/): stored (x, y, z, time, channel), read as TC(Z)YX.

Where the header has an orientation matrix, the array is turned so that x, y and z point right, anterior and superior (RAS, as
`nibabel.as_closest_canonical` does): an image and labels that other programs stored in different orientations then fit voxel by voxel.
What is written for such an image gets the same matrix, so that both overlay in other programs.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import OptionError
from morula.core.file_errors import unreadable_file
from morula.core.location import suffix_of
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import (
    FileContent,
    Format,
    Request,
    Target,
    check_is_image,
    lengths_to_voxel_size,
    reject_selection,
    without_log,
    without_warnings,
)
from morula.io.lazy import Flipped, LazyArray, Opened, View
from morula.io.metadata import MetadataWarning, ignore_field, tell

_LETTERS = "XYZTC"
_UNITS = {"mm": "mm", "micron": "um", "meter": "m"}
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
_SPARE = 2**20
"""Bytes that may follow the voxels in a compressed file."""


class NiftiArray(LazyArray):
    """The array of a NIfTI file in its own order (x, y, z, ...), with the file's scaling applied."""

    path: Path

    def _open(self) -> Opened:
        found = _load(self.path)
        if suffix_of(self.path) == ".nii.gz":
            _check_gzip(self.path, _needed(found))
        return found.dataobj, lambda: None


def _load(path: Path) -> Any:
    import nibabel

    try:
        with without_warnings(), without_log("nibabel.global"):
            return nibabel.load(path)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise unreadable_file(path, error) from error


@dataclass(frozen=True)
class Turn:
    """How the stored spatial axes become x, y and z: `order` gives the stored axis of each, `flipped` the stored axes that are reversed."""

    order: tuple[int, ...]
    flipped: tuple[int, ...]

    @property
    def is_identity(self) -> bool:
        """Whether nothing is turned."""
        return not self.flipped and self.order == tuple(range(len(self.order)))

    @classmethod
    def of(cls, found: Any) -> Turn | None:
        """The turn to RAS; `None` for a header without a valid matrix."""
        import nibabel

        header, n = found.header, min(3, len(found.shape))
        if not (int(header["sform_code"]) or int(header["qform_code"])):
            return None
        try:
            affine = header.get_best_affine()
            directions = nibabel.io_orientation(affine)[:n] if np.isfinite(affine).all() else np.full((n, 2), np.nan)
        except (ValueError, np.linalg.LinAlgError, nibabel.spatialimages.HeaderDataError):
            affine, directions = None, np.full((n, 2), np.nan)
        if not np.isfinite(directions).all():
            ignore_field("sform or qform", None if affine is None else affine.tolist(), "must give each axis a direction")
            return None
        # the axis of a single plane stays z: a 2D image is one in every orientation
        flat = [axis for axis in range(n) if axis == 2 and found.shape[axis] == 1]
        order = sorted((axis for axis in range(n) if axis not in flat), key=lambda axis: float(directions[axis, 0])) + flat
        return cls(tuple(order), tuple(axis for axis in range(n) if directions[axis, 1] < 0))

    def matrix(self, found: Any) -> np.ndarray:
        """The matrix of the turned array."""
        affine = np.array(found.header.get_best_affine(), np.float64)
        turned = affine.copy()
        for place, axis in enumerate(self.order):
            turned[:3, place] = -affine[:3, axis] if axis in self.flipped else affine[:3, axis]
        for axis in self.flipped:
            turned[:3, 3] += affine[:3, axis] * (found.shape[axis] - 1)
        return turned


class Nifti(Format):
    """``.nii`` and ``.nii.gz``."""

    name: ClassVar[str] = "NIfTI"
    suffixes: ClassVar[tuple[str, ...]] = (".nii.gz", ".nii")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open the image."""
        reject_selection(path, request, self.name)
        found = _load(path)
        shape, header = found.shape, found.header
        check_is_image(path, shape, found.get_data_dtype())
        scaled = found.dataobj.slope != 1 or found.dataobj.inter != 0
        source: ArraySource = NiftiArray(shape, np.float64 if scaled else found.get_data_dtype(), path=path)
        _check_complete(path, found)
        turn = Turn.of(found) or Turn(tuple(range(min(3, len(shape)))), ())
        if turn.flipped:
            source = Flipped(source, turn.flipped)
        letters = {axis: _LETTERS[place] for place, axis in enumerate([*turn.order, *range(3, len(shape))])}
        # Z and T of length 1 stand only for the axes behind them
        kept = [axis for axis, letter in letters.items() if not (letter in "ZT" and shape[axis] == 1 and len(shape) > axis + 1)]
        order = sorted(kept, key=lambda axis: "TCZYX".index(letters[axis]))
        view = View(source, order, {axis: 0 for axis in range(len(shape)) if axis not in order})
        axes = Axes("".join(letters[axis] for axis in order))
        unit = _UNITS.get(_unit_of(header), "pixel")
        zooms = {letters[axis]: float(f"{float(length):.6g}") for axis, length in enumerate(header.get_zooms())}  # stored as float32
        size = lengths_to_voxel_size([zooms[letter] for letter in axes.spatial], axes.spatial, unit)
        return FileContent(view, axes, size if _lengths_are_known(found) else None)

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write with the lengths in the header's units, and the matrix of the image that it belongs to or a diagonal one."""
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
        array = View(data, [axes.index(letter) if letter in axes else None for letter in letters])[...]
        affine, unit = _placed_like(target, array.shape) or _diagonal(target)
        image = (nibabel.Nifti2Image if max(array.shape) > 32767 else nibabel.Nifti1Image)(array, affine, dtype=dtype)
        image.header.set_zooms([*np.linalg.norm(affine[:3, :3], axis=0), 1.0, 1.0][: len(letters)])
        image.header.set_xyzt_units(unit)
        with without_warnings():
            nibabel.save(image, path)


def _lengths_are_known(found: Any) -> bool:
    """Whether the lengths in the file are positive, or negative ones whose sign is left out; nibabel makes 0 a length of 1 in silence."""
    with found.file_map["image"].get_prepare_fileobj("rb") as file:
        stored = type(found.header).from_fileobj(file, check=False)["pixdim"][1 : 1 + min(3, len(found.shape))].astype(float)
    if ((stored > 0) & np.isfinite(stored)).all():
        return True
    known = bool(np.isfinite(stored).all() and stored.all())
    ignore_field("pixdim", stored.tolist(), "must be positive; signs are left out" if known else "must be positive lengths")
    return known


def _unit_of(header: Any) -> str:
    """The unit of lengths, ``unknown`` where its code is none of the format."""
    try:
        length, time = map(str, header.get_xyzt_units())
        if length == "unknown" and time != "unknown":
            rule = f"states a unit of time ({time}) but none of length, so lengths are in voxels"
            ignore_field("xyzt_units", int(header["xyzt_units"]), rule)
        return length
    except KeyError:
        ignore_field("xyzt_units", int(header["xyzt_units"]), "is not a unit that NIfTI defines")
        return "unknown"


def _diagonal(target: Target) -> tuple[np.ndarray, str]:
    """Matrix and unit of an image without orientation."""
    size, places = target.voxel_size, [*reversed(target.origin or ()), 0.0, 0.0, 0.0][:3]
    if size is None:
        matrix, unit, factor = np.eye(4), "unknown", 1.0
    else:
        unit = {"um": "micron", "mm": "mm", "m": "meter", "pixel": "unknown"}.get(size.unit, "micron")
        shown = size if size.unit in ("um", "mm", "m", "pixel") else size.to("um")
        matrix, factor = np.diag([shown.x, shown.y, shown.z or 1.0, 1.0]), shown.x / size.x
    matrix[:3, 3] = np.multiply(places, factor)
    return matrix, unit


def _placed_like(target: Target, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Matrix and unit of the image that an array of this shape (x, y, z, ...) belongs to; `None` where there is none or it does not fit."""
    if target.like is None or suffix_of(target.like) not in Nifti.suffixes or not target.like.is_file():
        return None
    found = _load(target.like)
    turn = Turn.of(found)
    first = _first_voxel(target)
    if turn is None or any(
        start + n > found.shape[axis] or (target.origin is None and n != found.shape[axis])
        for start, n, axis in zip(first, shape, turn.order, strict=False)
    ):
        return None
    matrix, unit = turn.matrix(found), _unit_of(found.header)
    matrix[:3, 3] += matrix[:3, :3] @ first
    lengths = [float(f"{length:.6g}") for length in np.linalg.norm(matrix[:3, :3], axis=0)]
    stated = lengths_to_voxel_size(lengths, "xyz", _UNITS.get(unit, "pixel"))
    size = target.voxel_size
    # a voxel size that the user gave instead of the one in the file does not go with its matrix
    if size is not None and (stated is None or size.unit != stated.unit or not math.isclose(size.x, stated.x, rel_tol=1e-4)):
        return None
    return matrix, unit


def _first_voxel(target: Target) -> np.ndarray:
    """The first voxel (x, y, z) of a part in the image that it was cut from."""
    first, origin = np.zeros(3), target.origin or ()
    spacing = VoxelSize.of(target.voxel_size, max(len(origin), 2)).spacing(max(len(origin), 2))
    first[: len(origin)] = np.rint(np.divide(origin, spacing[: len(origin)]))[::-1]
    return first


def compare_orientations(image: Path, labels: Path) -> None:
    """Warn where an image and its labels are turned in different ways: only the user knows whether their matrices are right."""
    turns = _turn_of(image), _turn_of(labels)
    if turns[0] == turns[1] or all(turn is None or turn.is_identity for turn in turns):
        return
    remedy = f"If the voxels fit as they are stored, save the labels as NIfTI with the matrix of {image}."
    if None in turns:
        unstated, stated = (image, labels) if turns[0] is None else (labels, image)
        rule = f"{unstated} states no orientation and is taken as it is, while {stated} is turned to RAS by its matrix. {remedy}"
    else:
        rule = f"labels are stored in another orientation than {image}; both are turned to RAS by their matrices. {remedy}"
    tell(MetadataWarning(rule, code="nifti.orientation", file=str(labels), field="orientation"))


def _turn_of(path: Path) -> Turn | None:
    return Turn.of(_load(path)) if suffix_of(path) in Nifti.suffixes and path.is_file() else None


def _needed(found: Any) -> int:
    """Bytes from the begin of the file to its last voxel."""
    return int(found.dataobj.offset) + int(np.prod(found.shape, dtype=np.int64)) * int(found.get_data_dtype().itemsize)


def _check_complete(path: Path, found: Any) -> None:
    if found.dataobj.offset < found.header.sizeof_hdr:
        raise unreadable_file(path, f"its voxels would begin at byte {int(found.dataobj.offset)}, inside its header (vox_offset)")
    if suffix_of(path) == ".nii.gz":
        return  # the compressed length says nothing; reading fails where the data end
    needed = _needed(found)
    if path.stat().st_size < needed:
        raise unreadable_file(path, f"it ends after {path.stat().st_size} bytes but needs {needed}")


def _check_gzip(path: Path, needed: int) -> None:
    """Decompress to the end, where the checksum is: nibabel stops after the last voxel and does not compare it.

    Raises:
        FileReadError: for a wrong checksum, or more or fewer bytes than the header declares.
    """
    length = 0
    with gzip.open(path) as stream:
        while length <= needed + _SPARE and (block := stream.read(2**20)):
            length += len(block)
    if not needed <= length <= needed + _SPARE:
        raise unreadable_file(path, f"its header declares {needed} bytes, but it holds {length}{' or more' if length > needed else ''}")
