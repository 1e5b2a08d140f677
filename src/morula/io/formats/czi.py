"""CZI of Zeiss through the optional package pylibCZIrw (LGPL); read only. Pyramids, mosaics and all of their compressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np

from morula.core.errors import DataError
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import FileContent, Format, Request, is_partial, lengths_to_voxel_size, pick_level, positive_length
from morula.io.formats.czi_process import CziProcess
from morula.io.formats.planes import PlaneArray, Planes, check_planes, choose_scene, content
from morula.io.metadata import ignore_field

_TYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32", "Bgr24": "uint8", "Bgr48": "uint16", "Bgr96Float": "float32"}


class _CziPlanes(Planes):
    """An open CZI file, read from the rectangle of a scene at a pyramid level."""

    def __init__(self, path: Path, scene: int | None, corner: tuple[int, int], factor: int, samples: int) -> None:
        self._reader = CziProcess(path)
        self._scene, self._corner, self._factor, self._samples = scene, corner, factor, samples
        self._last: tuple[object, np.ndarray] | None = None

    def plane(self, t: int, c: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        """Values of a part of a plane."""
        key = (t, c // self._samples, z, rows.start, rows.stop, columns.start, columns.stop)
        if self._last is None or self._last[0] != key:  # colours are read together
            f, (top, left) = self._factor, self._corner
            roi = (left + columns.start * f, top + rows.start * f, (columns.stop - columns.start) * f, (rows.stop - rows.start) * f)
            self._last = key, self._reader.read(roi, {"T": t, "C": key[1], "Z": z}, self._scene, 1 / f)
        return self._last[1][..., self._samples - 1 - c % self._samples]  # stored as blue, green, red

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class CziArray(PlaneArray):
    """A scene of a CZI file at a pyramid level."""

    def __init__(
        self, shape: Sequence[int], dtype: str, path: Path, scene: int | None, corner: tuple[int, int], factor: int, samples: int
    ) -> None:
        super().__init__(shape, dtype, path)
        self.scene, self.corner, self.factor, self.samples = scene, corner, factor, samples

    def _planes(self) -> Planes:
        return _CziPlanes(self.path, self.scene, self.corner, self.factor, self.samples)


class Czi(Format):
    """Scenes are counted from 0; without a choice the only one. Level n of a pyramid is reduced by 2^n."""

    name: ClassVar[str] = "CZI"
    suffixes: ClassVar[tuple[str, ...]] = (".czi",)
    magics: ClassVar[tuple[bytes, ...]] = (b"ZISRAWFILE",)
    writes: ClassVar[bool] = False

    def read(self, path: Path, request: Request) -> FileContent:
        """Open a scene."""
        with closing(CziProcess(path)) as process:
            facts = process.facts()
        box, kinds, levels, others = facts["box"], set(facts["kinds"]), facts["levels"], facts["others"]
        scenes = {int(number): place for number, place in facts["scenes"].items()}
        shapes = {str(number): (h, w) for number, (_, _, w, h) in sorted(scenes.items())} or {"0": (box["Y"][1], box["X"][1])}
        chosen = choose_scene(path, shapes, request)
        scene = sorted(scenes)[chosen] if scenes else None
        left, top, width, height = (
            scenes[scene] if scene is not None else (box["X"][0], box["Y"][0], box["X"][1] - box["X"][0], box["Y"][1] - box["Y"][0])
        )
        if others:
            rule = f"has several images along the dimensions {', '.join(sorted(others))}, which Morula does not read"
            raise DataError("czi.dimensions", rule, file=path, remedy="Export each as a CZI of its own in ZEN (Split scenes; Subset).")
        if not kinds <= set(_TYPES) or len({kind[:3] == "Bgr" for kind in kinds}) > 1:
            rule = f"has channels of the types {', '.join(sorted(kinds))}, which are not read together"
            raise DataError("czi.types", rule, file=path, remedy="Export it as OME-TIFF.")
        lengths = [box[letter][1] - box[letter][0] if letter in box else 1 for letter in "TCZ"]
        if request.missing != "unchecked":
            wanted = [(t, c, z) for t in range(lengths[0]) for c in range(lengths[1]) for z in range(lengths[2])]
            seen = {tuple(plane) for plane in facts["planes"]}
            check_planes(path, [at for at in wanted if (scene, *at) not in seen], len(wanted), request.missing)
        factor = 2 ** pick_level(path, request.level, levels)
        samples = 3 if next(iter(kinds)).startswith("Bgr") else 1
        shape = (lengths[0], lengths[1] * samples, lengths[2], max(1, height // factor), max(1, width // factor))
        dtype = np.result_type(*(_TYPES[kind] for kind in kinds)).name
        source = CziArray(shape, dtype, path, scene, (top, left), factor, samples)
        return content(path, source, "TCZYX", _voxel_size(facts, factor, volume=lengths[2] > 1))


def _voxel_size(facts: Mapping[str, Any], factor: int, *, volume: bool) -> VoxelSize | None:
    """Edge lengths from the scaling in metres. What cannot be used is told."""
    xml, wrong = facts["xml"], facts.get("xml_error")
    try:
        root = ElementTree.fromstring(xml if wrong is None else "<none/>")
    except ElementTree.ParseError as error:
        root, wrong = ElementTree.Element("none"), str(error)
    if wrong is not None:
        ignore_field("ImageDocument", xml, f"must be XML ({wrong})")
    letters = "ZYX" if volume else "YX"
    stated = {distance.get("Id", ""): (distance.findtext("Value") or "").strip() for distance in root.iterfind(".//Scaling/Items/Distance")}
    stated = {letter: stated[letter] for letter in letters if letter in stated}
    if is_partial("Scaling.", stated, letters):
        return None
    found = {letter: positive_length(f"Scaling.{letter}", text) for letter, text in stated.items()}
    lengths = [length * (factor if letter in "XY" else 1) for letter in letters if (length := found.get(letter)) is not None]
    return lengths_to_voxel_size(lengths, letters, "m")
