"""Failures of the operating system to write a file, as errors of Morula: with a reason and a remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from morula.core.errors import FileWriteError

_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "Free space, or write to another disk."),
    errno.EFBIG: ("the file is larger than the disk or your account allows", "Write to another disk."),
    errno.EDQUOT: ("the disk quota is used up", "Free space, or write to another disk."),
    errno.EACCES: ("permission denied", "Choose a folder of your own, or change its permissions."),
    errno.EPERM: ("permission denied", "Choose a folder of your own, or change its permissions."),
    errno.EROFS: ("the disk is read-only", "Choose another folder."),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "Use a shorter name."),
    errno.EISDIR: ("it is a folder", "Give the name of a file."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another folder."),
}
"""Reason and remedy by the error number of the operating system."""


def write_error(path: str | Path, error: OSError) -> FileWriteError:
    """The error to raise for a failure of the operating system while `path` was written."""
    known = _REMEDIES.get(error.errno or 0)
    if known is None:  # libraries such as HDF5 raise errors that have the text of the system but no number
        known = next((entry for number, entry in _REMEDIES.items() if os.strerror(number) in str(error)), None)
    reason, remedy = known or (str(error), "Correct that and run again.")
    failure = FileWriteError(
        "file.not_written", f"was not written: {reason}", remedy=f"{remedy} No partial file was left behind.", file=path
    )
    failure.errno = error.errno
    return failure
