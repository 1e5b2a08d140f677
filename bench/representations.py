"""One table on nuclei2d: each representation trained with the same network and as many steps, tuned on the validation images.

A call trains the next representation that is missing and stores its line; an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from real import HERE, RUNS, images_of
from rows import Result, figure

METHODS: dict[str, dict[str, Any]] = {
    "F+C": {"channels": ["F", "C"]},
    "Db+R": {"preset": "stardist"},
    "F+C+Db": {"channels": ["F", "C", "Db"]},
    "F+G": {"preset": "flows"},
    "A": {"preset": "affinities"},
    "F+C+D": {"channels": ["F", "C", "D"]},
    "F+H+V": {"channels": ["F", "H", "V"]},
    "E": {"preset": "embedseg"},
}
"""What `method` says of each line."""


def representations(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The lines so far and one more."""
    images = images_of("nuclei2d")
    if images is None:
        return
    lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
    missing = [name for name in METHODS if name not in {line[0] for line in lines}]
    lines.append(trained(missing[0], images, options))
    yield result(lines, options, complete=len(missing) == 1)


def trained(name: str, images: Path, options: argparse.Namespace) -> list[Any]:
    """Train, tune and score one representation; a line of the table."""
    import torch

    import morula
    from morula.core.events import Epoch, Finished
    from morula.io.tables import read_table

    torch.set_num_threads(options.threads)
    run = RUNS / f"representation_{name}"
    if options.again:
        shutil.rmtree(run, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    going_on = (run / "job.yaml").is_file()
    job = run / "job.yaml" if going_on else planned(name, images, options.epochs)
    figures: dict[str, float] = {}
    for event in morula.run(job, output=run, resume=going_on):
        if isinstance(event, Epoch):
            print(f"{name}: epoch {event.epoch}/{event.epochs}, loss {event.figures['loss']:.4f}", flush=True)
        elif isinstance(event, Finished):
            figures |= event.figures
    seconds = read_table(run / "logs" / "training.csv")["seconds"]
    tuned = yaml.safe_load((run / "job.yaml").read_text())["objects"]["tuned"]
    scores = (round(figures[f"F1@{threshold}"], 3) for threshold in ("0.5", "0.75", "0.9"))
    validation = [round(tuned[key], 3) for key in ("score_before", "score_after")]
    return [name, decoder_of(run), *scores, *validation, len(seconds), round(float(seconds.sum()) / 60, 1)]


def planned(name: str, images: Path, epochs: int) -> Path:
    """The job of one representation: that of the row nuclei2d with another method and number of epochs."""
    from morula.jobs.yaml_lines import parse_documents

    (text,) = parse_documents((HERE / "jobs" / "nuclei2d.yaml").read_text().replace(" nuclei2d/", f" {images}/"))
    document = text.data
    document["method"] = {"kind": "channels", **METHODS[name]}
    document["training"]["epochs"] = epochs
    job = RUNS / f"representation_{name}.yaml"
    job.write_text(yaml.safe_dump(document, sort_keys=False))
    return job


def decoder_of(run: Path) -> str:
    """Name of the decoder that made the objects of a run."""
    import morula
    from morula.labels.decode import decoder_name

    method = morula.load(run).method
    return decoder_name(method.representations, method.objects.process)


def result(lines: list[list[Any]], options: argparse.Namespace, *, complete: bool) -> Result:
    """The table so far, the best F1 at 0.5 first."""
    titles = ["channels", "decoder", "F1@0.5", "F1@0.75", "F1@0.9", "validation before tuning", "after", "epochs", "minutes"]
    return {
        "title": "Representations trained alike",
        "note": "nuclei2d: the same U-Net, augmentation and schedule (`bench/jobs/nuclei2d.yaml`) for each set of channels; as planned, "
        "the heads of Db+R have a convolution more, for 32 rays are more than the U-Net's 16 last features; "
        f"{options.epochs} epochs on {options.threads} thread(s), beside other work; thresholds and clean-up tuned on the "
        "validation images (mean F1 at 0.5, 0.75 and 0.9, before and after); scores on the test images.",
        "complete": complete,
        "table": {"titles": titles, "rows": sorted(lines, key=lambda line: -line[2])},
        "figures": [figure(f"{line[0]} F1@0.5", "", [line[2]]) for line in lines],
    }


ROWS = {"representations": representations}
