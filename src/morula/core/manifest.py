"""The record of the files that Morula wrote: ``manifest.jsonl`` in a run folder, ``.morula.jsonl`` beside results elsewhere.

It has one line per file, with size and checksum.

``--overwrite`` removes only files that are recorded with the content they still have; everything else in the folder is the user's. Lines
are only appended, and a line is written before its file gets its name, so a killed process leaves no file without a line::

    {"manifest": "morula", "version": 1}
    {"path": "job.yaml", "size": 812, "sha256": "5f0c..."}
    {"path": "logs/log.txt", "grows": true}

A file may have several lines; each describes a content that Morula wrote. Files that grow line by line (logs) are known by name. The
record beside results has the header ``{"manifest": "morula results", "version": 1}``: the folder is one of the user's, not a run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from morula.core.durable import flush_folder
from morula.core.errors import FileWriteError
from morula.core.leftovers import is_temporary
from morula.core.remedy import OTHER_FOLDER, Remedy

MANIFEST, RESULTS, LOCK = "manifest.jsonl", ".morula.jsonl", ".lock"
_HEADERS: dict[str, dict[str, object]] = {
    MANIFEST: {"manifest": "morula", "version": 1},
    RESULTS: {"manifest": "morula results", "version": 1},
}
_WHOLE = 2**24
"""Bytes of a file of a run up to which all of it is in its checksum; of larger files the first and the last half of this."""

_BY_NAME = re.compile(
    r"(?:.*/)?(?:manifest\.jsonl|\.lock|\.morula-unfinished-[0-9a-f]+\.jsonl|events\.jsonl"
    r"|logs/log\.txt|logs/events\.out\.tfevents\.[^/]*|logs/training\.csv\.new"
    r"|checkpoints/(?:last|best)\.(?:new|old)/(?:weights\.safetensors|state\.pt))"
)
"""Files of a recorded folder that Morula appends to, or that a killed process may leave unfinished."""

_RUN_FILES = ("job.yaml", "provenance.json", "scores.csv", "class_scores.csv", "baselines.csv", "report.html", "events.jsonl")
_RUN_FOLDERS = ("associations", "checkpoints", "logs", "model", "objects", "predictions", "report", "starts", "tuning", "MAE_checks")
"""Names that the commands of a run write into its folder; a run of an earlier version has them, but no manifest."""

_active: list[tuple[Path, str]] = []
"""Folders that this process writes a run or results into, with the names of their records; files elsewhere are not recorded."""


@contextmanager
def recording(folder: Path, name: str = MANIFEST) -> Iterator[None]:
    """Record what is written into `folder` inside this context, in its file `name`: `MANIFEST` for a run, `RESULTS` for results.

    Raises:
        FileWriteError: ``output.foreign_record``, when there is a file of that name that Morula did not write, or a link.
    """
    entry = Path(os.path.realpath(folder)), name
    _check_record(entry[0] / name)
    _active.append(entry)
    try:
        yield
    finally:
        _active.remove(entry)


def _check_record(file: Path) -> None:
    """Reject a file that has the name of a record, but is somebody else's: nothing is appended to it."""
    header = json.dumps(_HEADERS[file.name])
    try:
        with file.open(encoding="utf-8") as stream:
            begin = stream.read(len(header))
    except FileNotFoundError:
        begin = ""
    except (OSError, UnicodeDecodeError):
        begin = "?"
    # a killed process may have left the beginning of the header
    if file.is_symlink() or not header.startswith(begin):
        rule = "has the name of Morula's record of its files, but was not written by Morula, so it is not changed"
        remedy = Remedy("move it elsewhere", OTHER_FOLDER, "name another folder")
        raise FileWriteError("output.foreign_record", rule, file=file, remedy=remedy)


def is_recording(folder: Path) -> bool:
    """Whether this process writes a run into a folder at the moment."""
    return (Path(os.path.realpath(folder)), MANIFEST) in _active


def record(path: Path, content: Path | None = None) -> None:
    """Record a file that Morula writes, when it is in a folder that this process records. The record is on the disk when this returns.

    Args:
        path: the file, or a folder with all its files, under its final name.
        content: where its content is until it gets that name; `path` itself by default.
    """
    content = path if content is None else content
    real = Path(os.path.realpath(path.parent)) / path.name
    inside = (entry for entry in _active if real.is_relative_to(entry[0]))
    folder, record_name = max(inside, key=lambda entry: len(entry[0].parts), default=(None, ""))
    if folder is None or (record_name == RESULTS and content.is_dir()):  # a Zarr folder of results carries its mark itself
        return
    files = sorted(file for file in content.rglob("*") if file.is_file()) if content.is_dir() else [content]
    names = [(real / file.relative_to(content) if content.is_dir() else real).relative_to(folder).as_posix() for file in files]
    lines = [{"path": name, **fingerprint(file, whole=record_name == RESULTS)} for name, file in zip(names, files, strict=True)]
    append_lines(folder / record_name, _HEADERS[record_name], lines)


def append_lines(file: Path, header: dict[str, object], lines: Sequence[Mapping[str, object]]) -> None:
    """Append whole lines of JSON in one write and flush them to the disk; a line that a killed process left unfinished is ended first."""
    with file.open("a+b") as stream:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        new = stream.tell() < len(json.dumps(header))
        if new and stream.tell():  # a killed process left the beginning of the header
            stream.truncate(0)
        if new:
            text = json.dumps(header, ensure_ascii=False) + "\n" + text
        else:
            stream.seek(-1, 2)
            text = text if stream.read(1) == b"\n" else "\n" + text
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        flush_folder(file.parent)


def read_lines(file: Path, header: Mapping[str, object]) -> list[dict[str, object]] | None:
    """The lines after the header, `None` where there is no such file. Lines that a killed process left unfinished are left out."""
    try:
        texts = file.read_text(encoding="utf-8").splitlines()
        if json.loads(texts[0]) != header:
            return None
    except (OSError, ValueError, IndexError, RecursionError):
        return None
    lines = []
    for text in texts[1:]:
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            lines += [line] if isinstance(line, dict) else []
    return lines


def fingerprint(file: Path, *, whole: bool = False) -> dict[str, object]:
    """Size and checksum of a file; unless `whole`, the checksum of a large file is that of its first and last 8 MB."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if whole or size <= _WHOLE:
            return {"size": size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        digest = hashlib.sha256(stream.read(_WHOLE // 2))
        stream.seek(size - _WHOLE // 2)
        digest.update(stream.read())
    return {"size": size, "sha256": digest.hexdigest()}


def recorded(folder: Path, name: str = MANIFEST) -> dict[str, list[dict[str, object]]] | None:
    """Contents that the record `name` of a folder has for each file, `None` where the folder has no such record of Morula."""
    lines = read_lines(folder / name, _HEADERS[name])
    if lines is None:
        return None
    known: dict[str, list[dict[str, object]]] = {}
    for line in lines:
        known.setdefault(str(line.pop("path", "")), []).append(line)
    return known


def run_folder_of(path: Path) -> Path | None:
    """The run folder that this file (or files in this folder) belongs to, `None` where there is none.

    The manifest of the folder says so, or the names that runs use in the folder of a run without one.
    """
    real = Path(os.path.realpath(path))
    for folder in real.parents:
        name, known = real.relative_to(folder).as_posix(), recorded(folder)
        if known is None:
            if name.partition("/")[0] in (*_RUN_FILES, *_RUN_FOLDERS) and _is_earlier_run(folder):
                return folder
        elif name in known or _BY_NAME.fullmatch(name) or any(entry.startswith(f"{name}/") for entry in known):
            return folder
    return None


def _is_earlier_run(folder: Path) -> bool:
    """Whether a folder has the job and the provenance that every run has; a job file alone is no proof."""
    try:
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        return (folder / "job.yaml").is_file() and "morula" in facts["environment"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def is_result(path: Path) -> bool:
    """Whether a file outside of run folders is as Morula wrote it: the record beside it, or one folder above, has its checksum."""
    if path.is_symlink() or not path.is_file():
        return False
    real = Path(os.path.realpath(path.parent)) / path.name
    for folder in (real.parent, real.parent.parent):
        contents = (recorded(folder, RESULTS) or {}).get(real.relative_to(folder).as_posix())
        if contents and fingerprint(real, whole=True) in contents:
            return True
    return False


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
    """Files, links and empty folders in a folder that Morula did not write, or that were changed since. All, where it has no manifest.

    So are other runs in the folder, which have a manifest of their own, but for `run` in the folder of a demo.
    """
    stack = [(folder, recorded(folder), folder)]
    while stack:
        place, known, root = stack.pop()
        if place != root and (own := recorded(place)) is not None:
            if known is None or place != folder / _INNER_RUN:
                yield f"{place.relative_to(folder).as_posix()}/"
                continue
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
    return name.partition("/")[0] in _FOLDERS or any(path.startswith(f"{name}/") for path in known)


_INNER_RUN = "run"
_FOLDERS = (*_RUN_FOLDERS, "data", "layers", _INNER_RUN)


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
        remedy = Remedy("move or delete them yourself", OTHER_FOLDER)
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
        for below in sorted((file for file in files if file.is_dir()), reverse=True):
            _remove_if_empty(below)
        if place.is_dir():
            _remove_if_empty(place)
        removed += [name] if own else []
    return removed


def discard_own(path: Path) -> bool:
    """Remove a file when a record says that it is as Morula wrote it: that of its run, or that of the results beside it."""
    run = run_folder_of(path)
    real = Path(os.path.realpath(path.parent)) / path.name
    own = is_result(path) if run is None else is_recorded(run, real.relative_to(run).as_posix())
    if own:
        path.unlink()
    return own


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
