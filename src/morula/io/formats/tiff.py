"""TIFF: ImageJ hyperstacks, OME-TIFF, and plain files; tiled, pyramidal and above 4 GB (https://docs.openmicroscopy.org/ome-model/)."""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile

from morula.core.array import ArraySource
from morula.core.axes import LETTERS, Axes
from morula.core.errors import DataError, FileReadError, MorulaError, OptionError
from morula.core.file_errors import unreadable_file
from morula.core.location import suffix_of
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.io.blocks import BLOCK_BYTES
from morula.io.formats.base import (
    READ_AS_ZEROS,
    FileContent,
    Format,
    Missing,
    Request,
    Target,
    check_declared_size,
    check_is_image,
    lengths_to_voxel_size,
    pick_level,
    positive_length,
    reject_missing,
    without_warnings,
)
from morula.io.formats.ome_xml import compare, lengths_of
from morula.io.formats.tiff_file import FAILURES, kept_off_the_screen, open_tiff
from morula.io.lazy import LazyArray, Opened, View
from morula.io.metadata import ignore_field

_NO_UUID = uuid.UUID(int=0)
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_OME_TYPES = (*_IMAGEJ_TYPES, "int8", "int16", "int32", "uint32", "float64")
_COARSEST_PIXEL = 20.0  # um; a resolution tag below 1270 dots per inch describes a printer, not a microscope
_BIG = 2**32 - 2**25  # 32 MB for the tags of many pages, below the 4 GB that offsets of 32 bits reach
_LARGEST_RATIO = 50_000  # no codec of TIFF packs images better than this, images of one value included
_FATAL = ("invalid page offset", "corrupted", "invalid value offset", "invalid offset")


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """The open file; what tifffile only logs about a damaged one (it continues with fewer pages) is an error here."""
    try:
        with kept_off_the_screen() as said, without_warnings(), open_tiff(path, said) as tif:
            yield tif
        fatal = [line for line in said if any(word in line for word in _FATAL)]
        if fatal:
            raise unreadable_file(path, fatal[-1].rpartition("> ")[2])
    except MorulaError:
        raise
    except FAILURES as error:
        raise unreadable_file(path, error) from error


class TiffArray(LazyArray):
    """One level of one series: mapped into memory where it is uncompressed and in one piece, else decoded by strips or tiles."""

    path: Path

    def __init__(self, path: Path, series: int, level: int, found: tifffile.TiffPageSeries, missing: Missing = "error") -> None:
        super().__init__(found.shape, found.dtype, path=path)
        self.series, self.level, self.missing = series, level, missing
        # the other files of a multi-file OME-TIFF
        files = {page.parent.filehandle.path for page in found.pages if page is not None} if found.is_multifile else set()
        self.companions = sorted(files - {str(path)})

    def _open(self) -> Opened:
        with kept_off_the_screen() as said:
            tif = open_tiff(self.path, said, told=True)
            try:
                return self._handle_of(tif)
            except BaseException:  # of tifffile, or Ctrl-C: the file is closed, and the error goes on
                tif.close()
                raise

    def _handle_of(self, tif: tifffile.TiffFile) -> Opened:
        len(tif.pages)  # finds a list of pages that loops, which the next line would follow for ever
        series = tif.series[self.series]
        found = series.levels[self.level]
        if self.missing == "error":
            _check_segments(self.path, found, self.missing)
        # uncompressed and in one piece: mapping reads only the pages of memory that are touched
        if found.dataoffset is not None:
            kind = np.dtype(tif.byteorder + found.dtype.char)
            tif.close()
            return np.memmap(self.path, dtype=kind, mode="r", offset=found.dataoffset, shape=found.shape), lambda: None
        import zarr  # slow, and most files are mapped

        # level 0 of a pyramid is the series itself; without a level, the store of the series has an array for each level
        return zarr.open_array(series.aszarr(level=self.level), mode="r"), tif.close


class Tiff(Format):
    """TIFF of every kind that tifffile reads; written as ImageJ hyperstack, as OME-TIFF by its suffix or where ImageJ lacks the type."""

    name: ClassVar[str] = "TIFF"
    suffixes: ClassVar[tuple[str, ...]] = (
        ".tif",
        ".tiff",
        ".ome.tif",
        ".ome.tiff",
        ".btf",
        ".ome.btf",
        ".tf8",
        ".lsm",
        ".svs",
        ".ndpi",
        ".scn",
    )
    magics: ClassVar[tuple[bytes, ...]] = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

    def read(self, path: Path, request: Request) -> FileContent:
        """Open one series (`dataset` is its number, counted from 0) at one pyramid level."""
        with _opened(path) as tif:
            number = _choose_series(path, tif, request)
            levels = tif.series[number].levels
            level = pick_level(path, request.level, len(levels))
            series = levels[level]
            check_is_image(path, series.shape, series.dtype)
            _check_planes(path, series, request.missing)
            if not series.is_multifile:
                check_declared_size(path, series.shape, series.dtype, _LARGEST_RATIO)
            _check_complete(path, series)
            if request.missing == "zeros":  # else they are an error as soon as values are read
                _check_segments(path, series, request.missing)
            axes = _axes(series.axes, series.shape)
            turned = tif.pages.first.tags.get("Orientation")
            if turned is not None and turned.value != 1:
                ignore_field("Orientation", turned.value, "is not 1, but pixels are read as they are stored")
            if tif.is_ome and tif.ome_metadata:
                compare(tif, number, axes)
            factors = [a / b for a, b in zip(levels[0].shape, series.shape, strict=True)]
            voxel_size = _voxel_size(tif, number, axes, dict(zip(axes, factors, strict=True)))
            return FileContent(TiffArray(path, number, level, series, request.missing), axes, voxel_size)

    def write(self, path: Path, data: ArraySource, target: Target) -> None:
        """Write with zlib compression, page by page. ImageJ holds uint8, uint16 and float32; other types become OME-TIFF or plain."""
        data, axes = _arranged(data, target.axes)
        big = math.prod(data.shape) * np.dtype(data.dtype).itemsize > _BIG
        size = target.voxel_size
        kind = _kind(data, axes, big=big, ome=suffix_of(path).startswith(".ome"))
        # the description of an ImageJ file holds ASCII only; its inches are mostly those of a printer, which readers ignore
        if size is not None and kind == "imagej" and (size.unit == "inch" or not size.unit.isascii()):
            size = size.to("um")
        sizes = {"imagej": _imagej_sizes, "ome": _ome_sizes, "plain": _plain_sizes}[kind](size)
        tifffile.imwrite(
            path,
            _pages(data, axes),
            shape=data.shape,
            dtype=np.dtype(data.dtype),
            imagej=kind == "imagej",
            ome=kind == "ome",
            bigtiff=big,  # offsets of 32 bits end at 4 GB
            compression="zlib",
            photometric="rgb" if axes.endswith("S") else "minisblack",
            metadata={"axes": axes, **sizes, **({"UUID": str(_NO_UUID)} if kind == "ome" else {})},
            resolution=None if size is None else (1 / size.x, 1 / size.y),
        )
        if kind == "ome":
            _identify_by_content(path)


def _kind(data: ArraySource, axes: str, *, big: bool, ome: bool) -> str:
    """The metadata that hold this array: ImageJ's where they can, unless OME is asked for; OME's; or tifffile's own (plain).

    Readers of ImageJ's and OME's metadata drop a Z or C of length 1, and tifffile takes a width of 1 for a sample.
    """
    dtype, lengths = np.dtype(data.dtype).name, dict(zip(axes, data.shape, strict=True))
    if ome:
        if dtype not in (*_OME_TYPES, "bool"):
            rule = f"OME-TIFF cannot store {dtype}; it stores {', '.join(_OME_TYPES)}"
            raise OptionError("format.type", rule, remedy="Write .ome.zarr or .h5, or convert the values.")
        if lengths["X"] == 1:
            rule = f"OME-TIFF cannot store an image of width 1, here of shape {data.shape}"
            raise OptionError("format.width", rule, remedy="Write .tif, .ome.zarr or .h5.")
        return "ome"
    if 1 in (lengths.get("Z"), lengths.get("C"), lengths["X"]):
        return "plain"
    if dtype in _IMAGEJ_TYPES and not big and ("S" not in axes or dtype == "uint8"):
        return "imagej"
    return "ome" if dtype in _OME_TYPES else "plain"


def _choose_series(path: Path, tif: tifffile.TiffFile, request: Request) -> int:
    if not len(tif.pages) or not tif.series:
        raise unreadable_file(path, "it has no pages")
    sizes = [math.prod(series.shape) for series in tif.series]
    listing = ", ".join(f"{i} {series.shape}" for i, series in enumerate(tif.series))
    if request.dataset is not None:
        if not request.dataset.isdecimal() or int(request.dataset) >= len(sizes):
            raise OptionError(
                "tiff.no_series",
                f"is not one of the images {listing}",
                key="dataset",
                value=request.dataset,
                file=path,
                remedy="Give a number.",
            )
        return int(request.dataset)
    largest = [i for i, size in enumerate(sizes) if size == max(sizes)]
    if len(largest) > 1:  # smaller ones are thumbnails and labels of slide scanners
        raise DataError(
            "tiff.several_series",
            f"contains several images: {listing}",
            file=path,
            remedy=Remedy(f"name one as {path.name}:/0", "select it (dataset='0'; --scene 0; images.scene: 0)"),
        )
    return largest[0]


def _check_planes(path: Path, series: tifffile.TiffPageSeries, mode: Missing) -> None:
    """Raise for planes that the metadata declare but the file (or a companion file) does not contain; tifffile reads them as zeros."""
    missing = [number for number, page in enumerate(series.pages) if page is None]
    if missing:
        listing = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        error = FileReadError(
            "tiff.missing_planes",
            f"{len(missing)} of {len(series.pages)} planes are missing: {listing} (counted from 0)",
            file=path,
            remedy=Remedy("copy all files of the data set again", "repeat an acquisition that was stopped", READ_AS_ZEROS),
        )
        reject_missing(error, mode)


def _check_segments(path: Path, series: tifffile.TiffPageSeries, mode: Missing) -> None:
    """Raise for strips or tiles without data, which tifffile reads as zeros."""
    for number, page in enumerate(series.pages):
        if page is None:
            continue
        counts = page.databytecounts
        declared = math.prod(page.chunked) if page.chunked else len(counts)
        missing = [index for index, count in enumerate(counts) if count == 0] + list(range(len(counts), declared))
        if missing and page.size:
            listing = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
            error = FileReadError(
                "tiff.missing_segments",
                f"strips or tiles of plane {number} are missing: {listing} (of {declared}, counted from 0)",
                file=path,
                remedy=Remedy("copy the file again from its source", READ_AS_ZEROS),
            )
            reject_missing(error, mode)


def _check_complete(path: Path, series: tifffile.TiffPageSeries) -> None:
    if series.is_multifile:
        return
    size = path.stat().st_size
    ends = [
        o + n for page in (series.pages[0], series.pages[-1]) if page is not None for o, n in zip(page.dataoffsets, page.databytecounts)
    ]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + math.prod(series.shape) * series.dtype.itemsize)
    if ends and max(ends) > size:
        raise unreadable_file(path, f"it ends after {size} bytes but its pixels reach to {max(ends)}")


def _axes(letters: str, shape: tuple[int, ...]) -> Axes:
    """Axes from tifffile's letters; one of unknown meaning (a stack of pages) is Z."""
    letters = letters.replace("S", "C") if "C" not in letters else letters
    unknown = [letter for letter in letters if letter not in LETTERS]
    if len(unknown) == 1 and "Z" not in letters:
        letters = letters.replace(unknown[0], "Z")
    if set(letters) <= set(LETTERS) and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters):
        return Axes(letters)
    return Axes.guess(shape)


def _voxel_size(tif: tifffile.TiffFile, number: int, axes: Axes, factors: dict[str, float]) -> VoxelSize | None:
    letters = axes.spatial
    if tif.is_ome and tif.ome_metadata:
        lengths, unit = lengths_of(tif.ome_metadata, number, letters)
    elif tif.is_imagej:
        lengths, unit = _imagej_lengths(tif)
    else:
        lengths, unit = _plain_lengths(tif)
    if any(letter not in lengths for letter in letters):
        return None
    return lengths_to_voxel_size([lengths[letter] * factors[letter] for letter in letters], letters, unit)


def _resolution(tif: tifffile.TiffFile) -> dict[str, float]:
    """Length of a pixel in the file's resolution unit."""
    tags, lengths = tif.pages.first.tags, {}
    for letter in "YX":
        tag = tags.get(f"{letter}Resolution")
        value = None if tag is None else tag.value
        if isinstance(value, tuple) and len(value) == 2 and value[0] and value[1]:
            lengths[letter] = value[1] / value[0]
        elif value is not None and not isinstance(value, tuple):
            ignore_field(f"{letter}Resolution", value, "must be a fraction")
    return lengths


def _imagej_lengths(tif: tifffile.TiffFile) -> tuple[dict[str, float], str]:
    metadata = tif.imagej_metadata or {}
    # what is not ASCII is written as in Java's source code
    unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), str(metadata.get("unit", "pixel")))
    lengths = _resolution(tif)
    if len(lengths) < 2 and VoxelSize.known_unit(unit) == "um":
        ignore_field("unit", unit, "is of no use without XResolution and YResolution")
    if lengths and VoxelSize.known_unit(unit) is None:
        ignore_field("unit", unit, "must be a unit of length")
        return {}, "um"
    if unit in ("inch", "inches") and not _meaningful(lengths, 25400.0):
        return {}, "um"
    # ImageJ omits a spacing of 1 unit, and writes a negative one for stacks taken upwards
    spacing = metadata.get("spacing", 1.0 if lengths and unit != "pixel" else None)
    step = None if spacing is None else positive_length("spacing", str(spacing).strip().removeprefix("-"))
    lengths = {**lengths, "Z": step} if step is not None else lengths
    others = {letter: str(metadata[f"{letter.lower()}unit"]) for letter in "YZ" if f"{letter.lower()}unit" in metadata}
    if not others or VoxelSize.known_unit(unit) == "pixel":
        return lengths, unit
    # ImageJ writes `yunit` and `zunit` where they differ from that of x
    found: dict[str, float] = {}
    for letter, length in lengths.items():
        own = others.get(letter, unit)
        one = lengths_to_voxel_size([length] * 2, "yx", own)
        if one is None or one.unit != "um":
            ignore_field(f"{letter.lower()}unit", own, "must be a unit of length")
        else:
            found[letter] = one.x
    return found, "um"


def _plain_lengths(tif: tifffile.TiffFile) -> tuple[dict[str, float], str]:
    ours = (tif.shaped_metadata or ({},))[0].get("voxel_size")
    if isinstance(ours, dict):
        found = {k.upper(): positive_length(f"voxel_size.{k}", ours[k]) for k in "zyx" if k in ours}
        return {letter: length for letter, length in found.items() if length is not None}, str(ours.get("unit", "um"))
    tag = tif.pages.first.tags.get("ResolutionUnit")
    unit = {2: 25400.0, 3: 10000.0}.get(tag.value if tag is not None and isinstance(tag.value, int) else 1)
    lengths = _resolution(tif)
    if unit is None or not _meaningful(lengths, unit):
        return {}, "um"
    return {letter: length * unit for letter, length in lengths.items()}, "um"


def _meaningful(lengths: dict[str, float], unit: float) -> bool:
    return bool(lengths) and all(length * unit <= _COARSEST_PIXEL for length in lengths.values())


def _arranged(data: ArraySource, axes: Axes) -> tuple[ArraySource, str]:
    """Array and tifffile's letters in the order TZCYX, or with the samples S last for 8-bit RGB."""
    samples = axes.endswith("YXC") and data.shape[-1] in (3, 4) and data.dtype in (np.uint8, np.uint16)
    order = [letter for letter in ("TZYXC" if samples else "TZCYX") if letter in axes]
    places = [axes.index(letter) for letter in order]
    if places != list(range(len(places))):
        data = data.transpose(places) if isinstance(data, np.ndarray) else View(data, places)
    return data, "".join(order).replace("C", "S") if samples else "".join(order)


def _pages(data: ArraySource, axes: str) -> np.ndarray | Iterator[np.ndarray]:
    if isinstance(data, np.ndarray) or math.prod(data.shape) * np.dtype(data.dtype).itemsize <= BLOCK_BYTES:
        return np.asarray(data)
    leading = data.shape[: -3 if axes.endswith("S") else -2]
    return (np.asarray(data[index]) for index in np.ndindex(*leading))


def _identify_by_content(path: Path) -> None:
    """Give an OME-TIFF the UUID of its content in place of a random one: the same image is the same file, byte for byte."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        with tifffile.TiffFile(path) as tif:
            tag = tif.pages.first.tags["ImageDescription"]
            place, length = tag.valueoffset, tag.count
        file.seek(place)
        text = file.read(length)
        file.seek(place)
        file.write(text.replace(str(_NO_UUID).encode(), str(uuid.UUID(bytes=digest[:16], version=5)).encode()))


def _imagej_sizes(size: VoxelSize | None) -> dict[str, object]:
    if size is None:
        return {}
    return {"unit": size.unit, **({} if size.z is None else {"spacing": size.z})}


def _ome_sizes(size: VoxelSize | None) -> dict[str, object]:
    if size is None:
        return {}
    unit = {"um": "µm", "inch": "in"}.get(size.unit, size.unit)
    lengths = {letter: getattr(size, letter.lower()) for letter in "XYZ"}
    sizes = {f"PhysicalSize{letter}": length for letter, length in lengths.items() if length is not None}
    return {**sizes, **{f"{name}Unit": unit for name in sizes}}


def _plain_sizes(size: VoxelSize | None) -> dict[str, object]:
    return {} if size is None else {"voxel_size": size.asdict()}
