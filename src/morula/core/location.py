"""Names of files: the data set inside a container, the stem, the suffix."""

from __future__ import annotations

import re
from pathlib import Path

_CONTAINER = re.compile(r"^(?P<file>.*?\.(?:h5|hdf5|hdf|he5|ims|zarr|n5))(?::/*|[/\\])(?P<inner>.+)$", re.IGNORECASE)
_DOUBLE = (".ome.tif", ".ome.tiff", ".ome.zarr", ".nii.gz", ".ome.btf")


def split_location(path: str | Path) -> tuple[Path, str | None]:
    """The file, and the data set inside it when the path goes on behind the file's name.

    Examples:
        >>> split_location("a/train.h5:/volumes/raw")
        (PosixPath('a/train.h5'), 'volumes/raw')
        >>> split_location("a/train.h5/raw")
        (PosixPath('a/train.h5'), 'raw')
        >>> split_location("a/train.tif")
        (PosixPath('a/train.tif'), None)
    """
    text = str(path)
    found = _CONTAINER.match(text)
    if not found or (Path(text).exists() and not Path(text).is_dir()):
        return Path(text), None
    file, inner = Path(found["file"]), found["inner"].replace("\\", "/").strip("/")
    if file.suffix.lower() not in (".zarr", ".n5") and file.is_dir():
        return Path(text), None  # a plain folder that is called like a file
    return file, inner or None


def suffix_of(path: str | Path) -> str:
    """Suffix in lower case, with both parts of ``.ome.tif``, ``.ome.zarr`` and ``.nii.gz``.

    Examples:
        >>> suffix_of("a/Scan.2.OME.tif"), suffix_of("b.h5")
        ('.ome.tif', '.h5')
    """
    name = Path(path).name.lower()
    return next((double for double in _DOUBLE if name.endswith(double)), Path(name).suffix)


def stem_of(path: str | Path) -> str:
    """File name without its suffix.

    Examples:
        >>> stem_of("a/scan.2.ome.zarr")
        'scan.2'
    """
    name = Path(path).name
    suffix = suffix_of(path)
    return name[: len(name) - len(suffix)] if suffix else name


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Key to sort names as people do: numbers by value.

    Examples:
        >>> sorted(["t10", "t9", "t1"], key=natural_key)
        ['t1', 't9', 't10']
    """
    parts = re.split(r"(\d+)", str(name).lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
