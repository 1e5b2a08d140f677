"""The row `trust`: faults that were tried, and how many of them lost or changed something. The target is 0 failures.

A section is a function that takes the cases that are stored already and the options of the command, and yields each further case as soon as
it was tried: its name, and what went wrong (an empty text where nothing did). A stopped measurement continues with the next case.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

from bad_inputs import bad_input_section
from faults import faults
from figures import Result, figure
from killed import killed

Case: TypeAlias = tuple[str, str]
"""Name of a case, and what went wrong."""
Section: TypeAlias = Callable[[Collection[str], argparse.Namespace], Iterator[Case]]

SECTIONS: dict[str, tuple[str, Section]] = {
    "killed": ("`kill -9` at random points of `train`, `segment`, `predict`, `evaluate`, `tune`; the same command again", killed),
    "faults": ("a full disk, signals and vanishing images during these commands; the same command again", faults),
    "inputs": (
        "bad images, jobs, models and run folders: each ends in one error with file, rule, remedy",
        bad_input_section,
    ),
}
"""By the name that is stored: what the table says, and the function."""


def trust(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """All sections, one after the other."""
    cases: dict[str, dict[str, str]] = {name: dict((before or {}).get("cases", {}).get(name, {})) for name in SECTIONS}
    for name, (_, section) in SECTIONS.items():
        for case, failure in section(cases[name], options):
            cases[name][case] = failure
            print(f"{name}, {case}: {failure or 'right'}", flush=True)
            yield _result(cases, complete=False)
    yield _result(cases, complete=True)


def _result(cases: dict[str, dict[str, str]], *, complete: bool) -> Result:
    figures, rows = [], list[list[Any]]()
    for name, (words, _) in SECTIONS.items():
        if not cases[name]:
            continue
        failures = sum(bool(failure) for failure in cases[name].values())
        figures += [figure(f"{name}, cases", "", [len(cases[name])]), figure(f"{name}, failures", "", [failures], 0)]
        rows.append([words, len(cases[name]), failures])
    return {
        "title": "Faults",
        "note": "Each case is tried in a process of its own. A failure is a lost or changed file of the user, a result that differs, a "
        "traceback or an end without a message. The target is 0 failures.",
        "complete": complete,
        "cases": cases,
        "figures": figures,
        "table": {"titles": ["what is tried", "cases", "failures"], "rows": rows},
    }


ROWS = {"trust": trust}
