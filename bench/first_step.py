"""The row `first_step`: training from a volume of a billion voxels, up to its first step."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Result, figure
from scale import FOLDER, SHAPE, SPACING

COPIES = (8, 4, 8)
"""Copies of the simulated volume along each axis: 1.03 billion voxels."""

_CHILD = """
import json, re, sys, time
began = time.monotonic()
import morula
from morula.core.events import Progress
for event in morula.train(sys.argv[1], output=sys.argv[2], overwrite=True):
    if isinstance(event, Progress) and event.task == ("train",) and event.done == 1:
        break
peak = re.search("VmHWM: *(.*) kB", open("/proc/self/status").read().replace("\\t", ""))  # rusage counts what the parent held at the start
print(json.dumps({"seconds": time.monotonic() - began, "peak": 1024 * int(peak[1])}))
"""


def first_step(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Time and memory of a process that trains on one volume, half of the patches centred on objects."""
    del before, options
    command = [sys.executable, "-c", _CHILD, str(job()), str(FOLDER / "first")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    yield {
        "title": "Training from a volume of a billion voxels",
        "note": "Simulated nuclei, 16 bits, and labels of 32 bits, both OME-Zarr; patches of 48 x 48 x 48, half of them centred on "
        "objects. From the start of the process to the end of the first step: data are checked, the objects of the whole volume are "
        "found, and the first patches are read.",
        "complete": True,
        "figures": [figure("first step", "s", [found["seconds"]], 60), figure("peak memory", "GB", [found["peak"] / 1e9], 2.0)],
    }


def job() -> Path:
    """The job; the images are written once."""
    from morula.io.write import write
    from morula.testing.simulate import simulate

    file = FOLDER / "first_step.yaml"
    if not file.exists():
        made = simulate(shape=SHAPE, n_objects=900, rng=np.random.default_rng(5), spacing=SPACING)
        for name, values in (("raw", made.image), ("labels", made.labels.astype(np.uint32))):
            write(FOLDER / f"first_{name}.ome.zarr", np.tile(values, COPIES), axes="ZYX", voxel_size=SPACING, overwrite=True)
        file.write_text(
            f"images: {{train: {{raw: {FOLDER}/first_raw.ome.zarr, labels: {FOLDER}/first_labels.ome.zarr}}}}\n"
            "method: {kind: channels, channels: [F, C, Db]}\n"
            "sampling: {patch: [48, 48, 48], batch: 2, foreground: 0.5, patches_per_epoch: 40}\n"
            "training: {epochs: 1}\n"
        )
    return file
