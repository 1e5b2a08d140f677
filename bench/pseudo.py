"""The row `wnet3d_pseudo`: gain of a network trained on the objects of WNet3D; labels are used for the scores only."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from figures import Result, figure
from real import HERE, RUNS, images_of

SPLITS = {"ovule": ("train", "val"), "embryo": ("train", "val", "test")}
MEANING = {"train": "volumes trained on", "val": "validation volumes", "test": "test volumes"}


def pseudo(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """Both stages of both jobs, scored on the labelled volumes; stopped runs are resumed."""
    figures = []
    for name, splits in SPLITS.items():
        data = images_of(f"nuclei3d_{name}")
        if data is None:
            return
        run, minutes = finished(name, data, options)
        for split in splits:
            f1 = {stage: pooled_f1(run / stage, data / split) for stage in ("1_wnet3d", "2_channels")}
            what = f"{name}, {MEANING[split]}: F1@0.5"
            figures += [figure(f"{what} of WNet3D", "", [f1["1_wnet3d"]]), figure(f"{what} of the second stage", "", [f1["2_channels"]])]
            figures.append(figure(f"{what}, gain", "", [f1["2_channels"] - f1["1_wnet3d"]]))
        figures += [figure(f"{name}: training of {stage}", "minutes", [duration], 20.0) for stage, duration in minutes.items()]
    yield {
        "title": "A second network trained on the objects of WNet3D",
        "note": f"`bench/jobs/wnet3d_pseudo_embryo.yaml` and `wnet3d_pseudo_ovule.yaml` on {options.threads} thread(s), two stages each: "
        "WNet3D on the training volumes without their labels, then a U-Net for F, C and Db on the objects that WNet3D found and "
        "on what its decoder called background. One seed. The decoder settings were chosen with labels of the training and "
        "validation volumes of the embryos and of both ovules; scores are pooled. On the embryos, WNet3D is that of the row "
        "`wnet3d_embryo`, the best of three seeds. Minutes are wall-clock on a shared machine, for the seed that is kept.",
        "complete": True,
        "figures": figures,
    }


def finished(name: str, data: Path, options: argparse.Namespace) -> tuple[Path, dict[str, float]]:
    """The run folder of both stages and the minutes of each training."""
    import torch

    import morula
    from morula.core.events import Epoch
    from morula.measurement.csv_table import read_table

    torch.set_num_threads(options.threads)
    RUNS.mkdir(parents=True, exist_ok=True)
    job, run = RUNS / f"wnet3d_pseudo_{name}.yaml", RUNS / f"wnet3d_pseudo_{name}"
    job.write_text((HERE / "jobs" / job.name).read_text().replace(f" {data.name}/", f" {data}/"))
    if options.again:
        shutil.rmtree(run, ignore_errors=True)
    for event in morula.iter_run(job, output=run, resume=run.is_dir()):
        if isinstance(event, Epoch):
            print(f"{name}: epoch {event.epoch}/{event.epochs}, loss {event.figures['loss']:.4f}", flush=True)
    stages = ("1_wnet3d", "2_channels")
    return run, {stage: float(read_table(run / stage / "logs" / "training.csv")["seconds"].sum()) / 60 for stage in stages}


def pooled_f1(run: Path, data: Path) -> float:
    """F1@0.5 of all objects of a folder's labelled volumes."""
    import morula

    model = morula.load(run)
    scores = {}
    for path in sorted((data / "images").glob("*.tif")):
        truth = np.asarray(morula.read(data / "labels" / path.name))
        scores[path.stem] = model.method.score(truth, np.asarray(model.segment(morula.read(path, voxel_size=model.voxel_size))))
    rows = model.method.score_rows(scores)
    return float(next(row["f1"] for row in rows if row["image"] == "pooled" and row["threshold"] == 0.5))


ROWS: dict[str, Callable[[Result | None, argparse.Namespace], Iterator[Result]]] = {"wnet3d_pseudo": pseudo}
