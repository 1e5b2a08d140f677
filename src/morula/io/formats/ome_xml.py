"""The OME-XML of OME-TIFF: voxel sizes, and whether what it says of the pixels is what the file holds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from morula.core.axes import Axes
from morula.core.errors import FileReadError
from morula.io.formats.base import is_partial, lengths_to_voxel_size, positive_length
from morula.io.metadata import ignore_field

_TYPES = {"float": "float32", "double": "float64", "complex": "complex64", "double-complex": "complex128"}


def lengths_of(xml: str, number: int, letters: str) -> tuple[dict[str, float], str]:
    """Edge lengths of the voxels of an image by the letters of its axes, and their unit. What cannot be used is told."""
    given = _attributes(xml, number, told=True)
    stated = {letter: given[f"PhysicalSize{letter}"] for letter in letters if f"PhysicalSize{letter}" in given}
    if is_partial("PhysicalSize", stated, letters):
        return {}, "um"
    numbers = {letter: positive_length(f"PhysicalSize{letter}", text) for letter, text in stated.items()}
    known = {letter: number for letter, number in numbers.items() if number is not None}
    lengths: dict[str, float] = {}
    for letter, length in known.items():
        unit = given.get(f"PhysicalSize{letter}Unit", "µm")
        one = lengths_to_voxel_size([length] * 2, "yx", unit) if unit.strip() else None
        if one is not None and one.unit == "um":
            lengths[letter] = one.x
        elif one is not None:
            return known, "pixel"
        else:
            ignore_field(f"PhysicalSize{letter}Unit", unit, "must be a unit of length")
    return lengths, "um"


def compare(tif: tifffile.TiffFile, number: int, axes: Axes) -> None:
    """Tell what the OME-XML says of an image that its pixels contradict; they are read as the tags of TIFF describe them."""
    given = _attributes(tif.ome_metadata or "", number)
    if not given:
        return
    series = tif.series[number]
    lengths = dict(zip(axes, series.shape, strict=True))
    for letter in "XYZCT":
        stated, length = given.get(f"Size{letter}", ""), lengths.get(letter, 1)
        if stated != str(length):
            ignore_field(f"Size{letter}", stated, f"is not {length}, as the pixels are stored")
    kind = given.get("Type", "")
    if kind != "bit" and _TYPES.get(kind, kind) != np.dtype(series.dtype).name:
        ignore_field("Type", kind, f"is not {series.dtype}, as the pixels are stored")
    pages = [page for stack in tif.series for page in stack.pages if page is not None]
    used = {page.index for page in pages}
    if all(page.parent is tif for page in pages) and len(tif.pages) > len(used):
        rule = f"makes {len(used)} planes, but the file has {len(tif.pages)}: the others are not read"
        ignore_field("SizeZ x SizeC x SizeT", " x ".join(given.get(f"Size{letter}", "?") for letter in "ZCT"), rule)


def check_file_names(path: Path, xml: str) -> None:
    """Reject names of further files of an image that lead out of its folder, or are no regular files: tifffile opens them all.

    Raises:
        FileReadError: ``tiff.outside``.
    """
    folder = path.absolute().parent
    for text in re.findall(r"\bFileName\s*=\s*[\"']([^\"']*)", xml):
        place = Path(os.path.normpath(folder / unescape(text)))
        if not place.is_relative_to(folder) or (place.exists() and not (place.is_file() or place.is_dir())):
            rule = f"keeps planes in {text}, which is not a file in its folder"
            raise FileReadError("tiff.outside", rule, file=path, remedy="Copy that file beside it, and correct the OME metadata.")


def _attributes(xml: str, number: int, *, told: bool = False) -> Mapping[str, str]:
    """Attributes of the pixels of an image, empty where there is none; XML that cannot be read is `told`."""
    try:
        pixels = [element.attrib for element in ElementTree.fromstring(xml).iter() if element.tag.rpartition("}")[2] == "Pixels"]
    except ElementTree.ParseError as error:
        if told:
            ignore_field("OME-XML", xml[:40], f"must be XML ({error})")
        return {}
    return pixels[number] if number < len(pixels) else {}
