"""Opening TIFF files with tifffile: what it only logs, and metadata of ImageJ that contradict the file."""

from __future__ import annotations

import logging
import math
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile

from morula.core.errors import FileReadError
from morula.io.metadata import ignore_field

FAILURES = (
    *(tifffile.TiffFileError, ElementTree.ParseError, struct.error, OSError, EOFError),
    *(ValueError, IndexError, KeyError, TypeError, ArithmeticError),
)
"""What tifffile raises for damaged files."""


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
    """The open file. Metadata of ImageJ that contradict the file are left out, with a warning unless the user was told before.

    Raises:
        FileReadError: ``tiff.missing_planes``, when they state more planes than the file has.
    """
    tif = tifffile.TiffFile(path)
    try:
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


def _is_consistent(tif: tifffile.TiffFile, said: list[str]) -> bool:
    """Whether tifffile finds the images of a file that ImageJ wrote; what it says about them is removed from `said`."""
    before = len(said)
    try:
        # planes beyond those that the metadata count would be left out without a word
        planes = (math.prod(series.shape) // math.prod(series.keyframe.shape) for series in tif.series)
        found = len(tif.series) > 0 and sum(planes) >= len(tif.pages)
    except FAILURES:
        found = False
    complaints = [each for each in said[before:] if "ImageJ" in each]
    said[before:] = [each for each in said[before:] if each not in complaints]
    return found and not complaints
