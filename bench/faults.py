"""The section `faults` of the row `trust`: a full disk, signals and vanishing images in the middle of commands, and read-only folders.

Each command ends in one message without a traceback, leaves no unfinished file, and gives the same results when it is repeated after the
fault is gone.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from killed import COMMANDS, in_process, make, results

TRACEBACK = 70
"""Exit code of a command that ended with an error that is none of Morula's."""
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


def faults(done: Collection[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Cases ``FAULT COMMAND POINT``, and what is wrong."""
    wanted = {case for case in all_cases() if case not in done}
    if not wanted:
        return
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make(place)
        mounted = mount(place / "work")
        try:
            for name in COMMANDS:
                cases = [case for case in all_cases() if case in wanted and case.split()[1] == name]
                if not cases:
                    continue
                empty(place, name)
                began = time.monotonic()
                code = ended(place, name, again=False)
                if code != 0:
                    yield cases[0], f"the command failed without a fault, with code {code}"
                    continue
                seconds, expected = time.monotonic() - began, results(place)
                for case in cases:
                    if case.startswith("full") and not mounted:
                        print(f"{case}: left out, because no file system of limited size can be mounted", flush=True)
                        continue
                    empty(place, name)
                    yield (
                        case,
                        FAULTS[case.split()[0]](place, name, random.Random(case).random() * seconds) or repeated(place, name, expected),
                    )
        finally:
            if mounted:
                subprocess.run(["umount", str(place / "work")], check=False)


def all_cases() -> list[str]:
    """Two points of each fault in each command."""
    return [f"{fault} {name} {point}" for fault in FAULTS for name in COMMANDS for point in range(2)]


def mount(folder: Path) -> bool:
    """Put a small file system at a folder; false where that is not permitted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0


def empty(place: Path, name: str) -> None:
    """The state before a command, in a folder that may be the root of a file system."""
    for path in (place / "work").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name != "train":
        shutil.copytree(place / "base" / "run", place / "work" / "run")


def ended(place: Path, name: str, *, again: bool, meanwhile: Callable[[int], None] | None = None) -> int:
    """Exit code of a command as on the command line; `meanwhile` gets the number of its process."""
    return in_process(lambda: _as_command(place, name, again), meanwhile=meanwhile)


def _as_command(place: Path, name: str, again: bool) -> None:
    import typer

    from morula.cli.show import reporting_errors

    try:
        with reporting_errors():
            COMMANDS[name](place, again)
    except typer.Exit as end:
        os._exit(end.exit_code)
    except BaseException as error:  # noqa: BLE001 - what a user would see as a traceback
        print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr, flush=True)
        os._exit(TRACEBACK)


def by_signal(number: int) -> Callable[[Path, str, float], str]:
    """A signal after some seconds."""

    def fault(place: Path, name: str, seconds: float) -> str:
        def send(child: int) -> None:
            time.sleep(seconds)
            os.kill(child, number)

        code = ended(place, name, again=False, meanwhile=send)
        # the negative number: it came before the command took over what the signal does
        return "" if code in (0, 1, 128 + number, -number) else f"ended with code {code}"

    return fault


def full_disk(place: Path, name: str, seconds: float) -> str:
    """Nearly no space for the command; what is free differs by the point."""
    free = shutil.disk_usage(place / "work").free
    left = random.Random(seconds).choice([0, 4096, 20_000, 60_000])
    (place / "work" / "ballast").write_bytes(b"\0" * max(0, free - left - 4096))
    code = ended(place, name, again=False)
    (place / "work" / "ballast").unlink()
    return "" if code in (0, 1) else f"ended with code {code}"


def vanishing(place: Path, name: str, seconds: float) -> str:
    """The images are renamed in the middle, and come back."""
    data, gone = place / "data", place / "gone"
    timer = threading.Timer(seconds, lambda: data.rename(gone))
    code = ended(place, name, again=False, meanwhile=lambda child: timer.start())
    timer.join()
    gone.rename(data)
    return "" if code in (0, 1) else f"ended with code {code}"


FAULTS: dict[str, Callable[[Path, str, float], str]] = {
    **{name: by_signal(number) for name, number in SIGNALS.items()},
    "full": full_disk,
    "vanished": vanishing,
}


def repeated(place: Path, name: str, expected: dict[str, bytes]) -> str:
    """What is wrong after the command was given again."""
    finished = results(place) == expected
    halves = [path.name for path in (place / "work").rglob(".*.part-*")]
    if halves:
        return f"unfinished files were left: {', '.join(halves[:3])}"
    code = ended(place, name, again=True)
    if code != 0 and not (finished and name == "segment"):  # whose results are not replaced once they are finished
        return f"the command that was given again ended with code {code}"
    found = results(place)
    other = sorted(file for file in expected.keys() | found.keys() if expected.get(file) != found.get(file))
    return f"other results: {', '.join(other[:4])}" if other else ""
