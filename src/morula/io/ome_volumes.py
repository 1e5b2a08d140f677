"""Multi-file OME-TIFF: one image whose planes are in several files, each of which names all of them.

See https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html#distribution-across-multiple-files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from morula.core.location import suffix_of

_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.btf")


def one_per_volume(files: Sequence[Path]) -> list[Path]:
    """The files without those that hold further planes of an earlier one: reading that one reads all of them.

    Args:
        files: files and folders in natural order.
    """
    parts = [file for file in files if suffix_of(file) in _SUFFIXES and file.is_file()]
    if len(parts) < 2:
        return list(files)
    covered: set[Path] = set()
    for file in parts:
        if file not in covered:
            covered |= {file.parent / name for name in named_files(file)} - {file}
    return [file for file in files if file not in covered]


def named_files(path: Path) -> set[str]:
    """Names of the files in its folder that hold planes of the image of an OME-TIFF; none where its metadata cannot be read."""
    import tifffile  # not at the top: listing a folder needs it for these files only

    from morula.io.formats.tiff_file import FAILURES

    try:
        with tifffile.TiffFile(path) as tif:
            root = ElementTree.fromstring(tif.pages.first.description)
    except FAILURES:  # a damaged file, which is an error when it is read
        return set()
    found = {str(element.get("FileName", "")) for element in root.iter() if element.tag.rpartition("}")[2] == "UUID"}
    own = {name for name in found if name and Path(name).name == name}
    # a copy under another name does not belong to the files that it names
    return own if path.name in own else set()
