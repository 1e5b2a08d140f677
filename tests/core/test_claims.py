"""Claims: one process at a time writes an output, others in the same folder go on, and killed processes leave no claim."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from morula.core.claims import claimed
from morula.testing.errors import raises

HOLD = """
import sys, time
from pathlib import Path
from morula.core.claims import claimed
with claimed(map(Path, sys.argv[1:])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(*outputs: Path) -> subprocess.Popen[str]:
    """A process that holds the claims until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, *map(str, outputs)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_claim_ends_with_its_process_however_that_happens(tmp_path: Path) -> None:
    cells, nuclei = tmp_path / "cells.tif", tmp_path / "nuclei.tif"
    process = holder(cells, tmp_path / "new" / "cells.csv")
    try:
        with raises("output.in_use", file=str(cells)), claimed([nuclei, cells]):
            pass
        with claimed([nuclei]):  # the tasks of a batch system write into one folder
            pass
    finally:
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert len(list(tmp_path.glob(".morula-*"))) == 1
    with claimed([cells]):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_other_spellings_of_a_name_are_the_same_output(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with claimed([tmp_path / "Zelle\u0301.tif"]):
        for name in ("zell\u00e9.TIF", "link/Zelle\u0301.tif"):
            with raises("output.in_use"), claimed([tmp_path / name]):
                pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be written to")
def test_folders_without_locks_are_no_obstacle(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with claimed([tmp_path / "cells.tif"]):
            assert not any(tmp_path.iterdir())
    finally:
        tmp_path.chmod(0o700)
