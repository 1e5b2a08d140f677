"""Opening TIFF files with tifffile: what it only logs, and metadata of ImageJ that contradict the file."""

from __future__ import annotations

import logging
import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile

from morula.core.errors import FileReadError
from morula.io.formats.ome_xml import check_file_names
from morula.io.metadata import ignore_field

FAILURES = (
    *(tifffile.TiffFileError, ElementTree.ParseError, struct.error, OSError, EOFError),
    *(ValueError, IndexError, KeyError, TypeError, ArithmeticError),
)
"""What tifffile raises for damaged files."""


_MOST_PLANES = 2**22


class _Complaints(logging.Filter):
    """Keeps what tifffile logs, and keeps it off the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.said.append(record.getMessage())
        return False


@contextmanager
def kept_off_the_screen() -> Iterator[list[str]]:
    """What tifffile logs inside this context."""
    log, complaints = logging.getLogger("tifffile"), _Complaints()
    log.addFilter(complaints)
    try:
        yield complaints.said
    finally:
        log.removeFilter(complaints)


def open_tiff(path: Path, said: list[str], *, told: bool = False) -> tifffile.TiffFile:
    """The open file. Metadata of ImageJ or OME that contradict the file are left out, with a warning unless the user was told before.

    Raises:
        FileReadError: ``tiff.missing_planes``, when they state more planes than the file has.
    """
    tif = tifffile.TiffFile(path)
    try:
        if tif.is_ome:
            check_file_names(path, tif.ome_metadata or "")  # before tifffile opens them
            _check_declared_planes(path, tif)
        if tif.is_ome and (fault := _fault_of_ome(tif)):
            if not told:
                ignore_field("OME-XML", tif.pages.first.description[:80], f"cannot be used: {fault}")
            tif.close()
            return tifffile.TiffFile(path, is_ome=False)
        if not told:
            _tell_incomplete_ome(tif)
        if not tif.is_imagej or _is_consistent(tif, said):
            return tif
        stated, pages = (tif.imagej_metadata or {}).get("images"), len(tif.pages)
        if isinstance(stated, int) and stated > pages:
            rule = f"{stated - pages} of {stated} planes are missing: the file ends after {pages}"
            raise FileReadError("tiff.missing_planes", rule, file=path, remedy="Copy it again from its source.")
        if not told:
            ignore_field("ImageDescription", tif.pages.first.description[:80], f"contradicts the {pages} planes of the file")
    except BaseException:  # of tifffile, or Ctrl-C: the file is closed, and the error goes on
        tif.close()
        raise
    tif.close()
    return tifffile.TiffFile(path, is_imagej=False)


def _check_declared_planes(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise for OME metadata of more planes than any file has: tifffile makes a list of all of them."""
    for sizes in re.findall(r"<(?:\w+:)?Pixels\b[^>]*", tif.ome_metadata or ""):
        stated = {letter: int(text[:12]) for letter, text in re.findall(r"\bSize([XYZCT])\s*=\s*[\"'](\d+)", sizes)}
        page = tif.pages.first
        # tifffile takes the pages for parts of a plane where they are smaller
        parts = stated.get("X", 1) * stated.get("Y", 1) // max(1, page.imagewidth * page.imagelength)
        count = math.prod(stated.get(letter, 1) for letter in "ZCT") * max(1, parts)
        if count > _MOST_PLANES:
            raise FileReadError(
                "image.implausible_size",
                f"declares {count} planes; files of up to {_MOST_PLANES} planes are read",
                file=path,
                remedy="The OME metadata are damaged: copy it again from its source.",
            )


def _fault_of_ome(tif: tifffile.TiffFile) -> str:
    """Why tifffile finds no images by the OME metadata of a file, whose pages may be readable without them; empty where it does."""
    for order in re.findall(r"\bDimensionOrder\s*=\s*[\"']([^\"']*)", tif.ome_metadata or ""):
        if sorted(order) != sorted("XYZCT"):
            return f"DimensionOrder {order!r} must name X, Y, Z, C and T once"
    try:
        len(tif.pages)  # a list of pages that is damaged is no fault of the metadata
        first = tif.pages.first
        if first.shape:
            return "" if tif.series else "they describe no image"
    except KeyError as error:
        return f"{error.args[0]} is missing" if error.args else "an attribute is missing"
    except (ValueError, TypeError, AttributeError, ElementTree.ParseError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ""


def _tell_incomplete_ome(tif: tifffile.TiffFile) -> None:
    """Warn of OME metadata that were cut off, and of those that are in another file that is not there."""
    description = tif.pages.first.description if len(tif.pages) else ""
    if not tif.is_ome and "<OME " in description[:1000]:
        ignore_field("OME-XML", description[-80:], "is incomplete: it must end with </OME>")
    companion = re.search(r"<(?:\w+:)?BinaryOnly\b[^>]*\bMetadataFile\s*=\s*[\"']([^\"']+)", description)
    if companion and not (Path(tif.filehandle.path).parent / Path(companion[1]).name).is_file():
        ignore_field("BinaryOnly.MetadataFile", companion[1], "must name a file beside this one")


def _is_consistent(tif: tifffile.TiffFile, said: list[str]) -> bool:
    """Whether tifffile finds the images of a file that ImageJ wrote; what it says about them is removed from `said`."""
    before = len(said)
    try:
        # planes beyond those that the metadata count would be left out without a word
        planes = (math.prod(series.shape) // math.prod(series.keyframe.shape) for series in tif.series)
        found = len(tif.series) > 0 and sum(planes) >= len(tif.pages)
    except FAILURES:
        found = False
    complaints = [line for line in said[before:] if "ImageJ" in line]
    said[before:] = [line for line in said[before:] if line not in complaints]
    return found and not complaints
