"""Selection of the format of a file, by content or suffix."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from morula.core.errors import FileReadError, OptionError
from morula.core.file_errors import missing_file
from morula.core.location import is_remote, suffix_of
from morula.io import FORMATS
from morula.io.formats.base import Format

_ELSEWHERE = {".mrc": "MRC"}


def formats() -> list[Format]:
    """All formats, in the order in which they are tried."""
    return [cast(Format, FORMATS.load(name)()) for name in FORMATS.names]


def suffixes(*, labels: bool = False) -> list[str]:
    """All suffixes that some format reads; with `labels`, also those of formats that hold labels only."""
    return [suffix for known in formats() if labels or not known.labels_only for suffix in known.suffixes]


def format_of(path: Path) -> Format:
    """The format of an existing file, by its content, else by its suffix.

    Raises:
        MissingFileError: when it does not exist.
        FileReadError: when no format fits.
    """
    if is_remote(path):
        return cast(Format, FORMATS.load("zarr_store")())
    if not path.exists():
        raise missing_file(path)
    if not (path.is_file() or path.is_dir()):  # reading from a pipe waits for ever, and some devices never end
        rule = "is neither a file nor a folder, but a device, a pipe or a socket"
        raise FileReadError("file.not_regular", rule, file=path, remedy="Name a file.")
    known, suffix = formats(), suffix_of(path)
    # content before suffix: files are renamed, and a .tif may hold anything
    for format in known:
        if format.recognises(path):
            return format
    for format in known:
        # the last part of a double suffix: `.seg.nii` is NIfTI; folders (Zarr, N5) and files of one suffix are different formats
        if (suffix in format.suffixes or Path(suffix).suffix in format.suffixes) and format.folder == path.is_dir():
            return format
    if path.is_dir():
        raise FileReadError("file.is_a_folder", "is a folder, not an image", file=path, remedy="Name a file in it.")
    maker = _ELSEWHERE.get(suffix)
    raise FileReadError(
        "file.unknown_format",
        f"is not of a format that Morula reads{f' ({maker})' if maker else ''}; it reads {', '.join(sorted(set(suffixes(labels=True))))}",
        file=path,
        remedy="Convert it to OME-TIFF or OME-Zarr (Fiji: File > Save as; or bioformats2raw).",
    )


def format_to_write(path: Path, *, labels: bool = False) -> Format:
    """The format for a new file, by its suffix; OME-Zarr where labels are added to an existing OME-Zarr image.

    Raises:
        OptionError: for a suffix that no format writes.
    """
    known, suffix = formats(), suffix_of(path)
    by_name = {format.name: format for format in known}
    # labels that belong to an OME-Zarr image are part of it, whatever the folder is called
    if labels and path.is_dir() and by_name["OME-Zarr"].recognises(path):
        return by_name["OME-Zarr"]
    for wanted in (suffix, path.suffix.lower()):
        named = [format for format in known if wanted in format.suffixes]
        for format in named:
            if format.writes:
                return format
        if named:  # `.zarr.zip` is only read: it is no `.zip` of ROIs
            break
    written = sorted({suffix for format in known if format.writes for suffix in format.suffixes})
    raise OptionError(
        "file.unknown_suffix",
        f"ends in {suffix or 'no suffix'}, which Morula does not write",
        file=path,
        remedy=f"Choose one of {', '.join(written)}.",
    )
