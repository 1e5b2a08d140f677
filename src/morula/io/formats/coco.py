"""COCO's JSON for instances (https://cocodataset.org/#format-data): one file with the objects of many 2D images.

One image of the file is named as a data set: ``annotations.json:/image.png``. Objects are read from polygons, or from masks in runs.
Masks are written: they hold holes and any shape exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from morula.core.errors import DataError, FileReadError, OptionError
from morula.core.file_errors import unreadable_file
from morula.core.location import split_location
from morula.io.formats.base import Request, Target, choose_dataset
from morula.io.formats.geojson import read_json
from morula.io.formats.outlines import Outline, OutlineFormat, Outlines, Piece, name_of

_MOST_PIXELS = 2**31


class Coco(OutlineFormat):
    """Annotations of one image. Polygons, and masks in runs, plain or packed."""

    name: ClassVar[str] = "COCO"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def outlines(self, path: Path, request: Request) -> Outlines:
        """The objects of the image that the request names, else of the only one."""
        content = _content(path)
        images = {str(image["file_name"]): image for image in content["images"]}
        name = choose_dataset(path, {name: (image["height"], image["width"]) for name, image in images.items()}, request)
        image = images[name]
        shape = (int(image["height"]), int(image["width"]))
        if min(shape) < 1 or shape[0] * shape[1] > _MOST_PIXELS:
            rule = f"declares an image of {shape[1]} x {shape[0]} pixels; images of up to {_MOST_PIXELS} are read"
            raise FileReadError("image.implausible_size", rule, file=path, remedy="Correct its width and height.")
        found = [annotation for annotation in content["annotations"] if annotation["image_id"] == image["id"]]
        # the ids of objects that Morula wrote; those of annotations are numbers of the whole file
        names = [str(annotation.get("label", "")) for annotation in found]
        return Outlines(
            [_outline(path, annotation["segmentation"], shape, name) for annotation, name in zip(found, names, strict=True)], shape
        )

    def write_pieces(self, path: Path, shape: tuple[int, ...], pieces: Iterator[Piece], target: Target) -> None:
        """One image, named like the file that the labels were computed from, and one annotation per object."""
        if len(shape) != 2:
            remedy = "Choose GeoJSON or ROIs of ImageJ for volumes."
            raise OptionError("coco.volume", "COCO holds objects of 2D images", remedy=remedy)
        name = "image" if target.like is None else split_location(target.like)[0].name  # the path is that of a temporary file
        image = {"id": 1, "file_name": name, "height": shape[0], "width": shape[1]}
        annotations = [_annotation(piece, shape) for piece in pieces]
        categories = [{"id": 1, "name": "object"}]
        text = json.dumps({"images": [image], "annotations": annotations, "categories": categories})
        path.write_text(text.replace('{"id"', '\n{"id"') + "\n", encoding="utf-8")


def image_names(path: Path) -> list[str]:
    """The names of the images of a COCO file.

    Raises:
        FileReadError: when it is no COCO file.
    """
    return [str(image["file_name"]) for image in _content(path)["images"]]


def _content(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = read_json(path)
    parts = [content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations")]
    keys = (("id", "file_name", "height", "width"), ("image_id", "segmentation"))
    for part, wanted in zip(parts, keys, strict=True):
        if not isinstance(part, list) or not all(isinstance(item, dict) and set(wanted) <= set(item) for item in part):
            raise unreadable_file(path, f"it is not a COCO file: it lacks images or annotations with {', '.join(wanted)}")
    return content


def _outline(path: Path, segmentation: Any, shape: tuple[int, int], name: str) -> Outline:
    if isinstance(segmentation, list):
        rings = [np.array(numbers, np.float64).reshape(-1, 2)[:, ::-1] for numbers in segmentation]
        return Outline(rings, name)
    height, width = map(int, segmentation["size"])
    if (height, width) != shape:
        rule = f"has a mask of {height} x {width} pixels for an image of {shape[0]} x {shape[1]}"
        raise DataError("coco.mask_size", rule, file=path, remedy="Export it again from its source.")
    counts = segmentation["counts"]
    return Outline(_rectangles(np.array(unpacked(counts) if isinstance(counts, str) else counts, np.int64), shape), name)


def _rectangles(counts: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """Runs along columns as rectangles one pixel wide, (y, x); runs over several columns are divided."""
    height, width = shape
    if (counts < 0).any() or counts.sum() > height * width:
        raise ValueError("the runs of a mask are longer than the image")
    ends = np.cumsum(counts)
    rings = []
    for start, end in zip(ends[0::2].tolist(), ends[1::2].tolist()):
        while start < end:
            column, top = divmod(start, height)
            bottom = min(top + end - start, height)
            rings.append(np.array([[top, column], [top, column + 1], [bottom, column + 1], [bottom, column]], np.float64))
            start += bottom - top
    return rings


def unpacked(text: str) -> list[int]:
    """Lengths of runs from COCO's packed form: 5 bits per character, each number from the fourth on relative to the one two before.

    Examples:
        >>> unpacked("03")
        [0, 3]
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift  # negative: the sign is the highest bit
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _annotation(piece: Piece, shape: tuple[int, ...]) -> dict[str, object]:
    corners = np.concatenate(piece.rings)
    (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    mask = _mask(piece, top, left, bottom, right)
    return {
        "id": piece.id,
        "image_id": 1,
        "category_id": 1,
        "label": int(name_of(piece, 2)),
        "iscrowd": 0,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "segmentation": {"size": [shape[0], shape[1]], "counts": _runs(mask, top, left, shape[0], shape[1])},
    }


def _mask(piece: Piece, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    from morula.kernels.outlines import fill

    plane = np.zeros((bottom - top, right - left), np.uint32)
    rings = piece.rings
    starts = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])
    fill(plane, np.concatenate(rings).astype(np.float64) - [top, left], starts, np.ones(len(rings), np.uint32))
    return plane > 0


def _runs(mask: np.ndarray, top: int, left: int, height: int, width: int) -> Sequence[int]:
    """Lengths of runs of a mask at (top, left) of an image, along columns, beginning with background."""
    padded = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    padded[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(padded, axis=1))
    edges = (column + left) * height + top + row
    # a run that ends with a column and one that begins the next are one
    edges = edges[np.concatenate([[True], edges[1:] != edges[:-1]]) & np.concatenate([edges[1:] != edges[:-1], [True]])]
    return np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
