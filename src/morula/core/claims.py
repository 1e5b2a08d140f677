"""Claims on outputs: one process at a time writes a file beside others, in a folder of the user.

A run folder has one lock, see `morula.core.lock`. A folder of results may be written by many processes at once, as by the tasks of a batch
system that segment one image each. So a command claims the names that it writes: it holds the lock on a hidden file beside them, which
lists these names and is removed at the end::

    .morula-claim-5f0c1d2e.json     {"names": ["cells.tif", "cells.csv"], "share": ""}

The lock of a killed process is free; the next command removes its file.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from morula.core.errors import FileWriteError
from morula.core.lock import is_locked, locked
from morula.core.remedy import Remedy

_START, _END = ".morula-claim-", ".json"
_TABLE = ".morula-claims.lock"
"""Lock on the list of all claims of a folder, held only while a claim is compared with the others."""
_PATIENCE = 30.0
"""Seconds to wait for `_TABLE`."""


@contextmanager
def claimed(outputs: Iterable[Path], share: str = "") -> Iterator[None]:
    """Claim files or folders that are going to be written. Their folders are created.

    With `share`, only a share of the work on them is claimed: other processes may claim other shares, but not the whole.

    Raises:
        FileWriteError: ``output.in_use``, when another process (or another command of this one) writes one of them.

    Examples:
        >>> import tempfile
        >>> cells = Path(tempfile.mkdtemp()) / "cells.tif"
        >>> with claimed([cells]), claimed([cells.with_name("nuclei.tif")]):
        ...     with claimed([cells]):  # doctest: +IGNORE_EXCEPTION_DETAIL
        ...         pass
        Traceback (most recent call last):
        morula.core.errors.FileWriteError: cells.tif: is being written by another process
    """
    names: dict[Path, list[str]] = {}
    for output in outputs:
        names.setdefault(Path(os.path.realpath(output.parent)), []).append(output.name)
    with ExitStack() as held:
        # new folders last: a command that is refused has made none
        for folder in sorted(names, key=lambda folder: (not folder.is_dir(), folder)):
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{_START}{secrets.token_hex(4)}{_END}"
            with _table(folder):
                _check_free(folder, names[folder], share)
                held.enter_context(locked(folder, name))
                with suppress(OSError):  # a folder that is read-only: what is written next fails with a better message
                    (folder / name).write_text(json.dumps({"names": names[folder], "share": share}), encoding="utf-8")
        yield


@contextmanager
def _table(folder: Path) -> Iterator[None]:
    """Hold the lock on the claims of a folder, and wait for it where another process compares its own."""
    until = time.monotonic() + _PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(folder, _TABLE))
                break
            except FileWriteError as error:
                if error.code != "run_folder.in_use" or time.monotonic() > until:
                    raise
                time.sleep(0.02)
        yield


def _check_free(folder: Path, names: Collection[str], share: str) -> None:
    """Reject names that another process has claimed, or this share of them; remove the claims of killed processes."""
    wanted = {_comparable(name): name for name in names}
    for claim in folder.glob(f"{_START}*{_END}"):
        if not is_locked(claim):
            with suppress(OSError):
                claim.unlink()
            continue
        try:
            found = json.loads(claim.read_text(encoding="utf-8"))
            others = [] if share and found["share"] and found["share"] != share else found["names"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        for other in others:
            if (name := wanted.get(_comparable(other))) is not None:
                remedy = Remedy("wait until it ends", "stop it", "name another output")
                raise FileWriteError("output.in_use", "is being written by another process", file=folder / name, remedy=remedy)


def _comparable(name: str) -> str:
    """A name as file systems that ignore case see it: two tasks seldom write names that differ in nothing else."""
    return unicodedata.normalize("NFC", name).casefold()
