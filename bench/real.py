"""Rows on real images: a whole job each, from the images to the scores on its test images."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rows import Result, figure

HERE = Path(__file__).resolve().parent
BARS = {"nuclei2d": {0.5: 0.88, 0.75: 0.72}, "nuclei3d_embryo": {0.5: 0.70}}
TITLES = {"nuclei2d": "Real 2D nuclei", "nuclei3d_embryo": "Real 3D embryo nuclei"}


def real_job(name: str) -> Callable[[Result | None, argparse.Namespace], Iterator[Result]]:
    """The row of a data set."""

    def row(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
        data = Path(os.environ.get("MORULA_DATA", HERE.parent.parent / "shared" / "data")).resolve()
        if not (data / name).is_dir():
            print(f"{name}: skipped, there are no images in {data}; name the folder in MORULA_DATA", flush=True)
            return
        with tempfile.TemporaryDirectory() as folder:
            yield measured(name, data, Path(folder), options)

    return row


def measured(name: str, data: Path, folder: Path, options: argparse.Namespace) -> Result:
    """Run the job and read its scores."""
    import torch

    import morula
    from morula.core.events import Epoch, Finished
    from morula.io.tables import read_table

    torch.set_num_threads(options.threads)
    job = folder / "job.yaml"
    job.write_text((HERE / "jobs" / f"{name}.yaml").read_text().replace(f" {name}/", f" {data}/{name}/"))
    training = 0.0
    for event in morula.run(job, output=folder / "run"):
        if isinstance(event, Epoch):
            print(f"{name}: epoch {event.epoch}/{event.epochs}, loss {event.figures['loss']:.4f}", flush=True)
        training = event.seconds if isinstance(event, Finished) and event.stage == "train" else training
    scores = read_table(folder / "run" / "scores.csv")
    pooled = scores["image"] == "pooled"
    f1 = dict(zip(scores["threshold"][pooled].tolist(), scores["f1"][pooled].tolist(), strict=True))
    return {
        "title": TITLES[name],
        "note": f"`bench/jobs/{name}.yaml` on {options.threads} threads; F1 of all test objects together (higher is better), at several "
        "thresholds of the intersection over union; the best epoch is chosen on the validation images.",
        "complete": True,
        "figures": [
            *(figure(f"F1@{threshold:g}", "", [value], BARS[name].get(threshold)) for threshold, value in f1.items()),
            figure("training", "minutes", [training / 60], {"nuclei2d": 15.0, "nuclei3d_embryo": 45.0}[name]),
        ],
    }
