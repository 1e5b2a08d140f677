"""Damaged and hostile label files of other programs, and files of microscopes. The same seed gives the same files."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from morula.io.write import write
from morula.testing.mutations import Json, flipped_bits, mutated

Made: TypeAlias = Iterator[tuple[str, Callable[[Path], object], bool]]
LABELS = np.kron(np.array([[0, 1, 2], [3, 0, 1]]), np.ones((6, 5), int)).astype(np.uint16)


def _damaged(suffix: str, choice: random.Random, flips: int) -> Made:
    """A file of outlines cut short, and with flipped bits."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        content = write(Path(folder, f"a{suffix}"), LABELS, labels=True).read_bytes()
    for share in (0, 0.3, 0.9):
        yield f"labels cut to {share:.0%}", _writer(content[: int(len(content) * share)]), True
    for number in range(flips):
        yield f"labels flipped {number}", _writer(flipped_bits(content, choice, count=1 + number % 4)), False


def _writer(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def rois(choice: random.Random) -> Made:
    """Archives of ROIs, and single ROIs."""
    yield from _damaged(".zip", choice, 12)
    yield "labels zip bomb", _zipped({"a.roi": bytes(2**31 - 2**20), "b.roi": bytes(2**21)}, huge=True), True
    yield "labels of text", _zipped({"a.roi": b"Iout" + b"x" * 100}), False
    yield "labels with names that leave the folder", _zipped({"../../a.roi": b"Iout" + bytes(200)}), False
    yield "labels without ROIs", _zipped({"a.txt": b"none"}), True


def _zipped(entries: dict[str, bytes], *, huge: bool = False) -> Callable[[Path], object]:
    """An archive; a huge one only declares the lengths of its entries."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content[:10] if huge else content)
        if huge:
            data = path.read_bytes()
            start = data.index(b"PK\x01\x02")
            path.write_bytes(data[: start + 24] + b"\xff\xff\xff\x7f" + data[start + 28 :])

    return make


GEOJSON: dict[str, Json] = {
    "type": "FeatureCollection",
    "morula": {"shape": [9, 9]},
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [4, 1], [4, 4], [1, 1]]], "plane": {"z": 0}},
            "properties": {"name": "1"},
        }
    ],
}
COCO: dict[str, Json] = {
    "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
    "annotations": [
        {"id": 1, "image_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]},
        {"id": 2, "image_id": 1, "segmentation": {"size": [9, 9], "counts": [40, 3, 38]}},
        {"id": 3, "image_id": 1, "segmentation": {"size": [9, 9], "counts": "X13V1"}},
    ],
}


def _documents(document: dict[str, Json], choice: random.Random, count: int) -> Made:
    for number, changed in enumerate(mutated(document, seed=choice.randrange(2**31), count=count)):
        yield f"labels changed {number}", _writer(json.dumps(changed).encode("utf-8", "surrogatepass")), False
    yield "labels deep", _writer(b"[" * 100_000), True
    yield "labels of bytes", _writer(bytes(range(256))), True


def geojson(choice: random.Random) -> Made:
    """GeoJSON."""
    yield from _damaged(".geojson", choice, 8)
    yield from _documents(GEOJSON, choice, 30)
    far = json.dumps(GEOJSON).replace("[4, 1]", "[4e300, 1]")
    yield "labels far away", _writer(far.encode()), True
    yield (
        "labels of 10^10 pixels",
        _writer(far.replace("4e300", "99999").replace('"shape": [9, 9]', '"shape": [99999, 99999]').encode()),
        True,
    )


def coco(choice: random.Random) -> Made:
    """COCO."""
    yield from _damaged(".json", choice, 8)
    yield from _documents(COCO, choice, 30)
    yield "labels of 10^12 pixels", _writer(json.dumps(COCO).replace('"height": 9', '"height": 1000000000000').encode()), True
    yield "labels with long runs", _writer(json.dumps(COCO).replace("[40, 3, 38]", "[40, 3000000000, 38]").encode()), True


class _Code:
    """Its pickle would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch HACKED",)


def pickles(choice: random.Random) -> Made:
    """Files of Cellpose."""
    stream = io.BytesIO()
    np.save(stream, {"masks": LABELS, "filename": "a.tif", "flows": [np.zeros(3)]})  # type: ignore[arg-type]
    whole = stream.getvalue()
    start = whole[: whole.index(b"\x80")]
    for share in (0.2, 0.5, 0.9):
        yield f"labels cut to {share:.0%}", _writer(whole[: int(len(whole) * share)]), True
    for number in range(15):
        yield f"labels flipped {number}", _writer(flipped_bits(whole, choice, count=1 + number % 4)), False
    contents: dict[str, bytes] = {
        "that run code": pickle.dumps({"masks": _Code()}),
        "that run code before the masks": pickle.dumps([_Code(), {"masks": LABELS}], 0),
        "that evaluate": b"cbuiltins\neval\n(S'1'\ntR.",
        "of 10 GB": b"cnumpy\nndarray\n((I10000000000\nttR.",
        "with a place of 2^31": b"\x80\x04r\xff\xff\xff\x7f.",
        "with a text of 2^31": b"\x80\x04X\xff\xff\xff\x7f.",
        "with an array of 2^60": b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.",
        "without masks": pickle.dumps({"a": 1}),
        "of deep lists": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    }
    for name, content in contents.items():
        yield f"labels {name}", _writer(start + content), True


def microscopes(magic: bytes) -> Callable[[random.Random], Made]:
    """What begins like the file of a microscope, and is none."""

    def made(choice: random.Random) -> Made:
        for size in (0, 10, 100, 5000):
            yield f"{size} bytes after the begin", _writer(magic + choice.randbytes(size)), True

    return made


FAMILIES: dict[str, Callable[[random.Random], Made]] = {
    ".zip": rois,
    ".geojson": geojson,
    ".json": coco,
    "_seg.npy": pickles,
    ".czi": microscopes(b"ZISRAWFILE"),
    ".nd2": microscopes(b"\xda\xce\xbe\x0a"),
    ".lif": microscopes(b"\x70\x00\x00\x00"),
}
"""What makes bad files, by the end of their names."""
