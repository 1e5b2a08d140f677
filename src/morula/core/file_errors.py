"""The errors for files that are missing or damaged."""

from __future__ import annotations

from pathlib import Path

from morula.core.errors import FileReadError, MissingFileError
from morula.core.family import did_you_mean


def unreadable_file(path: object, error: BaseException | str) -> FileReadError:
    """The error for a file that its format's own library cannot decode."""
    return FileReadError(
        f"{str(path)!r} cannot be read ({_first_line(error)}). The file is damaged, truncated or not of the kind that its name says: "
        "copy it again from where it came from and compare the sizes."
    )


def _first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def missing_file(path: Path) -> MissingFileError:
    """The error for a file that does not exist, with the nearest name that does."""
    parent = path.parent
    if not parent.is_dir():
        return MissingFileError(
            f"{str(path)!r} does not exist; there is no folder {str(parent)!r} (from {str(Path.cwd())!r}). Correct the path."
        )
    near = did_you_mean(path.name, [each.name for each in parent.iterdir()])
    return MissingFileError(f"{str(path)!r} does not exist. Correct the path.{near}")
