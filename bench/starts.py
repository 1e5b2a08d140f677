"""The row `starts`: gain of a bundled model as the start of a training with 1, 5 and 20 labelled images, three seeds each."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figure, Result, figure

from labels import chosen, run

HERE = Path(__file__).resolve().parent
RUNS = HERE / "results" / "runs" / "starts"
"""Run folders; a stopped training continues where it stopped."""
SEEDS = (0, 1, 2)
STEPS = 100
TRAINING = {"epochs": 2, "steps_per_epoch": STEPS // 2, "ema_decay": 0.9}
FEATURES = [16, 32, 64, 128]
"""Those of the bundled models, so that both starts train the same network."""
SCRATCH = "from scratch"


@dataclass(frozen=True)
class Setting:
    """One data set with a number of labelled images, and the bundled model to start from."""

    data: str
    labelled: int
    model: str

    @property
    def starts(self) -> tuple[str, str]:
        """Names of the two starts."""
        return SCRATCH, f"from {self.model}"


SETTINGS = (
    Setting("histology2d", 5, "nuclei-stained"),
    Setting("histology2d", 1, "nuclei-stained"),
    *(Setting("nuclei2d", count, "nuclei") for count in (1, 5, 20)),
)
TRAININGS = [(setting, seed, start) for setting in SETTINGS for seed in SEEDS for start in setting.starts]


def starts(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """F1@0.5 of each training, stored when it ends, and the mean gain over scratch."""
    import torch

    data = Path(os.environ.get("MORULA_DATA", HERE.parent.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        print(f"starts: skipped, there are no images in {data}; name the folder in MORULA_DATA", flush=True)
        return
    torch.set_num_threads(options.threads)
    if options.again:
        shutil.rmtree(RUNS, ignore_errors=True)
    scores: dict[str, float] = dict(before["starts"]) if before else {}
    for setting, seed, start in TRAININGS:
        key = key_of(setting, seed, start)
        if key not in scores:
            scores[key] = trained(setting, seed, start, data)
            print(f"starts: {key}: F1@0.5 {scores[key]:.3f}", flush=True)
        yield summary(scores)


def key_of(setting: Setting, seed: int, start: str) -> str:
    """Name of one training."""
    return f"{setting.data}, {setting.labelled} labelled, seed {seed}, {start}"


def trained(setting: Setting, seed: int, start: str, data: Path) -> float:
    """F1@0.5 on the test images of one training."""
    from morula.measurement.csv_table import read_table

    folder = RUNS / f"{setting.data}_{setting.labelled}_{seed}"
    test = {"raw": str(data / setting.data / "test" / "images"), "labels": str(data / setting.data / "test" / "labels")}
    job: dict[str, Any] = {
        "images": {"train": chosen(data / setting.data, folder / "images", setting.labelled, seed), "validate": None, "test": test},
        "method": {"kind": "channels"},
        "network": {"kind": "unet", "features": FEATURES} if start == SCRATCH else {"kind": "unet", "from": setting.model},
        "sampling": {"patch": [128, 128], "batch": 4},
        "training": {**TRAINING, "seed": seed},
        "objects": {"refine": [{"remove_small": 20}]},
    }
    table = read_table(run(job, folder / start.replace(" ", "_")) / "scores.csv")
    here = (table["image"] == "pooled") & (table["threshold"] == 0.5)
    return float(table["f1"][here][0])


def summary(scores: dict[str, float]) -> Result:
    """Means over the seeds, and gains over scratch for seeds that were trained both ways."""
    figures: list[Figure] = []
    for setting in SETTINGS:
        scratch, bundled = (
            {seed: scores[key] for seed in SEEDS if (key := key_of(setting, seed, start)) in scores} for start in setting.starts
        )
        where = f"{setting.data}, {setting.labelled} labelled"
        for name, found in ((setting.starts[0], scratch), (setting.starts[1], bundled)):
            if found:
                figures.append(figure(f"{where}: {name}", "F1@0.5", list(found.values()), value=statistics.mean(found.values())))
        if both := sorted(set(scratch) & set(bundled)):
            gains = [bundled[seed] - scratch[seed] for seed in both]
            bar = 0.04 if (setting.data, setting.labelled) == ("histology2d", 5) else None
            figures.append(figure(f"{where}: gain", "F1@0.5", gains, bar, value=statistics.mean(gains)))
    return {
        "title": "Starting from a bundled model",
        "note": f"The same network from random weights and from a bundled model, {STEPS} steps of four patches each. Mean over the random "
        "seeds. `nuclei-stained` has seen no image of histology2d. The training images of nuclei2d are among those of `nuclei`, so its "
        "rows show how little is lost, not what a new data set would gain.",
        "complete": len(scores) == len(TRAININGS),
        "starts": scores,
        "figures": figures,
    }


ROWS = {"starts": starts}
