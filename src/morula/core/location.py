"""File names: the data set inside a container, the stem, the suffix, and natural order."""

from __future__ import annotations

import os
import re
from pathlib import Path

from morula.core.errors import DataError

_CONTAINER = re.compile(r"^(?P<file>.*?\.(?:h5|hdf5|hdf|he5|ims|zarr|n5))(?::/*|[/\\])(?P<inner>.+)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?P<file>.*?\.(?:tiff?|btf|tf8|lsm)):/*(?P<inner>\d+)$", re.IGNORECASE)
_NAMED = re.compile(r"^(?P<file>.*?\.(?:json|czi|nd2|lif)):/*(?P<inner>.+)$", re.IGNORECASE)
PLANES = "planes"
"""``FOLDER:/planes`` is the volume whose planes are the files of a folder."""
_DOUBLE = (".ome.tif", ".ome.tiff", ".ome.zarr", ".nii.gz", ".ome.btf", ".ome.zarr.zip", ".zarr.zip")
_ADDRESS = re.compile(r"^(?P<scheme>https?|s3|gs|gcs|abfs|az):/+(?P<rest>.+)$")


def split_location(path: str | Path) -> tuple[Path, str | None]:
    """Split a path into the file and the data set inside it (`None` where the path names only a file).

    Examples:
        >>> split_location("a/train.h5:/volumes/raw")
        (PosixPath('a/train.h5'), 'volumes/raw')
        >>> split_location("a/train.h5/raw")
        (PosixPath('a/train.h5'), 'raw')
        >>> split_location("a/positions.ome.tif:/1")
        (PosixPath('a/positions.ome.tif'), '1')
        >>> split_location("a/slices:/planes")
        (PosixPath('a/slices'), 'planes')
        >>> split_location("a/train.tif")
        (PosixPath('a/train.tif'), None)
    """
    text = str(path)
    found = _CONTAINER.match(text) or _NUMBERED.match(text) or _NAMED.match(text)
    if not found:  # a file of any other name, if it exists
        name, _, within = text.rpartition(":/")
        if within == PLANES and len(name) > 1 and not Path(text).exists():  # one letter is a drive of Windows
            return Path(name), within
        return (Path(name), within) if within and Path(name).is_file() else (Path(text), None)
    if Path(text).exists() and not Path(text).is_dir():
        return Path(text), None
    file, inner = Path(found["file"]), found["inner"].replace("\\", "/").strip("/")
    if file.suffix.lower() not in (".zarr", ".n5") and file.is_dir():
        return Path(text), None  # an ordinary folder whose name ends like a file's
    return file, inner or None


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address on a server; `Path` makes one slash of the two.

    Examples:
        >>> is_remote(Path("https://server.org/a.ome.zarr")), is_remote("a.ome.zarr")
        (True, False)
    """
    return _ADDRESS.match(Path(path).as_posix()) is not None


def url_of(path: str | Path) -> str:
    """The address that a path stands for.

    Examples:
        >>> url_of(Path("https://server.org/a.ome.zarr"))
        'https://server.org/a.ome.zarr'
    """
    found = _ADDRESS.match(Path(path).as_posix())
    return str(path) if found is None else f"{found['scheme']}://{found['rest']}"


def leaves_container(path: Path) -> bool:
    """Whether links lead from a place in a Zarr or N5 folder out of it."""
    above = [parent for parent in (path, *path.parents) if parent.suffix.lower() in (".zarr", ".n5")]
    container = above[-1] if above else path
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(container))


def check_links(path: Path) -> None:
    """Reject a place in a Zarr or N5 folder that links lead out of: folders of others could show any file of the computer.

    Raises:
        DataError: for such a place.
    """
    if leaves_container(path):
        rule = f"is a link to {os.path.realpath(path)}, outside of its folder"
        remedy = "Copy the data into the folder, or name the place that the link leads to."
        raise DataError("container.link_outside", rule, file=path, remedy=remedy)


def suffix_of(path: str | Path) -> str:
    """Suffix in lower case; both parts of double suffixes such as ``.ome.tif``, ``.ome.zarr`` and ``.nii.gz``.

    Examples:
        >>> suffix_of("a/Scan.2.OME.tif"), suffix_of("b.h5")
        ('.ome.tif', '.h5')
    """
    name = Path(path).name.lower()
    return max((double for double in _DOUBLE if name.endswith(double)), key=len, default=Path(name).suffix)


def stem_of(path: str | Path) -> str:
    """File name without its suffix.

    Examples:
        >>> stem_of("a/scan.2.ome.zarr")
        'scan.2'
    """
    name = Path(path).name
    suffix = suffix_of(path)  # of a name such as "scan.2", the 2 counts as a suffix, as for pathlib
    return name[: len(name) - len(suffix)] if suffix else name


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key for natural order: digits are compared as numbers.

    Examples:
        >>> sorted(["t10", "t9", "t1"], key=natural_key)
        ['t1', 't9', 't10']
    """
    # tuples of one shape, so that numbers and text compare at every place: numbers come first
    parts = re.split(r"(\d+)", str(name).lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
