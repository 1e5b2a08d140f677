"""The row `scale`: memory and time of `morula segment --memory 2GB` on volumes of 4 to 128 million voxels; stored volume by volume."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figure, Result, figure

MEMORY = "2GB"
TILES = {4: (1, 1, 1), 32: (2, 2, 2), 128: (2, 4, 4), 512: (4, 4, 8)}
"""Copies of the simulated volume along each axis, by millions of voxels; 512 is measured when it is named with --largest."""
SHAPE, SPACING = (96, 200, 210), (2.0, 1.0, 1.0)
FOLDER = Path(tempfile.gettempdir()) / "morula-bench-scale"

_CHILD = """
import json, resource, sys, time
import morula
began = time.process_time()
for event in morula.segment(sys.argv[1], model=sys.argv[2], output=sys.argv[3], memory=sys.argv[4] or None, overwrite=True):
    pass
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"peak": usage.ru_maxrss * 1024, "cpu": time.process_time() - began}))
"""


def scale(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Peak memory and CPU-seconds per million voxels of each volume, in a process of its own, and of the smallest one in memory."""
    figures: list[Figure] = list(before["figures"]) if before else []
    done = {row["what"] for row in figures}
    for millions in TILES:
        if millions == 512 and not options.largest:
            continue
        ways = {f"--memory {MEMORY}": MEMORY} | ({"all of the memory": ""} if millions == 32 else {})
        for way, memory in ways.items():
            name = f"{millions} M voxels, {way}"
            if f"{name}: peak memory" in done:
                continue
            peak, cpu = measured(millions, memory)
            figures.append(figure(f"{name}: peak memory", "GB", [peak / 1e9], 2.2 if memory else None))
            figures.append(figure(f"{name}: time", "CPU-s per M voxels", [cpu / math.prod(shape_of(millions)) * 1e6]))
            yield _result(figures, complete=False)
    yield _result(figures, complete=True)


def _result(figures: list[Figure], *, complete: bool) -> Result:
    return {
        "title": "Volumes larger than the memory",
        "note": f"Simulated nuclei, 16 bits, OME-Zarr; 3D U-Net with channels F, C, Db; `morula segment --memory {MEMORY}`, from start to "
        "end, in a process of its own. Peak of the resident memory.",
        "complete": complete,
        "figures": figures,
    }


def shape_of(millions: int) -> tuple[int, ...]:
    """Shape of a volume."""
    return tuple(n * copies for n, copies in zip(SHAPE, TILES[millions], strict=True))


def measured(millions: int, memory: str) -> tuple[float, float]:
    """Peak bytes and CPU-seconds of one command."""
    out = FOLDER / "cells.ome.zarr"
    command = [sys.executable, "-c", _CHILD, str(volume(millions)), str(trained()), str(out), memory]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found["peak"], found["cpu"]


def volume(millions: int) -> Path:
    """A simulated volume, written once."""
    from morula.io.write import write
    from morula.testing.simulate import simulate

    file = FOLDER / f"{millions}.ome.zarr"
    if not file.exists():
        image = simulate(shape=SHAPE, n_objects=900, rng=np.random.default_rng(5), spacing=SPACING).image
        write(file, np.tile(image, TILES[millions]), axes="ZYX", voxel_size=SPACING)
    return file


def trained() -> Path:
    """A small network, trained once on simulated volumes of the same kind."""
    import morula
    from morula.testing.simulate import simulate_data_set

    run = FOLDER / "run"
    if not (run / "model").is_dir():
        data = simulate_data_set(FOLDER / "data", n_train=4, n_test=1, shape=(32, 96, 96), n_objects=60, seed=1, spacing=SPACING)
        job = FOLDER / "job.yaml"
        job.write_text(
            f"images: {{train: {{raw: {data}/train/images, labels: {data}/train/labels}}, validate: 25%}}\n"
            "method: {kind: channels, channels: [F, C, Db]}\n"
            "network: {kind: unet, features: [8, 16, 32]}\n"
            "sampling: {patch: [16, 64, 64], batch: 2, patches_per_epoch: 48}\n"
            "training: {epochs: 12}\n"
        )
        for _ in morula.train(job, output=run, overwrite=True):
            pass
    return run
