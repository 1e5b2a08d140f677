"""The row `labels`: gain of pretraining with few labels. The same networks from scratch and from crappify or masking, three seeds each."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, Result, figure

HERE = Path(__file__).resolve().parent
RUNS = HERE / "results" / "runs" / "labels"
"""Run folders; a stopped training continues where it stopped."""

Curve = dict[str, list[float]]
"""Steps of a training, and its loss there."""

SEEDS = (0, 1, 2)
PRETRAINING = {"epochs": 20, "steps_per_epoch": 40}
FINE_TUNING = {"epochs": 8, "steps_per_epoch": 50}
UNET: dict[str, Any] = {"kind": "unet"}
MASKED: dict[str, Any] = {"kind": "mae", "preset": "small", "token": 8}
UNETR: dict[str, Any] = {"kind": "unetr", "preset": "small", "token": 8}
STARTS = {
    "U-Net from scratch": (UNET, None),
    "U-Net from crappify": (UNET, "crappify"),
    "UNETR-Small from scratch": (UNETR, None),
    "UNETR-Small from masking": (UNETR, "masked_autoencoder"),
}


@dataclass(frozen=True)
class Setting:
    """One data set with a number of labelled images."""

    data: str
    labelled: int
    seeds: tuple[int, ...]
    starts: tuple[str, ...]
    patch: tuple[int, ...]
    batch: int


SETTINGS = (
    Setting("nuclei2d", 5, SEEDS, tuple(STARTS), (128, 128), 4),
    Setting("nuclei2d", 20, SEEDS, tuple(STARTS), (128, 128), 4),
    Setting("nuclei3d_embryo", 2, SEEDS[:1], tuple(STARTS)[:2], (16, 64, 64), 2),
)


def labels(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """F1@0.5 of each training, stored when it ends, and the mean gain of each pretraining over scratch."""
    import torch

    data = Path(os.environ.get("MORULA_DATA", HERE.parent.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        print(f"labels: skipped, there are no images in {data}; name the folder in MORULA_DATA", flush=True)
        return
    torch.set_num_threads(options.threads)
    if options.again:
        shutil.rmtree(RUNS, ignore_errors=True)
    scores: dict[str, float] = dict(before["scores"]) if before else {}
    curves: dict[str, Curve] = dict(before.get("curves", {})) if before else {}
    trainings = [(setting, seed, start) for setting in SETTINGS for seed in setting.seeds for start in setting.starts]
    for setting, seed, start in trainings:
        key = key_of(setting, seed, start)
        if key not in scores:
            scores[key] = trained(setting, seed, start, data)
            print(f"labels: {key}: F1@0.5 {scores[key]:.3f}", flush=True)
        if curve := curve_of(setting, seed, start):
            curves[key] = curve
        yield summary(scores, curves, complete=len(scores) == len(trainings))


def key_of(setting: Setting, seed: int, start: str) -> str:
    """Name of one training."""
    return f"{setting.data}, {setting.labelled} labelled, seed {seed}, {start}"


def folder_of(setting: Setting, seed: int) -> Path:
    """Folder of the trainings with these labelled images."""
    return RUNS / f"{setting.data}_{setting.labelled}_{seed}"


def curve_of(setting: Setting, seed: int, start: str) -> Curve | None:
    """Training loss over the steps of one training; `None` if its run folder is missing."""
    from morula.measurement.csv_table import read_table

    path = folder_of(setting, seed) / start.replace(" ", "_") / "logs" / "training.csv"
    if not path.is_file():
        return None
    table = read_table(path)
    return {name: [round(float(value), 5) for value in table[column]] for name, column in (("steps", "step"), ("loss", "loss"))}


def trained(setting: Setting, seed: int, start: str, data: Path) -> float:
    """F1@0.5 on the test images of one training."""
    from morula.measurement.csv_table import read_table

    network, pretext = STARTS[start]
    folder = folder_of(setting, seed)
    if pretext is not None:
        former = RUNS / f"{setting.data}_{pretext}"
        run(pretraining(setting, pretext, data), former)
        network = {"kind": network["kind"], "from": str(former)}
    source = chosen(data / setting.data, folder / "images", setting.labelled, seed)
    test = {"raw": str(data / setting.data / "test" / "images"), "labels": str(data / setting.data / "test" / "labels")}
    done = run(
        {
            "images": {"train": source, "validate": None, "test": test},
            "method": {"kind": "channels"},
            "network": network,
            "sampling": {"patch": list(setting.patch), "batch": setting.batch},
            "training": {**FINE_TUNING, "seed": seed, "ema_decay": 0.99},
            "objects": {"refine": [{"remove_small": 20}]},
        },
        folder / start.replace(" ", "_"),
    )
    table = read_table(done / "scores.csv")
    here = (table["image"] == "pooled") & (table["threshold"] == 0.5)
    return float(table["f1"][here][0])


def pretraining(setting: Setting, pretext: str, data: Path) -> dict[str, Any]:
    """The job that learns from all training images without their labels."""
    return {
        "images": {"train": {"raw": str(data / setting.data / "train" / "images")}, "validate": None},
        "method": {"kind": pretext},
        "network": MASKED if pretext == "masked_autoencoder" else UNET,
        "sampling": {"patch": list(setting.patch), "batch": setting.batch},
        "training": PRETRAINING,
    }


def chosen(source: Path, target: Path, count: int, seed: int) -> dict[str, str]:
    """Links to training images that the seed selects, and to their labels."""
    images = sorted((source / "train" / "images").iterdir())
    drawn = np.random.default_rng(seed).choice(len(images), min(count, len(images)), replace=False)
    for part in ("images", "labels"):
        (target / part).mkdir(parents=True, exist_ok=True)
        files = sorted((source / "train" / part).iterdir())
        for number in drawn:
            link = target / part / files[number].name
            if not link.exists():
                link.symlink_to(files[number])
    return {"raw": str(target / "images"), "labels": str(target / "labels")}


def run(job: dict[str, Any], folder: Path) -> Path:
    """The finished run of a job; a stopped one is resumed."""
    import morula

    finished = folder / "report.html"
    if not finished.is_file():
        for _ in morula.iter_run(job, output=folder, resume=(folder / "job.yaml").is_file()):
            pass
    return folder


def summary(scores: dict[str, float], curves: dict[str, Curve], *, complete: bool) -> Result:
    """Means over the seeds, and gains over scratch for seeds that were trained both ways."""
    figures: list[Figure] = []
    for setting in SETTINGS:
        for start in setting.starts:
            found = {seed: scores[key] for seed in setting.seeds if (key := key_of(setting, seed, start)) in scores}
            if not found:
                continue
            where = f"{setting.data}, {setting.labelled} labelled: {start}"
            figures.append(figure(where, "F1@0.5", list(found.values()), value=statistics.mean(found.values())))
            if STARTS[start][1] is None:
                scratch = found
            elif both := sorted(set(found) & set(scratch)):
                gains = [found[seed] - scratch[seed] for seed in both]
                figures.append(figure(f"{where}, gain over scratch", "F1@0.5", gains, value=statistics.mean(gains)))
    return {
        "title": "Few labels",
        "note": "The same networks trained from scratch and from pretraining without labels on all training images, with the same number "
        f"of steps ({FINE_TUNING['epochs'] * FINE_TUNING['steps_per_epoch']}). Mean over the random seeds, higher is better. No "
        "validation images.",
        "complete": complete,
        "scores": scores,
        "curves": curves,
        "figures": figures,
    }


ROWS = {"labels": labels}
