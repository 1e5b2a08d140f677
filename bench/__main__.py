"""Measure the figures of docs/benchmarks: `python -m bench [ROW ...]`.

Each row is stored in bench/results/ROW.json as soon as it is measured, and the pages are written again after it. A stored row is kept
unless it is named or `--again` is given. A stopped measurement of the rows `prediction` and `biapy_jobs` (by pair), `objects`, `decoders`
and `memory` (by line) and `trust` (by case) continues where it stopped. The rows `representations`, `volumes` and `slices_...` train one of
their lines per call.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import morula

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from biapy_beside import biapy_jobs  # noqa: E402 - the folder is not a package
from ceilings import ROWS as CEILING_ROWS  # noqa: E402
from figures import Result  # noqa: E402
from first_step import first_step  # noqa: E402
from page import write_pages  # noqa: E402
from plugin import plugin  # noqa: E402
from pseudo import ROWS as PSEUDO_ROWS  # noqa: E402
from real import real_job  # noqa: E402
from rows import PAIRS  # noqa: E402
from rows import ROWS as ARRAY_ROWS  # noqa: E402
from scale import scale  # noqa: E402
from starts import ROWS as START_ROWS  # noqa: E402
from steps import ROWS as STEP_ROWS  # noqa: E402
from tasks import tasks  # noqa: E402
from unet3d import ROWS as UNET3D_ROWS  # noqa: E402
from unet3d_prediction import ROWS as UNET3D_PREDICTION_ROWS  # noqa: E402

from labels import ROWS as LABEL_ROWS  # noqa: E402 - the folder is not a package
from representations import ROWS as REPRESENTATION_ROWS  # noqa: E402
from trust import ROWS as TRUST_ROWS  # noqa: E402

RESULTS = HERE / "results"
FEW_LABELS = {**LABEL_ROWS, **START_ROWS}
"""Rows of hours, measured by `make bench-labels`."""
REAL = ("nuclei2d", "histology2d", "nuclei3d_embryo", "neurons3d_fib25", "wnet3d_embryo", "wnet3d_mesospim")
REAL_ROWS = {name: real_job(name) for name in REAL}
ROWS = {
    **ARRAY_ROWS,
    **UNET3D_ROWS,
    **UNET3D_PREDICTION_ROWS,
    **CEILING_ROWS,
    **REAL_ROWS,
    **PSEUDO_ROWS,
    **REPRESENTATION_ROWS,
    **STEP_ROWS,
    **TRUST_ROWS,
    "scale": scale,
    "first_step": first_step,
    "biapy_jobs": biapy_jobs,
    "tasks": tasks,
    "napari": plugin,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the figures of docs/benchmarks.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to measure (default: all that are not stored): {', '.join(ROWS)}")
    parser.add_argument("--again", action="store_true", help="measure stored rows again, from the beginning")
    parser.add_argument("--largest", action="store_true", help="the row scale also measures 512 million voxels")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"stop the prediction row after this many pairs (default {PAIRS})")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the prediction row (default: all cores)")
    parser.add_argument("--epochs", type=int, help="training epochs per line of the tables of channel sets (default: those of its job)")
    options = parser.parse_args()
    known = {**ROWS, **FEW_LABELS}
    unknown = set(options.rows) - set(known)
    if unknown:
        parser.error(f"unknown row {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    RESULTS.mkdir(exist_ok=True)
    for name in options.rows or ROWS:
        path = RESULTS / f"{name}.json"
        before = json.loads(path.read_text()) if path.is_file() and not options.again else None
        if before and before["complete"] and name not in options.rows:
            print(f"{name}: stored; python -m bench {name} measures it again", flush=True)
            continue
        # finished trainings with few labels and faults that were tried are kept; `--again` repeats them
        resumed = None if before is None or (before["complete"] and name not in (*FEW_LABELS, *TRUST_ROWS)) else before
        for result in known[name](resumed, options):
            store(path, name, result)
            figures = (f"{figure['what']} {figure['value']:.3g} {figure['unit']}" for figure in result["figures"])
            print(f"{name}: {'; '.join(figures)}", flush=True)
        write_pages(HERE.parent / "docs" / "benchmarks", RESULTS)


def store(path: Path, name: str, result: Result) -> None:
    """Write a result with the place and date of its measurement, atomically."""
    facts = {
        "command": f"python -m bench {name}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": {"morula": morula.__version__, **{package: version(package) for package in ("numpy", "torch")}},
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**result, **facts}, indent=1) + "\n")
    temporary.replace(path)


def processor() -> str:
    """Name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
