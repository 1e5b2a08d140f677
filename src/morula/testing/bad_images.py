"""Image files that are damaged, hostile or impossible, for tests that each ends in one error of Morula.

The same seed gives the same files.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
import PIL.Image
import tifffile

from morula.io.write import write
from morula.testing.bad_outlines import FAMILIES
from morula.testing.mutations import flipped_bits, mutated

Kind: TypeAlias = Literal["image", "labels", "folder", "job", "model", "checkpoint", "run", "table", "zarr"]


@dataclass(frozen=True)
class BadInput:
    """A bad input: its name, the file or folder, what it is given as, and whether it can only end in an error."""

    name: str
    path: Path
    kind: Kind = "image"
    must_fail: bool = False


PLANE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251
VOLUME = np.stack([PLANE + z for z in range(4)])
Made: TypeAlias = Iterator[tuple[str, Callable[[Path], object], bool]]
"""Name, what writes the file, and whether it can only end in an error."""


def bad_images(folder: Path, *, seed: int = 0) -> Iterator[BadInput]:
    """One bad image file after the other, each in a folder of its own. A file must not be changed before the next one is asked for.

    Args:
        folder: an empty folder.
        seed: seed of the random changes.
    """
    families = {".tif": _tiffs, ".h5": _hdf5s, ".zarr": _zarrs, ".nii.gz": _compressed_niftis, ".nii": _niftis, ".png": _pngs}
    families |= {".jpg": _jpegs, ".npy": _npys, **FAMILIES}
    for suffix, family in families.items():
        for number, (name, make, must_fail) in enumerate(family(random.Random(seed))):
            path = folder / f"{suffix.strip('.').replace('.', '_')}_{number}" / f"a{suffix}"
            path.parent.mkdir(parents=True)
            make(path)
            yield BadInput(f"{suffix} {name}", path, "labels" if name.startswith("labels") else "image", must_fail)


def damaged(content: bytes, choice: random.Random, *, flips: int, head: int | None = None) -> Made:
    """A file cut short, and with flipped bits in its first `head` bytes."""
    for share in (0, 0.1, 0.5, 0.9):
        yield f"cut to {share:.0%}", _writer(content[: int(len(content) * share)]), share < 0.9
    for number in range(flips):
        yield f"flipped {number}", _writer(flipped_bits(content, choice, count=1 + number % 4, head=head)), False


def _writer(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _content(suffix: str, write_to: Callable[[Path], object]) -> bytes:
    """The bytes that a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        write_to(path)
        return path.read_bytes()


def _tiffs(choice: random.Random) -> Made:
    bases: dict[str, dict[str, Any]] = {"strips": {"compression": "zlib", "rowsperstrip": 16}, "tiles": {"tile": (16, 16)}}
    for name, options in bases.items():
        for tag in (256, 257, 258, 259, 262, 277, 278, 279, 317, 322, 323, 325, 339):
            for value in (0, 65535, 2**32 - 1):
                yield f"{name}, tag {tag} = {value}", _with_tag(options, tag, value), False
        yield from damaged(_content(".tif", partial(tifffile.imwrite, data=PLANE, **options)), choice, flips=10)
    yield from damaged(_content(".tif", partial(tifffile.imwrite, data=VOLUME, imagej=True)), choice, flips=6, head=400)
    xml = _ome_xml()
    for name, change in OME_CHANGES.items():
        changed = change(xml)
        yield f"OME {name}", partial(_with_description, xml=changed), False
    content = _content(".tif", partial(tifffile.imwrite, data=VOLUME, imagej=True, metadata={"axes": "ZYX"}))
    for before, after in (
        (b"images=4", b"images=9"),
        (b"slices=4", b"slices=0"),
        (b"slices=4", b"slices=\xff"),
        (b"ImageJ=", b"ImageJ\xff"),
    ):
        yield f"ImageJ {after!r}", _writer(content.replace(before, after)), False
    yield "empty", _writer(b""), True
    yield "text", _writer(b"<html>not found</html>"), True
    yield "complex values", lambda path: tifffile.imwrite(path, PLANE.astype(np.complex64)), True
    yield "page list that loops", _looping_pages, False
    yield "labels of fractions", lambda path: tifffile.imwrite(path, PLANE / np.float32(3)), True
    yield "labels with negative ids", lambda path: tifffile.imwrite(path, -PLANE.astype(np.int32)), True
    yield "labels in three colours", lambda path: tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb"), True
    yield "no number", lambda path: tifffile.imwrite(path, np.full((8, 8), np.nan, np.float32)), True


def _with_tag(options: dict[str, Any], tag: int, value: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        tifffile.imwrite(path, PLANE, **options)
        with tifffile.TiffFile(path, mode="r+") as tif:
            found = tif.pages.first.tags.get(tag)
            if found is not None:
                largest = {3: 2**16 - 1, 16: 2**64 - 1}.get(int(found.dtype), 2**32 - 1)
                found.overwrite([min(value, largest)] * found.count if found.count > 1 else min(value, largest))

    return make


def _ome_xml() -> str:
    content = _content(".ome.tif", lambda path: tifffile.imwrite(path, VOLUME, ome=True, metadata={"axes": "ZYX"}))
    start = content.index(b"<?xml")
    return content[start : content.index(b"</OME>") + 6].decode()


def _replaced(before: str, after: str) -> Callable[[str], str]:
    def change(xml: str) -> str:
        assert before in xml, before
        return xml.replace(before, after)

    return change


_ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(10))
_ELSEWHERE = '<TiffData IFD="0"><UUID FileName="../../etc/passwd">urn:uuid:1</UUID></TiffData>'
OME_CHANGES: dict[str, Callable[[str], str]] = {
    "SizeX of -1": _replaced('SizeX="64"', 'SizeX="-1"'),
    "SizeX of 999999999": _replaced('SizeX="64"', 'SizeX="999999999"'),
    "SizeZ of 10^9": _replaced('SizeZ="4"', 'SizeZ="1000000000"'),
    "SizeZ of 6": _replaced('SizeZ="4"', 'SizeZ="6"'),
    "SizeZ of 0": _replaced('SizeZ="4"', 'SizeZ="0"'),
    "SizeZ as a word": _replaced('SizeZ="4"', 'SizeZ="four"'),
    "SizeC of 10^9": _replaced('SizeC="1"', 'SizeC="1000000000"'),
    "unknown order": _replaced('DimensionOrder="', 'DimensionOrder="QQ'),
    "unknown type": _replaced('Type="uint16"', 'Type="stone"'),
    "type of another width": _replaced('Type="uint16"', 'Type="double"'),
    "no Pixels": _replaced("Pixels", "Pixies"),
    "cut": lambda xml: xml[: len(xml) // 2],
    "two roots": lambda xml: xml + xml,
    "billion laughs": lambda xml: xml.replace("?>", f'?>{_ENTITIES}]>', 1).replace('Name="', 'Name="&k;', 1),
    "external entity": lambda xml: xml.replace("?>", '?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 1).replace(
        "<Pixels", "&x;<Pixels", 1
    ),
    "planes outside of the file": _replaced('IFD="0"', 'IFD="4000000000"'),
    "a file in another folder": lambda xml: xml.replace("<TiffData", f"{_ELSEWHERE}<TiffData", 1),
    "metadata elsewhere": lambda xml: f'{xml[: xml.index("<Image")]}<BinaryOnly MetadataFile="gone.ome.tif" UUID="urn:uuid:1"/></OME>',
    "a size that is no number": lambda xml: xml.replace("<Pixels ", '<Pixels PhysicalSizeX="wide" PhysicalSizeY="0,5" ', 1),
    "a size in stones": lambda xml: xml.replace("<Pixels ", '<Pixels PhysicalSizeX="1" PhysicalSizeXUnit="stone" PhysicalSizeY="-1" ', 1),
    "no text": lambda xml: "<OME>",
}  # fmt: skip
"""Changes of the OME-XML of `VOLUME`."""


def _with_description(path: Path, xml: str) -> None:
    tifffile.imwrite(path, VOLUME, description=xml.encode(), metadata=None, photometric="minisblack")


def _looping_pages(path: Path) -> None:
    tifffile.imwrite(path, PLANE)
    content = bytearray(path.read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[first : first + 2])[0]
    content[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack("<I", first)
    path.write_bytes(bytes(content))


def _hdf5s(choice: random.Random) -> Made:
    for options in ({"compression": "gzip"}, {"fletcher32": True}, {}):
        content = _content(".h5", partial(_hdf5, array=PLANE, **options))
        yield from damaged(content, choice, flips=10, head=3000)
    yield "fletcher32", _writer(content[:-200] + bytes(100) + content[-100:]), False
    arrays: dict[str, Any] = {
        "text": np.array([[b"a", b"b"]]),
        "records": np.zeros((4, 4), [("a", "u1")]),
        "complex": PLANE.astype(np.complex64),
        "one dimension": PLANE[0],
        "six dimensions": PLANE[None, None, None, None],
        "nothing": np.zeros((0, 8)),
        "no number": np.full((8, 8), np.nan),
        "labels of fractions": PLANE / 7,
        "labels beyond 32 bits": PLANE.astype(np.uint64) << 40,
        "labels with negative ids": -PLANE.astype(np.int32),
        "labels of infinity": np.full((8, 8), np.inf),
    }
    for name, array in arrays.items():
        yield name, partial(_hdf5, array=array), True
    for key in ("axistags", "DIMENSION_LABELS", "_ARRAY_DIMENSIONS", "axes", "element_size_um", "resolution"):
        for value in ("{oops", 5, [1, 2], np.array([b"\xff", b"y"]), -1.0, [0.0, 0.0], h5py.Empty("f")):
            yield (
                f"attribute {key} = {str(value)[:20]}",
                partial(_hdf5, array=PLANE, attributes={key: value}),
                False,
            )
    yield from _hdf5_links()


def _hdf5(path: Path, array: Any, attributes: dict[str, Any] | None = None, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        found = file.create_dataset("raw", data=array, chunks=True if options else None, **options)
        for key, value in (attributes or {}).items():
            found.attrs[key] = value


def _hdf5_links() -> Made:
    def linked(path: Path, target: Any) -> None:
        with h5py.File(path, "w") as file:
            file["raw"] = target

    def external(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", (8, 8), np.uint8, external=[("/etc/passwd", 0, 64)])

    def virtual(path: Path) -> None:
        layout = h5py.VirtualLayout((8, 8), np.uint8)
        layout[:] = h5py.VirtualSource("gone.h5", "raw", (8, 8))
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("raw", layout)

    def unwritten(path: Path, shape: tuple[int, ...]) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", shape, np.uint8, chunks=(64, 64))

    yield "link to itself", lambda path: linked(path, h5py.SoftLink("/raw")), True
    yield "link to another file", lambda path: linked(path, h5py.ExternalLink("/etc/passwd", "/")), True
    yield "pixels in another file", external, True
    yield "pixels in a file that is gone", virtual, True
    yield "no chunk is stored", lambda path: unwritten(path, (128, 128)), True
    yield "10^16 voxels that are not stored", lambda path: unwritten(path, (10**8, 10**8)), True


def _zarrs(choice: random.Random) -> Made:
    for place, count in (("zarr.json", 30), ("0/zarr.json", 40), ("labels/zarr.json", 6), ("labels/labels/zarr.json", 8)):
        base = json.loads((_zarr_files()[place]).decode())
        for number, document in enumerate(mutated(base, seed=choice.randrange(2**31), count=count)):
            name = f"labels {place} {number}" if place.startswith("labels") else f"{place} {number}"
            text = json.dumps(document).encode("utf-8", "surrogatepass")
            yield name, partial(_zarr, changes={place: text}), False
    chunk = _zarr_files()["0/c/0/0"]
    for name, content in {"cut": chunk[:-5], "empty": b"", "text": b"a" * 99, "flipped": flipped_bits(chunk, choice, count=1)}.items():
        yield f"chunk {name}", partial(_zarr, changes={"0/c/0/0": content}), True
    yield "chunk lost", partial(_zarr, changes={"0/c/0/0": None}), True
    for name, text in {"no JSON": b"{", "deep": b"[" * 5000, "text": b'"a"', "nothing": b"", "bytes": b"\xff\xfe"}.items():
        yield f"metadata {name}", partial(_zarr, changes={"zarr.json": text, "0/zarr.json": text}), True
    yield "level behind a link", lambda path: _linked_zarr(path, "0"), True
    yield "labels behind a link", lambda path: _linked_zarr(path, "labels/labels"), False
    yield "link to itself", _looping_zarr, False
    for number, document in enumerate(mutated(ZARR_2, seed=choice.randrange(2**31), count=20)):
        files = {".zarray": json.dumps(document).encode("utf-8", "surrogatepass"), "0.0": bytes(64)}
        yield f"version 2 {number}", partial(_files, contents=files), False


ZARR_2: dict[str, Any] = {"zarr_format": 2, "shape": [8, 8], "chunks": [8, 8], "dtype": "|u1", "compressor": None, "fill_value": 0}
ZARR_2 |= {"order": "C", "filters": None}
"""Metadata of an array of Zarr 2."""
_ZARR_FILES: dict[str, bytes] = {}


def _zarr_files() -> dict[str, bytes]:
    """The files of an OME-Zarr with a label image, by their places; written once."""
    if not _ZARR_FILES:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder, "a.ome.zarr"), PLANE, axes="YX", voxel_size=[0.5, 0.5])
            write(path, (PLANE > 9).astype(np.uint16), axes="YX", labels=True)
            _ZARR_FILES.update({file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    return _ZARR_FILES


def _zarr(path: Path, changes: dict[str, bytes | None]) -> None:
    """The OME-Zarr with some files replaced, or left out where the content is `None`."""
    _files(path, {place: content for place, content in (_zarr_files() | changes).items() if content is not None})


def _files(path: Path, contents: dict[str, bytes]) -> None:
    for place, content in contents.items():
        (path / place).parent.mkdir(parents=True, exist_ok=True)
        (path / place).write_bytes(content)


def _looping_zarr(path: Path) -> None:
    _zarr(path, {})
    (path / "loop").symlink_to(path)


def _linked_zarr(path: Path, place: str) -> None:
    _zarr(path, {})
    elsewhere = path.parent / "elsewhere"
    os.rename(path / place, elsewhere)
    (path / place).symlink_to(elsewhere)


def _niftis(choice: random.Random) -> Made:
    content = _content(".nii", lambda path: write(path, VOLUME, axes="ZYX"))
    yield from damaged(content, choice, flips=25, head=352)
    for name, place, value in (
        *(("dim[0] of 0", 40, b"\0\0"), ("dim[0] of 7", 40, b"\7\0"), ("dim[0] of -1", 40, b"\xff\xff"), ("x of -5", 42, b"\xfb\xff")),
        *(("x of 30000", 42, b"\x30\x75"), ("x of 0", 42, b"\0\0"), ("type of 0", 70, b"\0\0"), ("type of complex", 70, b"\x20\0")),
        *(("type of colour", 70, b"\x80\0"), ("type of 9999", 70, b"\x0f\x27"), ("offset of -1", 108, struct.pack("<f", -1))),
        *(("offset beyond the file", 108, struct.pack("<f", 1e9)), ("offset of nan", 108, struct.pack("<f", np.nan))),
        *(("scale of nan", 112, struct.pack("<f", np.nan)), ("zoom of nan", 80, struct.pack("<f", np.nan))),
        *(("matrix of nan", 280, struct.pack("<f", np.nan)), ("header of 0 bytes", 0, b"\0\0\0\0"), ("magic", 344, b"XXXX")),
    ):
        changed = content[:place] + value + content[place + len(value) :]
        yield name, _writer(changed), False


def _compressed_niftis(choice: random.Random) -> Made:
    content = _content(".nii.gz", lambda path: write(path, VOLUME, axes="ZYX"))
    yield from damaged(content, choice, flips=25)
    yield "a bomb", _writer(_gzipped(_content(".nii", lambda path: write(path, VOLUME, axes="ZYX")), 2**28)), True
    yield "no gzip", _writer(_content(".nii", lambda path: write(path, VOLUME, axes="ZYX"))), False


def _gzipped(content: bytes, zeros: int) -> bytes:
    return gzip.compress(content + bytes(zeros), 9)


def png(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these parts, with their checksums.

    Examples:
        >>> len(png((b"IEND", b"")))
        20
    """
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def _pngs(choice: random.Random) -> Made:
    picture = _content(".png", lambda path: PIL.Image.fromarray(PLANE.astype(np.uint8)).save(path))
    yield from damaged(picture, choice, flips=20)
    for width, height, bits, colour in ((2**31 - 1, 2**31 - 1, 8, 0), (0, 0, 8, 0), (64, 64, 7, 0), (64, 64, 8, 9), (60000, 60000, 8, 0)):
        head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
        pixels = zlib.compress(bytes(10**6))
        yield f"{width} x {height}, {bits} bits, colour {colour}", _writer(png((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))), True
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    bomb = zlib.compress(zlib.compress(bytes(2**26)))
    pixels = zlib.compress(bytes(72))
    yield "a bomb of text", _writer(png((b"IHDR", head), (b"zTXt", b"a\0\0" + bomb), (b"IDAT", pixels), (b"IEND", b""))), False
    yield "no pixels", _writer(png((b"IHDR", head), (b"IEND", b""))), True
    yield "two headers", _writer(png((b"IHDR", head), (b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))), False
    yield "palette without colours", _writer(png((b"IHDR", head[:9] + b"\3" + head[10:]), (b"IDAT", pixels), (b"IEND", b""))), False


def _jpegs(choice: random.Random) -> Made:
    picture = _content(".jpg", lambda path: PIL.Image.fromarray(PLANE.astype(np.uint8)).save(path))
    yield from damaged(picture, choice, flips=10, head=300)
    yield "labels", _writer(picture), True
    start = picture.index(b"\xff\xc0")
    yield "65500 x 65500", _writer(picture[: start + 5] + b"\xff\xdc\xff\xdc" + picture[start + 9 :]), True


def _npys(choice: random.Random) -> Made:
    content = _content(".npy", lambda path: np.save(path, PLANE))
    yield from damaged(content, choice, flips=15, head=128)
    for shape in (
        "(-1, 64)",
        "(99999999, 999)",
        "(2**40, 2**40)",
        "'a'",
        "(64.5, 2)",
        "()",
        "(64,)",
        "None",
        "(1,) * 7",
        f"({'9' * 50}, 2)",
    ):
        yield f"shape {shape[:20]}", _writer(_npy(shape)), True
    yield "code", lambda path: np.save(path, np.array([[print]], object), allow_pickle=True), True


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8192)
