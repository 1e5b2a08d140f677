"""The row `tasks`: 100,000 tasks that do nothing, through the code that gives blocks to the workers of a Dask cluster."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator

from figures import Result, figure

TASKS = 100_000

_CHILD = """
import json, operator, resource, sys, tempfile, time
from pathlib import Path
from morula.workflows.cluster import opened

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, opened("local:2") as cluster:
        list(cluster.run(operator.neg, range(1000), Path(folder)))
        before, cpu, wall = peak(), time.process_time(), time.monotonic()
        found = sum(1 for _ in cluster.run(operator.neg, range(int(sys.argv[1])), Path(folder)))
        assert found == int(sys.argv[1])
        print(json.dumps({"memory": peak() - before, "cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}))
"""


def tasks(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Time and memory of the process with client and scheduler."""
    del before, options
    command = [sys.executable, "-c", _CHILD, str(TASKS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    yield {
        "title": "Blocks on a Dask cluster",
        "note": f"{TASKS:,} tasks that do nothing, given to two workers as blocks are. Client and scheduler are in one process.",
        "complete": True,
        "figures": [
            figure("client and scheduler, per block", "CPU-ms", [found["cpu"] / TASKS * 1e3], 2.0),
            figure("from start to end, per block", "ms", [found["wall"] / TASKS * 1e3]),
            figure("additional memory of client and scheduler", "MB", [found["memory"] / 1e6], 500),
        ],
    }
