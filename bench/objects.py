"""The row `objects`: encoding, decoding, matching and measuring compared with BiaPy, in one process, on the same inputs and one thread.

BiaPy is no dependency. Install it beside Morula (`pip install biapy==3.7.1`) where this row is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from beside import Operation, operations
from cells import cells

Result = dict[str, Any]
SHAPES = {"512 x 512": ((512, 512), 20.0), "64 x 256 x 256": ((64, 256, 256), 17.0)}
PAIRS, FEW = 7, 3
LONG, LONGER, LIMIT = 60.0, 180.0, 900.0
"""CPU-seconds of BiaPy's first call: above LONG it runs FEW times, above LONGER once; it is stopped after LIMIT."""
EVERY = 5.0
"""Seconds between two checks of the clock."""


def objects(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """CPU-seconds of each operation in alternating pairs; stored pair by pair."""
    try:
        release = version("biapy")
    except PackageNotFoundError:
        print("objects: left out; it needs BiaPy beside Morula in one environment (pip install biapy==3.7.1)", flush=True)
        return
    one_thread()
    done: dict[str, Any] = dict(before["pairs"]) if before else {}
    for shape, (size, radius) in SHAPES.items():
        small, large = cells((24,) * len(size), n=12, radius=6.0), cells(size, radius=radius)
        for operation in operations(len(size)):
            key = f"{operation.name}, {shape}"
            line = done.setdefault(key, {"bar": operation.bar, "ours": [], "theirs": [], "stopped": None, "same": ""})
            if finished(line):
                continue
            warm(operation, small)
            ours, theirs = operation.build(large)
            ours()
            while not finished(line):
                pair(line, operation, large, ours, theirs)
                yield _result(done, release, complete=False)
            del ours, theirs
    yield _result(done, release, complete=True)


def one_thread() -> None:
    """Limit NumPy and PyTorch to one thread, and this process to one core."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def warm(operation: Operation, labels: Any) -> None:
    """Import and compile what both sides need."""
    for call in operation.build(labels):
        seconds(call)


def wanted(line: dict[str, Any]) -> int:
    """Number of runs of BiaPy."""
    if line["stopped"]:
        return 0
    first = line["theirs"][0] if line["theirs"] else 0.0
    return 1 if first > LONGER else FEW if first > LONG else PAIRS


def finished(line: dict[str, Any]) -> bool:
    """Whether all pairs were measured."""
    return len(line["ours"]) >= PAIRS and len(line["theirs"]) >= wanted(line)


def pair(line: dict[str, Any], operation: Operation, labels: Any, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Run both alternately, or only ours if BiaPy has run often enough, and add the CPU-seconds of whole pairs to the line."""
    number = len(line["ours"])
    if len(line["theirs"]) >= wanted(line):
        line["ours"].append(seconds(ours)[0])
        return
    took, found = {}, {}
    for name, call in [("ours", ours), ("theirs", theirs)][:: 1 if number % 2 == 0 else -1]:
        took[name], result = seconds(call)
        if result is None:
            line["stopped"] = took[name]
        if number == 0:  # keeping large results would make the second call pay for new memory
            found[name] = result
        del result
    line["ours"].append(took["ours"])
    if not line["stopped"]:
        line["theirs"].append(took["theirs"])
    if number == 0:
        line["same"] = operation.same(labels, found["ours"], found["theirs"])


class Stopped(Exception):
    """A call took longer than LIMIT."""


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds of the process during a call, and its result; `None` if it was stopped after LIMIT."""

    def look(number: int, frame: object) -> None:
        if time.process_time() - begin > LIMIT:
            raise Stopped

    # a timer of CPU time would make the clock coarse, so the clock is checked at intervals
    former = signal.signal(signal.SIGALRM, look)
    found = None
    begin = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Stopped):
            found = call()
    finally:
        took = time.process_time() - begin
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    return took, found


def _result(done: dict[str, Any], release: str, *, complete: bool) -> Result:
    return {
        "title": "Operations on objects, compared with BiaPy",
        "note": f"300 touching cells; BiaPy {release} on the same arrays with equivalent options, both in one process on one core. The "
        f"figure is how many times as fast Morula is: median and range of {PAIRS} alternating pairs after a first call. Seconds "
        f"are medians of the CPU time of the process. If a call of BiaPy takes more than {LONG:g} s, it runs {FEW} times, above "
        f"{LONGER:g} s once, which the row says; it is stopped after {LIMIT:g} s. Decoders read noisy channels; rays, flows and "
        "embeddings are those of the row `decoders`. The row also gives F1@0.75 of the objects of Morula and of BiaPy against the "
        "truth, and of each against the other.",
        "complete": complete,
        "pairs": done,
        "figures": [_figure(key, done[key]) for key in keys() if done.get(key, {"ours": []})["ours"]],
    }


def keys() -> list[str]:
    """Names of all lines in order."""
    return [f"{operation.name}, {shape}" for shape, (size, _) in SHAPES.items() for operation in operations(len(size))]


def _figure(key: str, line: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    ours, theirs = line["ours"], line["theirs"]
    took = f"{statistics.median(theirs):.3g} s" if theirs else f"stopped after {line['stopped']:.0f} s"
    times = {0: "", 1: ", once"}.get(len(theirs), f", {len(theirs)} times") if finished(line) and len(theirs) < PAIRS else ""
    what = f"{key}: {statistics.median(ours):.3g} s, BiaPy {took}{times}" + (f" ({line['same']})" if line["same"] else "")
    if len(theirs) > 1:
        ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
    else:  # one call of BiaPy, finished or stopped, against each of ours
        ratios = [(theirs or [line["stopped"]])[0] / seconds for seconds in ours]
    least = {"at_least": True} if line["stopped"] else {}
    return {"what": what, "unit": "x", "value": statistics.median(ratios), "runs": ratios, "bar": line["bar"], **least}
