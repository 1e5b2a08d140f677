"""Atomic writing: a file appears complete or not at all.

Everything is written to a temporary name in the same folder, flushed to the disk and renamed at the end; renaming within a folder is
atomic.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from morula.core.durable import put_in_place
from morula.core.errors import FileWriteError, MorulaError
from morula.core.leftovers import remove_leftovers, temporary_name
from morula.core.manifest import record
from morula.core.outputs import check_own_folder
from morula.core.write_errors import write_error


def check_absent(path: Path, overwrite: bool) -> None:
    """Reject an output path that exists, unless `overwrite` is true.

    Raises:
        FileWriteError: when `path` exists and `overwrite` is false.
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        raise FileWriteError(
            "file.exists", "exists already", remedy="Pass overwrite=True to replace it, or choose another name.", file=path
        )


def remove(path: Path) -> None:
    """Delete a file, or a folder with its content. Does nothing when the path does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder to `path`, replacing what is there. In a run folder the file is recorded in its manifest.

    Raises:
        FileWriteError: when `path` is a folder that Morula did not write, or holds anything else; it stays.
    """
    if path.is_dir() and not path.is_symlink():
        if not temporary.is_dir():
            raise FileWriteError("output.is_folder", "is a folder, and not replaced by a file", file=path, remedy="Name a file.")
        check_own_folder(path)
        # a folder cannot be replaced in one step: the old one is renamed first, and renamed back when the second rename fails
        aside = temporary_name(path, "old")
        path.rename(aside)
        try:
            record(path, temporary)
            put_in_place(temporary, path)
        except OSError:
            aside.rename(path)
            raise
        shutil.rmtree(aside)
    else:
        record(path, temporary)
        put_in_place(temporary, path)
    remove_leftovers(path, "old")


@contextmanager
def atomic(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Context manager for atomic writing: yields a temporary path in the folder of `path`, with the same suffix.

    The temporary file or folder is renamed to `path` at the end of the block, and removed when the block raises. Missing parent folders
    are created.

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
    temporary = temporary_name(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path, "part")
        yield temporary
        replace(temporary, path)
    except MorulaError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary.exists():
            remove(temporary)
