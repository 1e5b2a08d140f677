"""A lock on a folder: one process at a time writes a run. The system releases it when the process ends, however that happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from morula.core.errors import FileWriteError
from morula.core.manifest import LOCK
from morula.core.remedy import OTHER_FOLDER, Remedy

_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""File systems without locks: the run goes on without one."""

_open: set[int] = set()


def _close_in_child() -> None:
    # a worker process that outlives a killed run must not keep its lock
    for descriptor in _open:
        with suppress(OSError):
            os.close(descriptor)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a folder that exists; its file ``.lock`` (or another `name`) is removed at the end.

    Raises:
        FileWriteError: ``run_folder.in_use``, when another process (or another run of this one) holds it.
    """
    descriptor = _acquired(folder, name)
    if descriptor is not None:
        _open.add(descriptor)
    owner = os.getpid()
    try:
        yield
    finally:
        if descriptor is not None and os.getpid() == owner:
            _open.discard(descriptor)
            with suppress(OSError):  # removed while it is held: whoever opened it meanwhile notices, see `_acquired`
                (folder / name).unlink()
            os.close(descriptor)
            if os.name == "nt":  # an open file cannot be removed there
                with suppress(OSError):
                    (folder / name).unlink()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`."""
    for access in (os.O_RDWR, os.O_RDONLY):  # that of another user may only be read
        try:
            descriptor = os.open(path, access | getattr(os, "O_NOFOLLOW", 0))
            break
        except OSError as error:
            if not isinstance(error, PermissionError) or access == os.O_RDONLY:
                return False
    try:
        _lock(descriptor)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    finally:
        os.close(descriptor)  # and with it the lock
    return False


def _acquired(folder: Path, name: str) -> int | None:
    """The open lock file, `None` where the file system has no locks or the folder is read-only."""
    path = folder / name
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):  # what is written next fails with a better message
                return None
            rule, remedy = f"cannot be written to ({error.strerror})", Remedy(OTHER_FOLDER, "name another folder")
            raise FileWriteError("run_folder.not_locked", rule, file=folder, remedy=remedy) from error
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _UNSUPPORTED:
                return None
            rule = "is in use by another process, which trains, predicts or evaluates there"
            remedy = Remedy("wait until it ends", "stop it", OTHER_FOLDER)
            raise FileWriteError("run_folder.in_use", rule, file=folder, remedy=remedy) from error
        # the process before may have removed the file between the two steps; then another one may lock a new file of that name
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, 2**30, os.SEEK_SET)  # a locked part of a file cannot be read there; the lock is beyond its end
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
