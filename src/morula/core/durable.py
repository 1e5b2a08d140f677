"""Order of writes that survives a power failure: the content is on the disk before the name, and the name before the next step.

Systems may write the new name of a file to the disk before its content. After a power failure the final name would then lead to an empty
or unfinished file. So every file gets its name in this order::

    write the content under a temporary name
    fsync the content (every file and folder of a folder)
    rename to the final name
    fsync the folder that holds the name
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_WITHOUT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""File systems, and kinds of files, that cannot be flushed; errors such as a full disk are raised."""


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a finished file or folder and rename it to `path`; a file there is replaced.

    Raises:
        OSError: when the disk is full or the place cannot be written.

    Examples:
        >>> import tempfile
        >>> part = Path(tempfile.mkdtemp(), "part")
        >>> _ = part.write_text("done")
        >>> put_in_place(part, part.with_name("whole"))
        >>> [file.name for file in part.parent.iterdir()]
        ['whole']
    """
    flush(temporary)
    os.replace(temporary, path)
    flush_folder(path.parent)


def flush(path: Path) -> None:
    """Write a file, or a folder with everything in it, from the memory of the system to the disk."""
    if not path.is_dir():
        _flush(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        return
    for place, _, files in os.walk(path, topdown=False):
        for name in files:
            flush(Path(place, name))
        flush_folder(Path(place))


def flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk. Windows does so by itself."""
    if os.name != "nt":
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise
    finally:
        os.close(descriptor)
