"""Temporary names beside an output, and what killed processes leave under them.

``.cells.tif.part-1a2b3c4d-p4711-h9f3c.tif`` is an unfinished ``cells.tif`` of process 4711 on the computer with the hash 9f3c. The next
process that writes ``cells.tif`` removes it, unless process 4711 is still alive.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import time
import zlib
from contextlib import suppress
from pathlib import Path

from morula.core.location import suffix_of

_TEMPORARY = re.compile(r"\.(?P<name>.+?)\.(?:(?:part|old)-[0-9a-f]{8}(?:-p(?P<pid>\d+)-h(?P<host>[0-9a-f]{4}))?|unfinished)(?:\.[^/]*)?")
_DAY = 86400.0
_HOST = f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"

_in_use: set[str] = set()
"""Temporary names of this process."""


def temporary_name(path: Path, what: str) -> Path:
    """A hidden name in the same folder with the same suffix; random, so that two processes do not collide. `what` is part or old."""
    name = f".{path.name[:100]}.{what}-{secrets.token_hex(4)}-p{os.getpid()}-h{_HOST}{suffix_of(path)}"
    _in_use.add(name)
    return path.with_name(name)


def is_temporary(name: str) -> bool:
    """Whether a name is one of `temporary_name`, of this version or an earlier one.

    Examples:
        >>> is_temporary(".cells.tif.part-1a2b3c4d.tif"), is_temporary(".bashrc"), is_temporary("cells.tif")
        (True, False, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(path: Path, *kinds: str) -> None:
    """Remove what killed processes left of `path`: unfinished files (``part``) and earlier results (``old``)."""
    start = f".{path.name[:100]}."
    with suppress(OSError):  # leftovers that cannot be removed do not keep anyone from writing
        for entry in os.scandir(path.parent):
            if entry.name.startswith(start) and any(entry.name.startswith(f"{start}{kind}-") for kind in kinds) and _is_abandoned(entry):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    match = _TEMPORARY.fullmatch(entry.name)
    if match is None or entry.name in _in_use:
        return False
    if match["pid"] is None:  # of an earlier version, which did not name its process
        return True
    if match["host"] != _HOST:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY
    return int(match["pid"]) == os.getpid() or not _is_alive(int(match["pid"]))


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # type: ignore[attr-defined]
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)  # type: ignore[attr-defined]
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
