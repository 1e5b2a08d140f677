"""The process that reads a CZI file: requests are lines of JSON, answers are lines of JSON, each with the bytes of an array after it.

libCZI reads beyond its buffers where pixels are damaged, which may end the process, so that this is not the process of the user. It runs
without Morula, because it starts for each image.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader

_KNOWN = "TCZSMBXY"


class _Blocks:
    """What the directory of a file says: planes (scene, t, c, z) with pixels, levels of the pyramid, and further dimensions."""

    def __init__(self, reader: CziReader) -> None:
        self.seen: set[tuple[int | None, int, int, int]] = set()
        self.levels = 1
        self._others: dict[str, set[int]] = {}
        reader.enumerate_subblocks(self._add)

    @property
    def others(self) -> list[str]:
        """Letters of dimensions with several places that are not read."""
        return [letter for letter, places in self._others.items() if len(places) > 1]

    def _add(self, number: int, block: Any) -> bool:
        at = block.coordinate.to_dict()
        zoom = block.physicalSize.w / max(block.logicalRect.w, 1)
        if zoom < 0.75:
            self.levels = max(self.levels, 1 + round(-math.log2(max(zoom, 1e-6))))
            return True
        self.seen.add((at.get("S"), at.get("T", 0), at.get("C", 0), at.get("Z", 0)))
        for letter, place in at.items():
            if letter not in _KNOWN:
                self._others.setdefault(letter, set()).add(place)
        return True


def facts(reader: CziReader) -> dict[str, Any]:
    """What `morula.io.formats.czi` needs to know of a file, as JSON types."""
    blocks = _Blocks(reader)
    return {
        "box": {letter: list(ends) for letter, ends in reader.total_bounding_box_no_pyramid.items()},
        "scenes": {number: [place.x, place.y, place.w, place.h] for number, place in reader.scenes_bounding_rectangle_no_pyramid.items()},
        "kinds": sorted(set(reader.pixel_types.values())),
        **_metadata(reader),
        "planes": sorted(blocks.seen, key=str),
        "levels": blocks.levels,
        "others": blocks.others,
    }


def _metadata(reader: CziReader) -> dict[str, str]:
    """The XML of a file, or why the library cannot read it."""
    try:
        return {"xml": reader.raw_metadata}
    except RuntimeError as error:
        return {"xml": "", "xml_error": str(error)}


def answer(reader: CziReader, request: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """The answer to a request, and the pixels it asks for."""
    if "roi" not in request:
        return facts(reader), np.zeros(0, np.uint8)
    values = reader.read(roi=tuple(request["roi"]), plane=request["plane"], scene=request["scene"], zoom=request["zoom"])
    return {}, np.ascontiguousarray(values)


def serve(path: str, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    from pylibCZIrw.czi import CziReader

    reader = None
    for line in requests:
        told: dict[str, Any] = {}
        values = np.zeros(0, np.uint8)
        try:
            reader = CziReader(path) if reader is None else reader
            told, values = answer(reader, json.loads(line))
        except Exception as error:  # noqa: BLE001 - the library raises errors of any class
            told = {"error": f"{type(error).__name__}: {error}"}
        head = {**told, "shape": values.shape, "dtype": values.dtype.str}
        answers.write(json.dumps(head).encode() + b"\n" + values.tobytes())
        answers.flush()


if __name__ == "__main__":
    # what libraries print goes to the error output
    with os.fdopen(os.dup(1), "wb") as own:
        os.dup2(2, 1)
        serve(sys.argv[1], sys.stdin.buffer, own)
