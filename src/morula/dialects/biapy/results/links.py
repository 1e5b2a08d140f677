"""Second names of the files of a run. They are hard links, copies where the file system has none, and replace own files only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from morula.core.atomic import atomic
from morula.core.events import Warned
from morula.core.manifest import discard_own


def link(source: Path, target: Path) -> Iterator[Warned]:
    """Give a file or folder a second name.

    Args:
        source: file, or folder such as a Zarr image.
        target: the second name; missing folders are made.

    Yields:
        a warning when there is a file of this name that Morula did not write; it stays.
    """
    if not is_free(target):
        yield kept(target)
        return
    with atomic(target) as part:
        if source.is_dir():
            shutil.copytree(source, part, copy_function=_link_or_copy)
        else:
            _link_or_copy(str(source), str(part))


def is_free(target: Path) -> bool:
    """Whether a name can be used: there is no such file, or it was as Morula wrote it and is removed."""
    return not os.path.lexists(target) or discard_own(target)


def kept(target: Path) -> Warned:
    """The warning about a file that is not replaced."""
    return Warned("biapy.not_own", f"{target} is not as Morula wrote it and is kept. Move it away to get the file of this run.")


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
    return target
