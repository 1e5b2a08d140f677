"""Which format a file is of."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from morula.core.errors import FileReadError, OptionError
from morula.core.file_errors import missing_file
from morula.core.location import suffix_of
from morula.io import FORMATS
from morula.io.formats.base import Format

_ELSEWHERE = {".czi": "Zeiss", ".nd2": "Nikon", ".lif": "Leica", ".oib": "Olympus", ".oif": "Olympus", ".vsi": "Olympus", ".mrc": "MRC"}


def formats() -> list[Format]:
    """Every format, in the order in which they are asked."""
    return [cast(Format, FORMATS.load(name)()) for name in FORMATS.names]


def suffixes() -> list[str]:
    """Every suffix that some format reads."""
    return [suffix for each in formats() for suffix in each.suffixes]


def format_of(path: Path) -> Format:
    """The format of a file that exists: by its content, else by its suffix.

    Raises:
        MissingFileError: naming the nearest file that exists.
        FileReadError: when no format fits.
    """
    if not path.exists():
        raise missing_file(path)
    known, suffix = formats(), suffix_of(path)
    for each in known:
        if each.recognises(path):
            return each
    for each in known:
        if (suffix in each.suffixes or Path(suffix).suffix in each.suffixes) and each.folder == path.is_dir():
            return each
    if path.is_dir():
        raise FileReadError(
            f"{str(path)!r} is a folder, not an image. Name one file in it, or pass the folder where a set of images is asked for."
        )
    maker = _ELSEWHERE.get(suffix)
    raise FileReadError(
        f"{str(path)!r} is of no format that Morula reads{f' ({maker})' if maker else ''}. "
        f"Convert it to OME-TIFF or OME-Zarr (Fiji: File > Save as; or bioformats2raw). Formats: {', '.join(sorted(set(suffixes())))}."
    )


def format_to_write(path: Path, *, labels: bool = False) -> Format:
    """The format that a new file's suffix asks for; an OME-Zarr that exists stays one when labels are added.

    Raises:
        OptionError: for a suffix that no format writes.
    """
    known, suffix = formats(), suffix_of(path)
    by_name = {each.name: each for each in known}
    if labels and path.is_dir() and by_name["OME-Zarr"].recognises(path):
        return by_name["OME-Zarr"]
    for wanted in (suffix, path.suffix.lower()):
        for each in known:
            if wanted in each.suffixes and each.writes:
                return each
    written = sorted({suffix for each in known if each.writes for suffix in each.suffixes})
    raise OptionError(f"{str(path)!r} ends in {suffix or 'no suffix'}, which Morula does not write. Choose one of {', '.join(written)}.")
