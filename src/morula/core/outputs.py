"""Outputs against inputs: what a command writes must not be, contain or be inside what it reads.

Two paths can name the same file in many ways: links, hard links, ``./a/../a``, ``~``, mounts, and names that differ only in case on file
systems that ignore it. So places are compared by the identity of the file system (device and inode) as far as the path exists, and by
name from there on::

    /data/raw/new/0.tif  ->  identity of /data/raw, then ("new", "0.tif")
    ^^^^^^^^^ exists

An output *is* an input where the two are equal; it is *inside* an input where one of the folders above it is that input; it *contains*
an input where it is one of the folders above that input.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from morula.core.errors import FileWriteError
from morula.core.location import split_location
from morula.core.manifest import is_recording, is_result, run_folder_of
from morula.core.remedy import Remedy

Key: TypeAlias = tuple[int | str, ...]
"""Device and inode of the last folder or file of a path that exists, then the names that do not exist yet."""

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_ZARR_FOLDERS = (".zarr", ".n5")
_OTHER = "Name another output."


@dataclass(frozen=True)
class Destination:
    """A file or folder that is going to be written.

    Attributes:
        path: the file or folder that is replaced or created.
        name: how the user named it, for messages.
        key: the argument or option that named it, for messages.
        adds: whether something is added to an existing file or Zarr image, whose other content stays.
        dataset: the data set of an existing HDF5 file that is replaced, if there is one.
        proven: whether an existing file is replaced only when it is as Morula wrote it, see `morula.core.manifest.is_result`.
        foreign: whether `dataset` has no mark of Morula.
        array: whether it is an array or group of Zarr, which alone may be in a Zarr folder.
    """

    path: Path
    name: str = ""
    key: str = "output"
    adds: bool = False
    dataset: str | None = None
    proven: bool = False
    foreign: bool = False
    array: bool = False

    @property
    def shown(self) -> str:
        """The name for messages."""
        return self.name or str(self.path)


def check_outputs(outputs: Iterable[Destination | Path], inputs: Iterable[str | os.PathLike[str]] = (), *, overwrite: bool = False) -> None:
    """Reject outputs that would destroy something, or cannot be written. Nothing is changed.

    Args:
        outputs: what is going to be written.
        inputs: files, folders and patterns that are read, see `input_places`.
        overwrite: whether existing outputs are replaced. Inputs, files of a run, and folders that Morula did not write never are.

    Raises:
        FileWriteError: ``output.is_input``, ``output.inside_input``, ``output.contains_input``, ``output.duplicate``, ``output.of_run``,
            ``output.exists``, ``output.not_own``, ``output.in_image``, ``output.not_a_file`` or ``file.not_written``.

    Examples:
        >>> import tempfile
        >>> raw = Path(tempfile.mkdtemp()) / "raw.tif"
        >>> _ = raw.write_text("pixels")
        >>> check_outputs([raw.with_name("labels.tif")], [raw])
        >>> check_outputs([raw.parent / "." / "raw.tif"], [raw], overwrite=True)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        morula.core.errors.FileWriteError: raw.tif: is an input, and inputs are never replaced. Name another output.
    """
    destinations = [place if isinstance(place, Destination) else Destination(Path(place)) for place in outputs]
    check_apart(destinations, inputs)
    for destination in destinations:
        _check_kind(destination)
        check_container(destination)
        _check_run_file(destination)
    taken = [destination for destination in destinations if not destination.adds and os.path.lexists(destination.path)]
    if taken and not overwrite:
        raise already_exist([destination.shown for destination in taken])
    for destination in destinations:
        if not destination.adds and os.path.lexists(destination.path):
            _check_own(destination)
        elif destination.proven and destination.dataset is not None and destination.foreign:
            rule = f"holds {destination.dataset} already, without the mark of data sets that Morula wrote, so it is not replaced"
            text = f"if an earlier version of Morula wrote it, delete it first (h5py.File(FILE, 'a').pop({destination.dataset!r}))"
            remedy = Remedy("name another data set or file", text)
            raise FileWriteError("output.not_own", rule, key=destination.key, file=destination.shown, remedy=remedy)
    for destination in destinations:
        check_writable(destination.path, destination.shown)


def check_apart(outputs: Iterable[Destination | Path], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Reject outputs that are, contain or are inside an input, and outputs that are the same file.

    Raises:
        FileWriteError: with the codes of `check_outputs`.
    """
    read: dict[Key, str] = {}
    above: dict[Key, str] = {}
    datasets: dict[Key, set[str]] = {}
    for place in inputs:
        for path in input_places(place):
            chain = _chain(path)
            datasets.setdefault(chain[0], set()).update(filter(None, [split_location(str(place))[1]]))
            read.setdefault(chain[0], str(path))
            for key in chain[1:]:
                above.setdefault(key, str(path))
    written: dict[Key, str] = {}
    for given in outputs:
        output = given if isinstance(given, Destination) else Destination(Path(given))
        chain = _chain(output.path)
        if chain[0] in written and not output.adds:
            rule = f"would be written twice, as {written[chain[0]]} too"
            remedy = "Rename the images, or write to several folders."
            raise FileWriteError("output.duplicate", rule, key=output.key, file=output.shown, remedy=remedy)
        written[chain[0]] = output.shown
        if chain[0] in read and not _adds_data_set(output, datasets[chain[0]]):
            rule = "is an input, and inputs are never replaced"
            raise FileWriteError("output.is_input", rule, key=output.key, file=output.shown, remedy=_OTHER)
        if chain[0] in above:
            rule = f"contains the input {above[chain[0]]}, and inputs are never replaced"
            raise FileWriteError("output.contains_input", rule, key=output.key, file=output.shown, remedy=_OTHER)
        inside = next((key for key in chain[1:] if key in read), None)
        if inside is not None and not _is_label_image_of(output.path, inside):
            rule = f"is inside the input {read[inside]}, to which nothing is added"
            raise FileWriteError("output.inside_input", rule, key=output.key, file=output.shown, remedy=_OTHER)


def _adds_data_set(output: Destination, read: set[str]) -> bool:
    """Whether a data set is added to an HDF5 file that is read too, without replacing the one that is read (or may be)."""
    return output.adds and output.path.is_file() and (output.dataset is None or (bool(read) and output.dataset not in read))


def _is_label_image_of(path: Path, image: Key) -> bool:
    """Whether a path is ``IMAGE/labels/NAME`` of an OME-Zarr image: the place for labels that the format defines."""
    folder = path.parent.parent
    return path.parent.name == "labels" and _key(folder) == image and any((folder / name).is_file() for name in _ZARR_FILES)


def input_places(place: str | os.PathLike[str]) -> Iterator[Path]:
    """Files and folders that are read for an input: the files of a pattern, and those of a folder besides the folder itself.

    Names of data sets inside an HDF5 file are left out; those inside a Zarr folder are part of the path.
    """
    path = Path(place).expanduser()
    if glob.has_magic(str(path)) and not path.exists():
        for match in glob.glob(str(split_location(path)[0]), recursive=True):
            yield from input_places(match)
        return
    file, inner = split_location(path)
    if inner is not None:
        path = file / inner if file.suffix.lower() in _ZARR_FOLDERS else file
    yield path
    if path.is_dir() and not _is_zarr(path):
        # the files of the folder may be links to files elsewhere
        with suppress(OSError):  # a folder that cannot be listed is reported by whoever reads it
            yield from (Path(entry.path) for entry in os.scandir(path) if entry.is_symlink() or entry.is_file())


def _chain(path: Path) -> list[Key]:
    """Keys of a path and of all folders above it."""
    real = _real(path)
    return [_key(part) for part in (real, *real.parents)]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path.expanduser()))


def _key(path: Path) -> Key:
    names: list[str] = []
    real = _real(path)
    for folder in (real, *real.parents):
        try:
            status = os.stat(folder)
        except OSError:
            names.insert(0, folder.name)
        else:
            if names and _ignores_case(folder):
                names = [unicodedata.normalize("NFC", name).casefold() for name in names]
            return (status.st_dev, status.st_ino, *names)
    return tuple(names)


def _ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder takes ``a`` and ``A`` for the same name; asked of a name that exists there."""
    for place in (folder, folder.parent):
        try:
            name = next((name for name in os.listdir(place) if name.swapcase() != name), None)
            if name is not None:
                return os.path.samefile(place / name, place / name.swapcase())
        except OSError:
            return False
    return False


def already_exist(files: Sequence[str | Path]) -> FileWriteError:
    """The error for output files that exist.

    Examples:
        >>> already_exist([Path("cells.tif")]).code
        'output.exists'
    """
    shown = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    remedy = Remedy("replace it with --overwrite (in Python overwrite=True)", "name another output")
    return FileWriteError("output.exists", "already exists" if len(files) == 1 else "already exist", file=shown, remedy=remedy)


def _check_kind(output: Destination) -> None:
    """A device or a pipe must not be renamed over."""
    try:
        mode = os.stat(output.path).st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FileWriteError("output.not_a_file", "is neither a file nor a folder", key=output.key, file=output.shown, remedy=_OTHER)


def check_container(output: Destination) -> None:
    """Reject a file in a Zarr folder, which holds arrays only: Morula would not replace such a folder again.

    Raises:
        FileWriteError: ``output.in_image``.
    """
    if output.array:
        return
    container = next((folder for folder in _real(output.path).parents if folder.is_dir() and _is_zarr(folder)), None)
    if container is not None:
        rule = f"cannot be in {container}: such a folder is an image"
        raise FileWriteError("output.in_image", rule, key=output.key, file=output.shown, remedy="Name a file in another folder.")


def _is_zarr(folder: Path) -> bool:
    return folder.suffix.lower() in _ZARR_FOLDERS or any((folder / name).is_file() for name in _ZARR_FILES)


def _check_run_file(output: Destination) -> None:
    """The files of a run are written by the commands of that run only."""
    run = run_folder_of(output.path) if output.path.exists() else None
    if run is not None and not is_recording(run):
        rule = f"is a file of the run {run}, which only the commands of that run replace"
        raise FileWriteError("output.of_run", rule, key=output.key, file=output.shown, remedy=_OTHER)


def _check_own(output: Destination) -> None:
    """A folder is only replaced where Morula wrote it and everything in it; so is a file that needs a proof."""
    if output.path.is_dir() and not output.path.is_symlink():
        check_own_folder(output.path, output.shown)
    elif output.proven and not is_result(output.path):
        rule = "exists, but is not as Morula wrote it, so it is not replaced"
        remedy = "Move or delete it yourself, or name another output."
        raise FileWriteError("output.not_own", rule, key=output.key, file=output.shown, remedy=remedy)


def check_own_folder(path: Path, name: str = "", kind: str | None = None) -> None:
    """Reject a folder that may not be replaced: one that is not a Zarr image that Morula wrote (of this kind), or holds anything else.

    Raises:
        FileWriteError: ``output.not_own``, with the first thing that is something else.
    """
    marker = zarr_marker(path)
    if marker is None or (kind is not None and marker != kind):
        rule = "is a folder that Morula did not write" if marker is None else f"is not {kind} but {marker}"
        remedy = "Move or delete it yourself, or name another output."
        raise FileWriteError("output.not_own", rule, file=name or path, remedy=remedy)
    other = next(_not_zarr(path), None)
    if other is not None:
        rule = f"holds something that Morula did not write there: {other}"
        raise FileWriteError("output.not_own", rule, file=name or path, remedy="Move it elsewhere, or name another output.")


MARKER = "morula"
"""Attribute of Zarr nodes that Morula wrote; its value is ``labels`` or ``image``."""


def zarr_marker(path: Path) -> str | None:
    """What Morula wrote at a Zarr node (``labels`` or ``image``), `None` where it wrote none."""
    for name, inner in (("zarr.json", "attributes"), (".zattrs", None)):
        try:
            content = json.loads((path / name).read_text(encoding="utf-8"))
            attributes = content if inner is None else content.get(inner)
            value = attributes.get(MARKER) if isinstance(attributes, dict) else None
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(value, str):
            return value
    return None


def _not_zarr(folder: Path) -> Iterator[str]:
    """Files and folders in a Zarr image that are neither metadata, levels nor chunks."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            part = name in (*_ZARR_FILES, ".zmetadata") or (name == "c" and name in folders) or name.replace(".", "").isdigit()
            if not part or os.path.islink(os.path.join(place, name)):
                yield os.path.relpath(os.path.join(place, name), folder)


def check_writable(path: Path, name: str = "") -> None:
    """Reject a path whose folder cannot be written to, or cannot be created.

    Raises:
        FileWriteError: ``file.not_written``.
    """
    real = _real(path)
    folder = next(parent for parent in real.parents if os.path.lexists(parent))
    if not folder.is_dir():
        rule = f"cannot be created: {folder} is a file, not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        rule = f"cannot be written: the folder {folder} is read-only, or belongs to another user"
    else:
        return
    raise FileWriteError("file.not_written", rule, file=name or path, remedy="Choose a folder of your own.")


def check_space(path: Path, needed: int, name: str = "") -> None:
    """Reject an output that is larger than the free space of its disk.

    Args:
        path: file or folder that will be written.
        needed: estimate of its size in bytes; give a lower bound, because a wrong rejection is worse than an error later.
        name: how the user named it.

    Raises:
        FileWriteError: ``output.no_space``.
    """
    free = free_space(path)
    if free is not None and needed > free:
        rule = f"needs about {amount(needed)}, but {amount(free)} are free there"
        raise FileWriteError("output.no_space", rule, file=name or path, remedy="Free space, or write to another disk.")


def amount(number: int) -> str:
    """A number of bytes in a suitable unit.

    Examples:
        >>> amount(4_920_000_000), amount(20_480), amount(10)
        ('4.92 GB', '20.5 kB', '10 bytes')
    """
    unit, size = next(((unit, size) for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= size), ("bytes", 1))
    return f"{number / size:.3g} {unit}"


def free_space(path: Path) -> int | None:
    """Free bytes of the disk that a path is or will be on; `None` where the system does not say."""
    real = _real(path)
    folder = next(part for part in (real, *real.parents) if part.exists())
    try:
        usage = shutil.disk_usage(folder)
        return usage.free if usage.total else None  # /proc and the like have no size
    except OSError:
        return None
