"""The section `inputs` of the row `trust`: bad inputs of every kind, each of which must end in one error that helps.

A process of its own reads them one after the other (`python bench/bad_inputs.py FOLDER`), in an empty current folder, and prints a line for
each: a process that hangs or dies fails with the input that it was reading, and the next one continues after it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from morula.testing.bad_images import BadInput

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "corpus"
CHANGES = 12
"""Changed copies of each file of the corpus."""

PATIENCE = 90.0
"""Seconds without a line after which a process is ended: an input may take 30, the start of the process about 10."""


def bad_input_section(stored: Collection[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Every bad input that is not stored yet, and what went wrong."""
    done = set(stored)
    while True:
        last = ""
        with tempfile.TemporaryDirectory() as folder:
            for name, failure in _tried(Path(folder), done):
                last = name
                if failure is not None:
                    done.add(name)
                    yield name, failure
        if not last or last in done:
            return
        done.add(last)
        yield last, f"the process ended, or did nothing for {PATIENCE:.0f} s"


def _tried(folder: Path, done: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Name and failure of each input; a name with `None` where the process begins with it."""
    (folder / "here").mkdir()
    (folder / "done.json").write_text(json.dumps(sorted(done)))
    command = ["timeout", "3000", sys.executable, str(Path(__file__).resolve()), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder / "here", stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, failure = json.loads(line)
            yield name, failure


def changed_corpus(folder: Path, *, seed: int = 0) -> Iterator[BadInput]:
    """Files of the corpus of `make fuzz`, one for each format, with flipped bits or cut short."""
    from morula.testing.bad_images import BadInput
    from morula.testing.bad_inputs import kind_of_file
    from morula.testing.mutations import flipped_bits

    for file in sorted(CORPUS.iterdir()):
        content, choice = file.read_bytes(), random.Random(f"{seed} {file.name}")
        for number in range(CHANGES):
            path = folder / f"{file.name}_{number}" / file.name
            path.parent.mkdir(parents=True)
            cut = len(content) if number % 4 else choice.randrange(len(content))
            path.write_bytes(flipped_bits(content[:cut], choice, count=number % 6))
            for kind in kind_of_file(file.name):
                yield BadInput(f"corpus {file.name} as {kind}, {number}", path, kind)


def main(folder: Path) -> None:
    """Try all inputs that are not done."""
    from morula.dialects.convert import convert
    from morula.jobs.load import load_job
    from morula.testing.bad_inputs import USES, attempt, bad_inputs

    def use_job(path: Path) -> None:
        load_job(path) if not any(word in path.parent.name for word in ("biapy", "unet3d")) else convert(path)

    done = set(json.loads((folder / "done.json").read_text()))
    for case in itertools.chain(bad_inputs(folder / "inputs"), changed_corpus(folder / "corpus")):
        if case.name in done:
            continue
        print(json.dumps([case.name, None]), flush=True)
        outcome = attempt(case, {**USES, "job": use_job})
        print(json.dumps([case.name, outcome.failure]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
