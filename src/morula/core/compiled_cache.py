"""Where Numba stores compiled functions when the installation and the home folder are read-only.

Numba writes to `__pycache__` beside the module, else to the user's cache folder; where both are read-only (Apptainer, Docker with another
user, shared clusters), it refuses to compile functions with `cache=True`. Then a private folder in the temporary one takes their place.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def use_writable_cache() -> None:
    """Make Numba store compiled functions in a temporary folder if it can write nowhere else; worker processes do the same."""
    if os.environ.get(VARIABLE) or _can_write(Path(__file__).parents[1] / "__pycache__") or _can_write(_user_cache()):
        return
    folder = str(_private_folder())
    os.environ[VARIABLE] = folder
    # Numba reads the variable when it is imported
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = folder


def _user_cache() -> Path:
    """The cache folder of the user; relative, thus unusable, for a user without a home."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""))
    # os.path, because Path.expanduser raises an error without a home
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches"))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


def _can_write(folder: Path) -> bool:
    """Whether files can be written to a folder, or the folder made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return folder.is_absolute() and os.access(existing, os.W_OK)


def _private_folder() -> Path:
    """A folder of this user alone, the same on each call: cached code is unpickled, so nobody else may write there."""
    temporary = Path(tempfile.gettempdir())
    if not hasattr(os, "getuid"):  # Windows: the temporary folder belongs to the user
        return temporary / "morula-numba"
    folder = temporary / f"morula-numba-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="morula-numba-"))
