"""Run the job files of `biapy_table.py` and `biapy_templates.py` in `tests/dialects` to the end.

``python bench/biapy_jobs.py [PART OF A NAME]...``
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import yaml

from morula.core.errors import JobError, MorulaError
from morula.dialects.biapy.experiment import run_experiment
from morula.dialects.biapy.folders import Experiment
from morula.dialects.converted import nested
from morula.workflows.run_settings import RunSettings

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.dialects.biapy_table import Keys, base, jobs, make_images
from tests.dialects.biapy_templates import TEMPLATES, reduced


def outcome(folder: Path, number: int, keys: Keys) -> str:
    """``ran``, or the problem."""
    path = folder / f"{number}.yaml"
    path.write_text(yaml.safe_dump(nested({key: value for key, value in keys.items() if value is not None})), encoding="utf-8")
    try:
        list(run_experiment(path, Experiment(folder / "out", "job", number), RunSettings(device="cpu")))
    except JobError as error:
        return f"refused: {error.problems[0]}"
    except MorulaError as error:
        return f"FAILED: {error}"
    return "ran"


def main() -> None:
    """Print one line per job, and how many ran."""
    wanted = sys.argv[1:] or [""]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_images(folder)
        every = {f"{ndim}D {name}": base(folder, ndim) | keys for ndim in (2, 3) for name, keys in jobs(ndim)}
        every |= {f"template {name}": reduced(keys, folder) for name, keys in TEMPLATES.items()}
        found = []
        for number, (name, keys) in enumerate(every.items(), start=1):
            if any(part in name for part in wanted):
                began = time.process_time()
                found.append(outcome(folder, number, keys))
                sys.stdout.write(f"{name}: {found[-1]} ({time.process_time() - began:.1f} CPU-seconds)\n")
                sys.stdout.flush()
        sys.stdout.write(f"{found.count('ran')} of {len(found)} ran\n")


if __name__ == "__main__":
    main()
