"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from morula.core.errors import FileWriteError, MorulaError
from morula.core.location import suffix_of

_REMEDIES = {
    errno.ENOSPC: "the disk is full. Free space or write to another disk",
    errno.EFBIG: "the file is larger than this disk or a limit of your account allows. Write to another disk",
    errno.EDQUOT: "your disk quota is used up. Free space or write to another disk",
    errno.EACCES: "you may not write there. Choose a folder of your own or change its permissions",
    errno.EPERM: "you may not write there. Choose a folder of your own or change its permissions",
    errno.EROFS: "this disk is read-only. Choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder. Choose another folder",
}


def write_error(path: Path, error: OSError) -> FileWriteError:
    """The error to raise for a failure of the operating system while `path` was written."""
    why = _REMEDIES.get(error.errno or 0) or next((text for number, text in _REMEDIES.items() if os.strerror(number) in str(error)), None)
    said = FileWriteError(
        f"{str(path)!r} was not written: {why or f'{error}. Correct that and run again'}. Nothing half-written was left behind."
    )
    said.errno = error.errno
    return said


def check_absent(path: Path, overwrite: bool) -> None:
    """Refuse to replace what exists, unless told to.

    Raises:
        FileWriteError: when `path` exists and `overwrite` is false.
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        raise FileWriteError(f"{str(path)!r} exists already. Pass overwrite=True to replace it, or choose another name.")


def remove(path: Path) -> None:
    """Delete a file or a folder with all that it holds; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(temporary: Path, path: Path) -> None:
    """Move a finished file or folder to its name, in place of what is there."""
    if path.is_dir() and not path.is_symlink():
        # a folder cannot be replaced in one step: the old one steps aside and comes back when the move fails
        aside = _sibling(path, "old")
        path.rename(aside)
        try:
            temporary.rename(path)
        except OSError:
            aside.rename(path)
            raise
        shutil.rmtree(aside)
    else:
        temporary.replace(path)


def _sibling(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name[:100]}.{what}-{secrets.token_hex(4)}{suffix_of(path)}")


@contextmanager
def atomic(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name `path` when the block ends well and is removed otherwise.

    Missing parent folders are made. The temporary name ends in the same suffix.

    Raises:
        FileWriteError: when `path` exists and `overwrite` is false, the disk is full, or the place cannot be written to.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    check_absent(path, overwrite)
    temporary = _sibling(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        replace(temporary, path)
    except MorulaError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary.exists():
            remove(temporary)
