"""Fuzz every reader: `make fuzz`, or `python bench/fuzz.py [--minutes 10] [--seed 0]`.

Hypothesis changes the files of tests/corpus; reading each result must end well or in one error that helps, as for the bad inputs of
`python -m bench trust`. The smallest file that breaks the rule is written to tests/corpus, where a test reads it from then on: commit it
with the repair.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from morula.testing.bad_images import BadInput
from morula.testing.bad_inputs import attempt, kind_of_file

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "corpus"
ROUND = 50
"""Changed files between two looks at the clock."""
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 2**16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), st.integers(0, 2**16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("cut"), st.integers(0, 2**16), st.binary(max_size=4)),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    """A file after some changes; places are taken modulo its length."""
    for action, place, data in edits:
        place %= len(content) + 1
        if action == "cut":
            content = content[:place] + data
        else:
            content = content[:place] + data + content[place + (len(data) if action == "set" else 0) :]
    return content


def fuzz(name: str, number: int) -> str:
    """Change one file of the corpus many times. Returns the name of a new file of the corpus that breaks the rule, or nothing."""
    original, worst = (CORPUS / name).read_bytes(), list[tuple[str, bytes]]()

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def reads(edits: list[tuple[str, int, bytes]]) -> None:
        content = edited(original, edits)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "here", name)
            path.parent.mkdir()
            path.write_bytes(content)
            for kind in kind_of_file(name):
                failure = attempt(BadInput(name, path, kind)).failure
                if failure:
                    worst.append((f"{name} as {kind}: {failure}", content))
                assert not failure

    try:
        reads()
    except (AssertionError, Flaky):  # peak memory grows once per process, so that it fails once
        failure, content = worst[-1]
        print(failure, flush=True)
        found = CORPUS / f"{number}_{name}"
        found.write_bytes(content)
        return found.name
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz every reader.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, number, found = time.monotonic() + 60 * options.minutes, options.seed, list[str]()
    names = sorted(path.name for path in CORPUS.iterdir())
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):  # nothing may be written into the current folder
        while time.monotonic() < end:
            for name in names:
                if time.monotonic() < end:
                    found += filter(None, [fuzz(name, number)])
            number += 1
    print(f"{(number - options.seed) * ROUND} changes of each of {len(names)} files; {len(found)} break the rule: {', '.join(found)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
