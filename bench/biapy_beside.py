"""Row `biapy_jobs`: whole jobs of BiaPy 3.7.1 by Morula and by BiaPy in turn, each in a process of its own.

BiaPy is no dependency. Install it beside Morula (`pip install biapy==3.7.1`) where this row is measured; every finished pair is stored.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from figures import Figure, Result, figure
from real import images_of

from morula.dialects.converted import nested
from morula.testing.simulate import simulate_data_set

Keys = dict[str, Any]
Pair = dict[str, list[float]]
"""What a job took and reached: ours and theirs of every figure."""

THEIRS = "import sys; from biapy import BiaPy; BiaPy(sys.argv[1], result_dir=sys.argv[2], name='job', run_id=1, gpu='').run_job()"
OURS = "import sys; from morula.cli import main; sys.exit(main())"
SCORES = {"F1@0.5": "0.5 TH f1", "F1@0.75": "0.75 TH f1"}
NOTE = (
    "Both programs run the same YAML file in turn, each in a process of its own, from its start to its end: CPU-seconds and seconds of the "
    "whole process, {threads} thread(s); the first program of a pair alternates. Figures are medians of the pairs. BiaPy {release}."
)


@dataclass(frozen=True)
class Whole:
    """A job, the bars of its ratios by figure, and what is trained before it, if anything."""

    name: str
    keys: Callable[[Path], Keys]
    bars: dict[str, float]
    before: Callable[[Path], Keys] | None = None


def _system(kind: str, ndim: int) -> Keys:
    return {"SYSTEM.SEED": 0, "SYSTEM.NUM_WORKERS": 0, "SYSTEM.NUM_CPUS": 1, "PROBLEM.TYPE": kind, "PROBLEM.NDIM": f"{ndim}D"}


def nuclei(folder: Path) -> Keys:
    """2D U-Net with foreground and contours, 20 epochs, then the test images."""
    data = images_of("nuclei2d")
    assert data is not None
    places = {f"DATA.{part}.{key}": str(data / part.lower() / kind) for part in ("TRAIN", "VAL", "TEST") for key, kind in _KINDS}
    return _system("INSTANCE_SEG", 2) | places | _TRAINING | {
        "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": ["F", "C"], "DATA.PATCH_SIZE": "(256, 256, 1)", "DATA.VAL.FROM_TRAIN": False,
        "DATA.TEST.LOAD_GT": True, "MODEL.ARCHITECTURE": "unet", "MODEL.FEATURE_MAPS": [16, 32, 64, 128, 256],
        "MODEL.DROPOUT_VALUES": [0, 0, 0, 0, 0], "TRAIN.EPOCHS": 20, "TRAIN.BATCH_SIZE": 6, "TRAIN.LR": 1e-3, "TEST.ENABLE": True,
    }  # fmt: skip


def masking(folder: Path) -> Keys:
    """The document's masked autoencoder on the training images, three epochs."""
    data = images_of("nuclei2d")
    assert data is not None
    return _system("SELF_SUPERVISED", 2) | _TRAINING | {
        "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": "masking", "DATA.PATCH_SIZE": "(256, 256, 1)", "DATA.VAL.FROM_TRAIN": True,
        "DATA.TRAIN.PATH": str(data / "train" / "images"), "DATA.VAL.SPLIT_TRAIN": 0.1, "MODEL.ARCHITECTURE": "mae",
        "MODEL.MAE_MASK_TYPE": "grid", "TRAIN.EPOCHS": 3, "TRAIN.BATCH_SIZE": 4, "TRAIN.LR": 1e-4, "TEST.ENABLE": False,
    }  # fmt: skip


def volume(folder: Path) -> Keys:
    """Test of a 3D residual U-Net on a volume of 96^3 voxels with padding 16."""
    return _volumes(folder) | {"TRAIN.ENABLE": False, "TEST.ENABLE": True, "MODEL.LOAD_CHECKPOINT": True}


def _volume_training(folder: Path) -> Keys:
    return _volumes(folder) | {"TRAIN.ENABLE": True, "TEST.ENABLE": False}


def _volumes(folder: Path) -> Keys:
    places = {f"DATA.{part}.{key}": str(folder / part.lower() / kind) for part in ("TRAIN", "TEST") for key, kind in _KINDS}
    return _system("INSTANCE_SEG", 3) | places | _TRAINING | {
        "PROBLEM.INSTANCE_SEG.DATA_CHANNELS": ["F", "C"], "DATA.PATCH_SIZE": "(64, 64, 64, 1)", "DATA.TEST.PADDING": "(16,16,16)",
        "DATA.VAL.FROM_TRAIN": True, "DATA.VAL.SPLIT_TRAIN": 0.5, "DATA.TEST.LOAD_GT": True, "MODEL.ARCHITECTURE": "resunet",
        "MODEL.FEATURE_MAPS": [16, 32, 64], "MODEL.DROPOUT_VALUES": [0, 0, 0], "MODEL.Z_DOWN": [2, 2], "TRAIN.EPOCHS": 20,
        "TRAIN.BATCH_SIZE": 1, "TRAIN.LR": 1e-3,
    }  # fmt: skip


_KINDS = (("PATH", "images"), ("GT_PATH", "labels"))
_TRAINING: Keys = {"TRAIN.ENABLE": True, "TRAIN.OPTIMIZER": "ADAMW", "TRAIN.PATIENCE": -1, "DATA.TRAIN.IN_MEMORY": True}
CASES = (
    Whole("test of a 3D residual U-Net, 96 x 96 x 96", volume, {"CPU-s": 0.35}, _volume_training),
    Whole("masked autoencoder, 3 epochs of 72 images", masking, {"CPU-s": 0.6}),
    Whole("2D U-Net, nuclei2d, 20 epochs and test", nuclei, {"s": 0.6}),
)


def biapy_jobs(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """One result per finished pair of each case."""
    try:
        release = version("biapy")
    except PackageNotFoundError:
        print("biapy_jobs: left out; it needs BiaPy and Morula in one environment (pip install biapy==3.7.1)", flush=True)
        return
    if images_of("nuclei2d") is None:
        return
    done: dict[str, list[Pair]] = dict(before["pairs"]) if before else {}
    with tempfile.TemporaryDirectory() as place:
        for case in CASES:
            runs = done.setdefault(case.name, [])
            folder = Path(place) / str(CASES.index(case))
            while len(runs) < options.pairs:
                runs.append(pair(case, folder, len(runs), options.threads))
                yield {
                    "title": "Whole jobs, compared with BiaPy",
                    "note": NOTE.format(threads=options.threads, release=release),
                    "complete": all(len(done.get(each.name, [])) >= options.pairs for each in CASES),
                    "pairs": done,
                    "figures": [line for each in CASES for line in figures(each, done.get(each.name, []))],
                }


def figures(case: Whole, runs: list[Pair]) -> Iterator[Figure]:
    """Seconds of both, their ratios, and the scores of both."""
    for name in runs[0] if runs else ():
        both = [[run[name][side] for run in runs] for side in (0, 1)]
        for program, values in zip(("morula", "BiaPy"), both, strict=True):
            unit = name if name in ("s", "CPU-s") else ""
            yield figure(f"{case.name}: {program}{'' if unit else ', ' + name}", unit, values, value=statistics.median(values))
        if name in ("s", "CPU-s"):
            ratios = [a / b for a, b in zip(*both, strict=True)]
            what = f"{case.name}: morula / BiaPy, {'time' if name == 's' else 'CPU time'}"
            yield figure(what, "x", ratios, case.bars.get(name), value=statistics.median(ratios))


def pair(case: Whole, folder: Path, number: int, threads: int) -> Pair:
    """Both programs once on the case."""
    if case.before is not None and not folder.exists():
        simulate_data_set(folder, n_train=2, n_test=1, shape=(96, 96, 96), n_objects=70)
        run(OURS, job_file(folder / "before.yaml", case.before(folder)), folder / "start", threads)
    folder.mkdir(exist_ok=True)
    job = job_file(folder / "job.yaml", case.keys(folder))
    found: list[dict[str, float]] = [{}, {}]
    for side in (0, 1) if number % 2 else (1, 0):
        out = folder / ("ours", "theirs")[side]
        shutil.rmtree(out, ignore_errors=True)
        if case.before is not None:  # the weights to test; results of the training are not taken along
            shutil.copytree(folder / "start" / "job" / "checkpoints", out / "job" / "checkpoints")
        found[side] = run((OURS, THEIRS)[side], job, out, threads) | scores(out)
    return {name: [found[0][name], found[1][name]] for name in found[0] if name in found[1]}


def run(program: str, job: Path, out: Path, threads: int) -> dict[str, float]:
    """Seconds and CPU-seconds of a program on a job."""
    given = ["run", "--config", job, "--result_dir", out, "--name", "job", "--run_id", "1", "--gpu", ""] if program == OURS else [job, out]
    variables = {**os.environ, **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "NUMBA")}}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-c", program, *map(str, given)], env=variables, capture_output=True, text=True, cwd=job.parent)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{job} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return {"s": seconds, "CPU-s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def scores(out: Path) -> dict[str, float]:
    """Scores over all test images, from the objects that the table of the results counts."""
    found: dict[str, float] = {}
    for table in out.glob("job/results/job_1/test_results_metrics.csv"):
        rows = list(csv.DictReader(table.read_text().splitlines()))
        for name, column in SCORES.items():
            threshold = column.split(" ")[0]
            counts = {kind: sum(float(row[f"{threshold} TH {kind}"]) for row in rows) for kind in ("tp", "fp", "fn")}
            found[name] = 2 * counts["tp"] / max(2 * counts["tp"] + counts["fp"] + counts["fn"], 1)
    return found


def job_file(path: Path, keys: Keys) -> Path:
    """The job as YAML."""
    path.write_text(yaml.safe_dump(nested(keys)), encoding="utf-8")
    return path
