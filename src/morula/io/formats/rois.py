"""ROIs of ImageJ through roifile: ``.zip`` files of the ROI Manager, and single ``.roi`` files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula.core.errors import FileReadError
from morula.core.file_errors import unreadable_file
from morula.io.formats.base import Request, Target, reject_selection, without_log
from morula.io.formats.outlines import Outline, OutlineFormat, Outlines, Piece, name_of
from morula.io.metadata import MetadataWarning, tell

if TYPE_CHECKING:
    from roifile import ImagejRoi

_MOST_BYTES = 2**30
_CORNERS_OF_AN_OVAL = 720
_SIZE = "morula_shape"
"""Property of each ROI with the shape (Z)YX of the image, which ROIs do not state; ImageJ keeps it."""
_DATE = (1980, 1, 1, 0, 0, 0)  # the same labels are the same file, byte for byte


class Rois(OutlineFormat):
    """Areas are read: polygons, freehand, traced, rectangles, ovals and composites; lines and points are left out with a warning.

    In volumes, each object has one ROI per plane, at the position of the plane in the stack.
    """

    name: ClassVar[str] = "ImageJ ROIs"
    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".roi")
    magics: ClassVar[tuple[bytes, ...]] = (b"Iout",)

    def outlines(self, path: Path, request: Request) -> Outlines:
        """The areas of all ROIs."""
        from roifile import ImagejRoi

        reject_selection(path, request, self.name)
        items, others, shape = [], 0, None
        for name, content in _entries(path):
            with without_log("roifile"):
                roi = ImagejRoi.frombytes(content)
            rings, shape = _rings(roi), shape or _stated_shape(roi)
            others += rings is None
            if rings is not None:
                position = roi.position or roi.z_position
                items.append(Outline(rings, name or roi.name, position - 1 if position > 0 else None))
        if others:
            tell(MetadataWarning(f"{others} of its ROIs are lines or points and are left out", code="rois.no_area", field="ROIs"))
        return Outlines(items, shape)

    def write_pieces(self, path: Path, shape: tuple[int, ...], pieces: Iterator[Piece], target: Target) -> None:
        """One ROI per object and plane, named by its id."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for piece in pieces:
                name = name_of(piece, len(shape))
                entry = zipfile.ZipInfo(f"{name}.roi", _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                roi = _roi(piece, name, piece.z + 1 if len(shape) == 3 else 0)
                roi.props = f"{_SIZE}: {'x'.join(map(str, shape))}\n"
                archive.writestr(entry, roi.tobytes())


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each ROI; ImageJ shows the names of the entries."""
    if path.stat().st_size > _MOST_BYTES:
        raise _too_large(path)
    if not zipfile.is_zipfile(path):
        yield "", path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
        if sum(entry.file_size for entry in entries) > _MOST_BYTES:
            raise _too_large(path)
        if not entries and archive.infolist():
            raise unreadable_file(path, "it is a ZIP archive without ROIs of ImageJ (files that end in .roi)")
        for entry in entries:
            with archive.open(entry) as stream:  # at most what the archive declares, which was checked
                yield Path(entry.filename).stem, stream.read(entry.file_size)


def _stated_shape(roi: ImagejRoi) -> tuple[int, ...] | None:
    found = re.search(rf"^{_SIZE}: (\d{{1,9}}(?:x\d{{1,9}}){{1,2}})$", roi.props, re.MULTILINE)
    shape = None if found is None else tuple(map(int, found[1].split("x")))
    return shape if shape is not None and min(shape) > 0 else None


def _too_large(path: Path) -> FileReadError:
    rule = f"holds more than {_MOST_BYTES >> 20} MiB of ROIs"
    return FileReadError("rois.too_large", rule, file=path, remedy="Give a label image instead.")


def _rings(roi: ImagejRoi) -> list[np.ndarray] | None:
    """Rings (y, x) of an area; `None` for a ROI that is no area."""
    from roifile import ROI_TYPE

    if roi.roitype == ROI_TYPE.RECT and roi.composite:
        found = roi.coordinates(multi=True)
    elif roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        found = [_box(roi, oval=roi.roitype == ROI_TYPE.OVAL)]
    elif roi.roitype in (ROI_TYPE.POLYGON, ROI_TYPE.TRACED, ROI_TYPE.FREEHAND):
        found = roi.coordinates(multi=True)
    else:
        return None
    return [np.asarray(ring, np.float64)[:, ::-1] for ring in found]


def _box(roi: ImagejRoi, *, oval: bool) -> np.ndarray:
    """Corners (x, y) of a rectangle or oval."""
    left, top, width, height = map(float, (roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top))
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if not oval:
        return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]], np.float64)
    angle = np.linspace(0, 2 * np.pi, _CORNERS_OF_AN_OVAL, endpoint=False)
    return np.stack([left + width / 2 * (1 + np.cos(angle)), top + height / 2 * (1 + np.sin(angle))], axis=1)


def _roi(piece: Piece, name: str, position: int) -> ImagejRoi:
    """A traced ROI, or a composite where the piece has holes or several parts."""
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring[:, ::-1] for ring in piece.rings]
    roi = ImagejRoi.frompoints(rings[0] if len(rings) == 1 else np.concatenate(rings), name=name)
    roi.position = position
    roi.roitype = ROI_TYPE.TRACED
    corners = np.concatenate(rings)
    roi.left, roi.top = corners.min(axis=0).tolist()
    roi.right, roi.bottom = corners.max(axis=0).tolist()
    if len(rings) > 1:
        roi.roitype, roi.n_coordinates, roi.integer_coordinates, roi.subpixel_coordinates = ROI_TYPE.RECT, 0, None, None
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    """A closed path of Java's PathIterator: move to the first corner (0), lines to the others (1), close (4)."""
    steps = np.ones((len(ring), 3), np.float32)
    steps[:, 1:], steps[0, 0] = ring, 0
    return np.append(steps.ravel(), np.float32(4))
