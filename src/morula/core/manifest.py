"""The record of the files that Morula wrote into a run folder: ``manifest.jsonl``, one line per file with size and checksum.

``--overwrite`` removes only files that are recorded with the content they still have; everything else in the folder is the user's. Lines
are only appended, and a line is written before its file gets its name, so a killed process leaves no file without a line::

    {"manifest": "morula", "version": 1}
    {"path": "job.yaml", "size": 812, "sha256": "5f0c..."}
    {"path": "logs/log.txt", "grows": true}

A file may have several lines; each describes a content that Morula wrote. Files that grow line by line (logs) are known by name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from morula.core.errors import FileWriteError
from morula.core.leftovers import is_temporary

MANIFEST, LOCK = "manifest.jsonl", ".lock"
_HEADER = {"manifest": "morula", "version": 1}
_WHOLE = 2**24
"""Bytes of a file up to which all of it is in its checksum; of larger files the first and the last half of this."""

_BY_NAME = re.compile(
    r"(?:.*/)?(?:manifest\.jsonl|\.lock|events\.jsonl|logs/log\.txt|logs/events\.out\.tfevents\.[^/]*|logs/training\.csv\.new"
    r"|checkpoints/(?:last|best)\.(?:new|old)/(?:weights\.safetensors|state\.pt))"
)
"""Files of a recorded folder that Morula appends to, or that a killed process may leave unfinished."""

_active: list[Path] = []
"""Folders that this process writes a run into; files elsewhere are not recorded."""


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Record in ``manifest.jsonl`` of `folder` what is written into it inside this context."""
    real = Path(os.path.realpath(folder))
    _active.append(real)
    try:
        yield
    finally:
        _active.remove(real)


def is_recording(folder: Path) -> bool:
    """Whether this process writes a run into a folder at the moment."""
    return Path(os.path.realpath(folder)) in _active


def record(path: Path, content: Path | None = None) -> None:
    """Record a file that Morula writes, when it is in a folder that this process records.

    Args:
        path: the file, or a folder with all its files, under its final name.
        content: where its content is until it gets that name; `path` itself by default.
    """
    content = path if content is None else content
    real = Path(os.path.realpath(path.parent)) / path.name
    folder = max((each for each in _active if real.is_relative_to(each)), key=lambda each: len(each.parts), default=None)
    if folder is None:
        return
    files = sorted(each for each in content.rglob("*") if each.is_file()) if content.is_dir() else [content]
    names = [(real / file.relative_to(content) if content.is_dir() else real).relative_to(folder).as_posix() for file in files]
    _append(folder / MANIFEST, [{"path": name, **fingerprint(file)} for name, file in zip(names, files, strict=True)])


def _append(file: Path, lines: list[dict[str, object]]) -> None:
    """Append whole lines in one write; a line that a killed process left unfinished is ended first."""
    with file.open("a+b") as stream:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        if not stream.tell():
            text = json.dumps(_HEADER) + "\n" + text
        else:
            stream.seek(-1, 2)
            text = text if stream.read(1) == b"\n" else "\n" + text
        stream.write(text.encode())


def fingerprint(file: Path) -> dict[str, object]:
    """Size and checksum of a file; the checksum of a large file is that of its first and last 8 MB."""
    size = file.stat().st_size
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        if size <= _WHOLE:
            digest.update(stream.read())
        else:
            digest.update(stream.read(_WHOLE // 2))
            stream.seek(size - _WHOLE // 2)
            digest.update(stream.read())
    return {"size": size, "sha256": digest.hexdigest()}


def recorded(folder: Path) -> dict[str, list[dict[str, object]]] | None:
    """Contents that are recorded for each file of a folder, `None` where the folder has no manifest of Morula."""
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
        if json.loads(lines[0]) != _HEADER:
            return None
    except (OSError, ValueError, IndexError):
        return None
    known: dict[str, list[dict[str, object]]] = {}
    for text in lines[1:]:
        with suppress(ValueError, KeyError, TypeError):  # the last line of a killed process may be unfinished
            line = json.loads(text)
            known.setdefault(str(line.pop("path")), []).append(line)
    return known


def run_folder_of(path: Path) -> Path | None:
    """The folder whose manifest lists this file (or files in this folder), `None` where there is none."""
    real = Path(os.path.realpath(path))
    for folder in real.parents:
        known = recorded(folder)
        if known is None:
            continue
        name = real.relative_to(folder).as_posix()
        if name in known or _BY_NAME.fullmatch(name) or any(each.startswith(f"{name}/") for each in known):
            return folder
    return None


def is_own(folder: Path, name: str, known: dict[str, list[dict[str, object]]]) -> bool:
    """Whether a file of a recorded folder is as Morula wrote it."""
    file = folder / name
    if file.is_symlink() or not file.is_file():
        return False
    if _BY_NAME.fullmatch(name) or is_temporary(file.name):
        return True
    return name in known and fingerprint(file) in known[name]


def is_recorded(folder: Path, name: str) -> bool:
    """Whether a file of a folder is in its manifest, and as Morula wrote it."""
    known = recorded(folder)
    return known is not None and is_own(folder, name, known)


def foreign_entries(folder: Path) -> Iterator[str]:
    """Files, links and empty folders in a folder that Morula did not write, or that were changed since. All, where it has no manifest."""
    stack = [(folder, recorded(folder), folder)]
    while stack:
        place, known, root = stack.pop()
        if place != root and (own := recorded(place)) is not None:  # a run inside a recorded folder has a manifest of its own
            known, root = own, place
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        for entry in entries:
            if entry.name == LOCK and place == folder:  # held by whoever asks
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and not is_temporary(entry.name):
                stack.append((path, known, root))
            elif entry.is_dir(follow_symlinks=False) and known is not None:
                continue
            elif known is None or not is_own(root, path.relative_to(root).as_posix(), known):
                yield path.relative_to(folder).as_posix()
        if not entries and place != folder and not _is_own_folder(place.relative_to(root).as_posix(), known):
            yield f"{place.relative_to(folder).as_posix()}/"


def _is_own_folder(name: str, known: dict[str, list[dict[str, object]]] | None) -> bool:
    """Whether an empty folder is one that Morula made: others of its files were in it, or it is one of the folders of a run."""
    if known is None:
        return False
    return name.partition("/")[0] in _FOLDERS or any(each.startswith(f"{name}/") for each in known)


_FOLDERS = ("associations", "checkpoints", "data", "layers", "logs", "model", "objects", "predictions", "report", "run", "starts", "tuning")


def remove_recorded(folder: Path) -> None:
    """Remove everything from a folder that has no `foreign_entries`; the lock stays, the manifest goes last.

    Raises:
        FileWriteError: when there is anything that Morula did not write; nothing is removed then.
    """
    check_recorded(folder)
    later = []
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(place, name)
            if path in (folder / MANIFEST, folder / LOCK):
                later.append(path)
            else:
                path.unlink()
        for name in folders:
            _remove_folder(Path(place, name))
    for path in later:
        if path.name != LOCK:
            path.unlink()


def _remove_folder(path: Path) -> None:
    if is_temporary(path.name):
        import shutil

        shutil.rmtree(path)
        return
    path.rmdir()  # fails where something was added in the meantime


def check_recorded(folder: Path) -> None:
    """Reject a folder with anything in it that Morula did not write.

    Raises:
        FileWriteError: with the first three such files.
    """
    foreign = foreign_entries(folder)
    first = [name for name, _ in zip(foreign, range(3), strict=False)]
    if first:
        more = " and more" if next(foreign, None) is not None else ""
        rule = f"holds files that Morula did not write, or that were changed since: {', '.join(first)}{more}; nothing was removed"
        remedy = "Move or delete them yourself, or name another folder with --output."
        raise FileWriteError("run_folder.foreign_files", rule, file=folder, remedy=remedy)


def discard(folder: Path, *names: str) -> list[str]:
    """Remove results of a run folder, files or folders with their files, as far as they are as Morula wrote them.

    Returns:
        the names of what was removed.
    """
    known = recorded(folder) or {}
    removed = []
    for name in names:
        place = folder / name
        if place.is_symlink() or not place.exists():
            continue
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        own = [file for file in files if is_own(folder, file.relative_to(folder).as_posix(), known)]
        for file in own:
            file.unlink()
        for below in sorted((each for each in files if each.is_dir()), reverse=True):
            _remove_if_empty(below)
        if place.is_dir():
            _remove_if_empty(place)
        removed += [name] if own else []
    return removed


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
