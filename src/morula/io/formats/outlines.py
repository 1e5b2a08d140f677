"""Label images as outlines, one or several polygons per object and plane, and back. Formats of outlines share this.

The outlines of a label image run along the edges of its pixels, so that filling them gives the same labels, see `morula.kernels.outlines`.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from morula.core.array import ArraySource
from morula.core.axes import Axes
from morula.core.errors import DataError, FileReadError, OptionError
from morula.core.label_image import LARGEST_ID
from morula.io.formats.base import FileContent, Format, Request, Target
from morula.io.metadata import MetadataWarning, tell

_MOST_PIXELS = 2**31
_ID = re.compile(r"0*([1-9]\d{0,9})(?:-z\d+)?")
"""Names of outlines that Morula writes: the id, in volumes followed by the plane."""


@dataclass(frozen=True)
class Outline:
    """Rings of one object in one plane: corners (y, x), even-odd. `z` is `None` where the file states no plane."""

    rings: Sequence[np.ndarray]
    name: str = ""
    z: int | None = None


@dataclass(frozen=True)
class Outlines:
    """The outlines of a file, and the shape (Z)YX of the image where the file states it."""

    items: Sequence[Outline]
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Piece:
    """The part of an object in one plane: polygons, each an outer ring and its holes, as corners (y, x)."""

    id: int
    z: int
    polygons: tuple[tuple[np.ndarray, ...], ...]

    @property
    def rings(self) -> list[np.ndarray]:
        """All rings."""
        return [ring for polygon in self.polygons for ring in polygon]


class OutlineFormat(Format):
    """A format that holds outlines of objects, not pixels: it is read as a label image."""

    labels_only: ClassVar[bool] = True

    @abstractmethod
    def outlines(self, path: Path, request: Request) -> Outlines:
        """The outlines of a file."""

    def read(self, path: Path, request: Request) -> FileContent:
        """The label image of the outlines, of the size that the request or the file states, else just large enough."""
        return FileContent(*drawn(path, self.outlines(path, request), request.shape))

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write the outlines of a label image."""
        if not target.labels:
            rule = f"{self.name} holds outlines of objects, not pixels"
            raise OptionError("outlines.not_labels", rule, remedy="Give labels (labels=True), or choose .ome.zarr, .tif or .h5.")
        axes = target.axes.spatial_axes
        if len(axes) != len(target.axes):
            rule = f"{self.name} holds the outlines of one image, here with the axes {target.axes}"
            raise OptionError("outlines.axes", rule, remedy="Give one channel and one time point.")
        array = np.asarray(data).transpose([target.axes.index(letter) for letter in axes])
        self.write_pieces(path, array.shape, pieces_of(array), target)

    @abstractmethod
    def write_pieces(self, path: Path, shape: tuple[int, ...], pieces: Iterator[Piece], target: Target) -> None:
        """Write the pieces of the objects of a label image of this shape (Z)YX."""


def pieces_of(labels: np.ndarray) -> Iterator[Piece]:
    """The part of each object in each plane, ordered by plane and id.

    Examples:
        >>> [(piece.id, piece.z, piece.rings[0].tolist()) for piece in pieces_of(np.array([[0, 3]], np.uint8))]
        [(3, 0, [[0, 1], [0, 2], [1, 2], [1, 1]])]
    """
    from morula.kernels.outlines import trace

    planes = labels[None] if labels.ndim == 2 else labels
    for z, plane in enumerate(planes):
        corners, starts, of = trace(np.ascontiguousarray(plane, plane.dtype if plane.dtype.kind == "u" else np.uint32))
        rings = [corners[a:b] for a, b in itertools.pairwise(starts)]
        found: dict[int, dict[int, list[np.ndarray]]] = {}
        for ring, (label, piece) in zip(rings, of.tolist(), strict=True):
            found.setdefault(label, {}).setdefault(piece, []).append(ring)
        for label in sorted(found):
            yield Piece(label, z, tuple(map(tuple, found[label].values())))


def drawn(path: Path, outlines: Outlines, wanted: tuple[int, ...] | None) -> tuple[np.ndarray, Axes]:
    """The label image of outlines, and its axes.

    Raises:
        DataError: when there is no outline, or the planes of outlines in a volume are unknown.
        FileReadError: for coordinates that no image has.
    """
    from morula.kernels.outlines import fill

    items = [item for item in outlines.items if any(len(ring) > 2 for ring in item.rings)]
    if not items and wanted is None and outlines.shape is None:
        remedy = "Check that it is the right file, and that its outlines enclose areas."
        raise DataError("outlines.none", "contains no outline of an area, and no size of an image", file=path, remedy=remedy)
    for item in items:
        if not all(np.isfinite(ring).all() and (not ring.size or np.abs(ring).max() < _MOST_PIXELS) for ring in item.rings):
            rule = "has an outline with coordinates that no image has"
            raise FileReadError("outlines.coordinates", rule, file=path, remedy="Export it again from its source.")
    shape = _shape(path, items, wanted or outlines.shape)
    planes = np.zeros(shape if len(shape) == 3 else (1, *shape), np.uint32)
    if len(planes) > 1 and any(item.z is None for item in items):
        rule = f"does not state the planes of its outlines, but the image has {len(planes)} planes"
        raise DataError("outlines.no_planes", rule, file=path, remedy="Set the position of each outline, or give a label image.")
    covered = outside = 0
    for label, item in zip(_ids(items), items, strict=True):
        z = item.z or 0
        corners = np.concatenate([np.asarray(ring, np.float64) for ring in item.rings])
        inside = 0 <= z < len(planes) and corners.min() >= -1 and (corners.max(axis=0) <= np.add(planes.shape[1:], 1)).all()
        outside += not inside
        if 0 <= z < len(planes):
            starts = np.concatenate([[0], np.cumsum([len(ring) for ring in item.rings])])
            covered += fill(planes[z], corners, starts, np.full(len(item.rings), label, np.uint32))
    _tell(covered, outside, len(items))
    return (planes if len(shape) == 3 else planes[0]), Axes("ZYX"[-len(shape) :])


def _tell(covered: int, outside: int, count: int) -> None:
    if covered:
        rule = f"its outlines overlap in {covered} pixels, which belong to the later ones"
        tell(MetadataWarning(rule, code="outlines.overlap", field="outlines"))
    if outside:
        rule = f"{outside} of its {count} outlines reach beyond the image"
        tell(MetadataWarning(rule, code="outlines.outside", field="outlines"))


def _shape(path: Path, items: Sequence[Outline], stated: tuple[int, ...] | None) -> tuple[int, ...]:
    if stated is None:
        depth = max((item.z or 0 for item in items), default=0) + 1
        ends = np.ceil(np.max([ring.max(axis=0) for item in items for ring in item.rings if len(ring)], axis=0)).astype(np.int64)
        plane = (max(int(ends[0]), 1), max(int(ends[1]), 1))
        stated = plane if depth == 1 else (depth, *plane)
        rule = f"states no size of the image, so the labels are only as large as its outlines need: {' x '.join(map(str, stated))}"
        tell(MetadataWarning(rule, code="outlines.no_size", field="size"))
    if np.prod(stated, dtype=np.float64) > _MOST_PIXELS:
        rule = f"needs a label image of {' x '.join(map(str, stated))} pixels; up to {_MOST_PIXELS} are read"
        raise FileReadError("image.implausible_size", rule, file=path, remedy="Check the coordinates of its outlines.")
    return stated


def _ids(items: Sequence[Outline]) -> list[int]:
    """The number in each name where all names are ids, so that equal names are one object; else 1, 2, 3, ..."""
    found = [_ID.fullmatch(item.name) for item in items]
    ids = [int(match[1]) for match in found if match is not None]
    return ids if len(ids) == len(items) and max(ids, default=0) <= LARGEST_ID else list(range(1, len(items) + 1))


def name_of(piece: Piece, ndim: int) -> str:
    """Name of an outline, from which its id is read again.

    Examples:
        >>> name_of(Piece(12, 3, ()), 2), name_of(Piece(12, 3, ()), 3)
        ('12', '12-z0004')
    """
    return str(piece.id) if ndim == 2 else f"{piece.id}-z{piece.z + 1:04d}"
