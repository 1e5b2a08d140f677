"""Tables: each representation trained with the same network and as many steps, on nuclei2d, on simulated volumes and on slices of these.

A call trains the next representation that is missing and stores its line; an interrupted training goes on where it stopped.
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
"""What `method` says of each line."""


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
"""The same of the table of volumes."""

FROM_SLICES = {name: {**METHODS, **IN_VOLUMES}[name] for name in ("E", "A", "F+C+Db", "F+G", "F+H+V+Z", "Db+R", *IN_VOLUMES)}
"""The same of the tables of painted slices, those that differ most first."""

SPACING = (0.5, 0.25, 0.25)
UNLABELLED = 65535
SLICES: dict[str, list[Any]] = {
    "along_z": [np.s_[4], np.s_[10], np.s_[16]],
    "each_axis": [np.s_[10], np.s_[:, 36], np.s_[:, :, 36]],
}
"""Painted slices of a volume of 20 x 72 x 72 voxels."""
LAYOUTS = {
    "along_z": ("Representations learned from three slices along z", "the slices 4, 10 and 16 of 20", "15 %"),
    "each_axis": ("Representations learned from a slice across each axis", "the middle slices across z, y and x", "8 %"),
}
"""Title, slices and their share of a volume, for the page."""
TITLES = ["channels", "decoder", "F1@0.5", "F1@0.75", "F1@0.9"]


def representations(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The lines so far and one more."""
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
        "nuclei2d: the same U-Net, augmentation and schedule (`bench/jobs/nuclei2d.yaml`) for each set of channels; as planned, "
        "the heads of Db+R have a convolution more, for 32 rays are more than the U-Net's 16 last features; "
        f"{options.threads} thread(s), beside other work; thresholds and clean-up tuned on the "
        "validation images (mean F1 at 0.5, 0.75 and 0.9, before and after); scores on the test images."
    )
    yield table("Representations trained alike", note, titles, lines, complete=len(missing) == 1)


def volumes(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The lines so far and one more, on volumes that are simulated when there are none yet."""
    lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
    missing = [name for name in IN_VOLUMES if name not in {line[0] for line in lines}]
    run, figures = trained("volumes", missing[0], IN_VOLUMES[missing[0]], simulated(), options)
    lines.append([missing[0], *scores(run, figures)])
    note = (
        "Simulated volumes with voxels twice as long along z: the same U-Net and 400 small steps (`bench/jobs/volumes.yaml`) for each set "
        "of channels, decoders as planned, nothing tuned: whether a representation is learned at all in 3D, not how good it can get. "
        f"{options.threads} thread(s), beside other work; scores on the test volumes."
    )
    yield table("Representations trained alike in volumes", note, TITLES, lines, complete=len(missing) == 1)


def painted(layout: str) -> Callable[[Result | None, argparse.Namespace], Iterator[Result]]:
    """The row of one layout of painted slices."""

    def row(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
        """The lines so far and one more, of labels of a few slices of the volumes."""
        lines: list[list[Any]] = [] if before is None else before["table"]["rows"]
        missing = [name for name in FROM_SLICES if name not in {line[0] for line in lines}]
        images = simulated()
        labels = {"labels": str(slices_of(images, layout)), "ignore_label": UNLABELLED}
        run, figures = trained("volumes", missing[0], FROM_SLICES[missing[0]], images, options, called=f"slices_{layout}", labels=labels)
        after = tuned(run)
        lines.append([missing[0], *scores(run, figures), *(round(after[f"F1@{threshold}"], 3) for threshold in ("0.5", "0.75"))])
        title, which, share = LAYOUTS[layout]
        note = (
            f"The volumes, network and steps of the table of volumes, trained and validated on {which} of each volume alone ({share} of "
            "its voxels), as they are and after `morula tune`, which sees these slices alone, too. "
            f"{options.threads} thread(s), beside other work; scores on all labels of the test volumes."
        )
        yield table(title, note, [*TITLES, "tuned: F1@0.5", "tuned: F1@0.75"], lines, complete=len(missing) == 1)

    return row


def simulated() -> Path:
    """The volumes, simulated when there are none yet."""
    from morula.testing.simulate import simulate_data_set

    images = RUNS / "volumes"
    if not images.is_dir():
        made = RUNS / "volumes.part"
        shutil.rmtree(made, ignore_errors=True)
        simulate_data_set(made, n_train=6, n_test=3, shape=(20, 72, 72), n_objects=36, seed=1, spacing=SPACING)
        made.rename(images)
    return images


def slices_of(images: Path, layout: str) -> Path:
    """Folder of the training labels with all but a few slices unlabelled."""
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
    """Train and score one representation: the folder of the run, which is `called` after the data where left out, and its figures.

    `labels` are the folder of other labels for training, and the value of what is unlabelled in them.
    """
    import torch

    import morula
    from morula.core.events import Epoch, Finished

    torch.set_num_threads(options.threads)
    run = RUNS / f"{called or data}_{name}"
    if options.again:
        shutil.rmtree(run, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    going_on = (run / "job.yaml").is_file()
    job = run / "job.yaml" if going_on else planned(run, data, method, images, options.epochs, labels)
    figures: dict[str, float] = {}
    for event in morula.run(job, output=run, resume=going_on):
        if isinstance(event, Epoch):
            print(f"{name}: epoch {event.epoch}/{event.epochs}, loss {event.figures['loss']:.4f}", flush=True)
        elif isinstance(event, Finished):
            figures |= event.figures
    return run, figures


def tuned(run: Path) -> dict[str, float]:
    """Figures of a run after its settings were tuned, in a copy of it."""
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
    """The job of one representation: that of the data set with another method, and perhaps number of epochs and labels."""
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
    """The lines so far, the best F1 at 0.5 first."""
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
    **{f"slices_{layout}": painted(layout) for layout in LAYOUTS},
}
