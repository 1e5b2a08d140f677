"""Errors for files that are missing or cannot be decoded."""

from __future__ import annotations

from pathlib import Path

from morula.core.errors import FileReadError, MissingFileError, MorulaError
from morula.core.family import did_you_mean
from morula.core.location import split_location


def unreadable_file(path: object, error: BaseException | str) -> FileReadError:
    """The error for a file that the library of its format cannot decode.

    Args:
        path: the file.
        error: what the library raised, or what is wrong in words.

    Examples:
        >>> print(unreadable_file("a.tif", "it has no pages"))  # doctest: +ELLIPSIS
        'a.tif' cannot be read (it has no pages). The file is damaged, truncated or not of the format of its name: copy it again ...
    """
    # a part that is missing in a file or folder that is there was never written: that is damage
    gone = isinstance(error, FileNotFoundError) and not split_location(str(path))[0].exists()
    if gone and not isinstance(error, MorulaError):
        return FileReadError("file.vanished", "no longer exists", file=str(path), remedy="Run the command again when it exists.")
    return FileReadError(
        "file.unreadable",
        f"cannot be read ({_first_line(error)})",
        file=str(path),
        remedy="The file is damaged, truncated or not of the format of its name: copy it again from its source.",
    )


def _first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    # libraries may print whole headers of a file in one line
    return lines[0][:200] if lines else type(error).__name__


def missing_file(path: Path) -> MissingFileError:
    """The error for a file that does not exist; the remedy names the most similar file in its folder."""
    parent = path.parent
    if not parent.is_dir():
        rule = f"does not exist; there is no folder {str(parent)!r} (current folder {str(Path.cwd())!r})"
        return MissingFileError("file.missing", rule, file=path, remedy="Correct the path.")
    similar = did_you_mean(path.name, [entry.name for entry in parent.iterdir()])
    return MissingFileError("file.missing", "does not exist", file=path, remedy=f"Correct the path.{similar}")
