"""Tables of channel sets that are trained with the same network and number of steps: on nuclei2d, on simulated volumes, on slices of these.

A call trains the next missing channel set and stores its line. A stopped training continues where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from figures import Result, figure
from real import HERE, RUNS, images_of

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
"""The section `method` of each line."""


IN_VOLUMES: dict[str, dict[str, Any]] = {
    "F+C": {"channels": ["F", "C"]},
    "F+T": {"channels": ["F", "T"]},
    "F+P+C": {"channels": ["F", "P", "C"]},
    "F+C+Dc": {"channels": ["F", "C", "Dc"]},
    "F+C+D": {"channels": ["F", "C", "D"]},
    "F+C+M": {"channels": ["F", "C", "M"]},
    "F+C+Db+Dn": {"channels": ["F", "C", "Db", "Dn"]},
    "F+H+V+Z": {"channels": ["F", "H", "V", "Z"]},
    "F+G": {"preset": "flows"},
    "E": {"preset": "embedseg"},
    "A": {"preset": "affinities"},
    "Db+R": {"preset": "stardist"},
}
"""The same for the table of volumes."""

FROM_SLICES = {name: {**METHODS, **IN_VOLUMES}[name] for name in ("E", "A", "F+C+Db", "F+G", "F+H+V+Z", "Db+R", *IN_VOLUMES)}
"""The same for the tables of annotated slices, the most different ones first."""

SPACING = (0.5, 0.25, 0.25)
UNLABELLED = 65535
SLICES: dict[str, list[Any]] = {
    "along_z": [np.s_[4], np.s_[10], np.s_[16]],
    "each_axis": [np.s_[10], np.s_[:, 36], np.s_[:, :, 36]],
}
"""Annotated slices of a volume of 20 x 72 x 72 voxels."""
LAYOUTS = {
    "along_z": ("Representations learned from three slices along z", "the slices 4, 10 and 16 of 20", "15 %"),
    "each_axis": ("Representations learned from a slice across each axis", "the middle slices perpendicular to z, y and x", "8 %"),
}
"""Title, slices and their share of a volume, for the page."""
TITLES = ["channels", "decoder", "F1@0.5", "F1@0.75", "F1@0.9"]


def representations(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The stored lines and one more."""
    images = images_of("nuclei2d")
    if images is None:
        return
    lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
    missing = [name for name in METHODS if name not in {line[0] for line in lines}]
    run, figures = trained("nuclei2d", missing[0], METHODS[missing[0]], images, options)
    tuned = yaml.safe_load((run / "job.yaml").read_text())["objects"]["tuned"]
    lines.append([missing[0], *scores(run, figures), *(round(tuned[key], 3) for key in ("score_before", "score_after")), *effort(run)])
    titles = ["channels", "decoder", "F1@0.5", "F1@0.75", "F1@0.9", "validation before tuning", "after", "epochs", "minutes"]
    note = (
        "nuclei2d: the same U-Net, augmentation and schedule (`bench/jobs/nuclei2d.yaml`) for each channel set. As planned, the heads of "
        "Db+R have one more convolution, because 32 rays exceed the 16 features of the last level. "
        f"{options.threads} thread(s), beside other processes. Thresholds and clean-up are tuned on the validation images (mean F1 at "
        "0.5, 0.75 and 0.9 before and after); scores on the test images."
    )
    yield table("Channel sets trained alike on 2D nuclei", note, titles, lines, complete=len(missing) == 1)


def volumes(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The stored lines and one more, on volumes that are simulated if they are missing."""
    lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
    missing = [name for name in IN_VOLUMES if name not in {line[0] for line in lines}]
    run, figures = trained("volumes", missing[0], IN_VOLUMES[missing[0]], simulated(), options)
    lines.append([missing[0], *scores(run, figures)])
    note = (
        "Simulated volumes with voxels twice as long along z: the same U-Net and 400 small steps (`bench/jobs/volumes.yaml`) for each "
        "channel set, decoders as planned, nothing tuned. The table shows whether a channel set is learned at all in 3D, not how good it "
        f"can get. {options.threads} thread(s), beside other processes; scores on the test volumes."
    )
    yield table("Channel sets trained alike on volumes", note, TITLES, lines, complete=len(missing) == 1)


def annotated(layout: str) -> Callable[[Result | None, argparse.Namespace], Iterator[Result]]:
    """The row of one layout of annotated slices."""

    def row(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
        """The stored lines and one more, trained on labels of a few slices."""
        lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
        missing = [name for name in FROM_SLICES if name not in {line[0] for line in lines}]
        images = simulated()
        labels = {"labels": str(slices_of(images, layout)), "ignore_label": UNLABELLED}
        run, figures = trained("volumes", missing[0], FROM_SLICES[missing[0]], images, options, called=f"slices_{layout}", labels=labels)
        after = tuned(run)
        lines.append([missing[0], *scores(run, figures), *(round(after[f"F1@{threshold}"], 3) for threshold in ("0.5", "0.75"))])
        title, which, share = LAYOUTS[layout]
        note = (
            f"Volumes, network and steps are those of the table of volumes. Training and validation use {which} of each volume "
            f"only ({share} of its voxels). Scores before and after `morula tune`, which uses these slices only, on all labels of the test "
            f"volumes. {options.threads} thread(s), beside other processes."
        )
        yield table(title, note, [*TITLES, "tuned: F1@0.5", "tuned: F1@0.75"], lines, complete=len(missing) == 1)

    return row


def simulated() -> Path:
    """The volumes; simulated if they are missing."""
    from morula.testing.simulate import simulate_data_set

    images = RUNS / "volumes"
    if not images.is_dir():
        made = RUNS / "volumes.part"
        shutil.rmtree(made, ignore_errors=True)
        simulate_data_set(made, n_train=6, n_test=3, shape=(20, 72, 72), n_objects=36, seed=1, spacing=SPACING)
        made.rename(images)
    return images


def slices_of(images: Path, layout: str) -> Path:
    """Folder of the training labels in which only a few slices are annotated."""
    import morula

    folder = RUNS / f"slices_{layout}"
    for path in sorted((images / "train" / "labels").iterdir()):
        labels = np.asarray(morula.read(path))
        kept = np.full_like(labels, UNLABELLED)
        for places in SLICES[layout]:
            kept[places] = labels[places]
        folder.mkdir(parents=True, exist_ok=True)
        morula.write(folder / path.name, kept, axes="ZYX", voxel_size=SPACING, labels=True, overwrite=True)
    return folder


def trained(
    data: str,
    name: str,
    method: dict[str, Any],
    images: Path,
    options: argparse.Namespace,
    *,
    called: str | None = None,
    labels: dict[str, Any] | None = None,
) -> tuple[Path, dict[str, float]]:
    """Train and score one channel set: the run folder and its figures. `called` replaces the name of the data in the name of the folder.

    `labels` holds another folder of training labels and the value of unannotated voxels in them.
    """
    import torch

    import morula
    from morula.core.events import Epoch, Finished

    torch.set_num_threads(options.threads)
    run = RUNS / f"{called or data}_{name}"
    if options.again:
        shutil.rmtree(run, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    resumed = (run / "job.yaml").is_file()
    job = run / "job.yaml" if resumed else planned(run, data, method, images, options.epochs, labels)
    figures: dict[str, float] = {}
    for event in morula.iter_run(job, output=run, resume=resumed):
        if isinstance(event, Epoch):
            print(f"{name}: epoch {event.epoch}/{event.epochs}, loss {event.figures['loss']:.4f}", flush=True)
        elif isinstance(event, Finished):
            figures |= event.figures
    return run, figures


def tuned(run: Path) -> dict[str, float]:
    """Figures of a copy of the run after tuning."""
    import morula
    from morula.core.events import Finished

    copy = run.with_name(f"{run.name}_tuned")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    figures: dict[str, float] = {}
    for events in (morula.tune(copy), morula.predict(copy), morula.evaluate(copy)):
        for event in events:
            if isinstance(event, Finished):
                figures |= event.figures
    shutil.rmtree(copy)
    return figures


def scores(run: Path, figures: dict[str, float]) -> list[Any]:
    """The decoder and F1 at three thresholds."""
    return [decoder_of(run), *(round(figures[f"F1@{threshold}"], 3) for threshold in ("0.5", "0.75", "0.9"))]


def effort(run: Path) -> list[Any]:
    """Epochs and minutes of the training."""
    from morula.measurement.csv_table import read_table

    seconds = read_table(run / "logs" / "training.csv")["seconds"]
    return [len(seconds), round(float(seconds.sum()) / 60, 1)]


def planned(run: Path, data: str, method: dict[str, Any], images: Path, epochs: int | None, labels: dict[str, Any] | None) -> Path:
    """The job of one channel set: the job of the data set with another method, optionally other epochs and labels."""
    from morula.jobs.yaml_lines import parse_documents

    (text,) = parse_documents((HERE / "jobs" / f"{data}.yaml").read_text().replace(f" {data}/", f" {images}/"))
    document = text.data
    document["method"] = {"kind": "channels", **method}
    if epochs is not None:
        document["training"]["epochs"] = epochs
    if labels is not None:
        document["images"]["train"]["labels"] = labels["labels"]
        document["images"]["ignore_label"] = labels["ignore_label"]
    job = RUNS / f"{run.name}.yaml"
    job.write_text(yaml.safe_dump(document, sort_keys=False))
    return job


def decoder_of(run: Path) -> str:
    """Name of the decoder that made the objects of a run."""
    import morula
    from morula.decoders.decode import decoder_name

    method = morula.load(run).method
    return decoder_name(method.representations, method.objects.decoder)


def table(title: str, note: str, titles: list[str], lines: list[list[Any]], *, complete: bool) -> Result:
    """The lines, sorted by F1 at 0.5."""
    return {
        "title": title,
        "note": note,
        "complete": complete,
        "table": {"titles": titles, "rows": sorted(lines, key=lambda line: -line[2])},
        "figures": [figure(f"{line[0]} F1@0.5", "", [line[2]]) for line in lines],
    }


ROWS = {
    "representations": representations,
    "volumes": volumes,
    **{f"slices_{layout}": annotated(layout) for layout in LAYOUTS},
}
