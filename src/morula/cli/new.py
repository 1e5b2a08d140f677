"""The questions and the output of `morula new`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import typer

from morula.cli.options import NewJobOptions
from morula.cli.show import echo, echo_error
from morula.core.errors import OptionError
from morula.core.voxel_size import VoxelSize
from morula.io.pairs import list_images
from morula.workflows.measure import lengths
from morula.workflows.new import Answers, Written
from morula.workflows.reading import Reading

TASKS = ("instances", "semantic")


def answers_for(given: NewJobOptions, reading: Reading, *, ask: bool) -> Answers:
    """Answers from the options; missing ones are asked for.

    Raises:
        OptionError: for an unknown task, or a missing option when nothing may be asked.
    """
    # without questions there must be enough to write a job that can be trained
    if not ask and (given.raw is None or given.labels is None):
        missing = "--raw" if given.raw is None else "--labels"
        raise OptionError("new.missing_option", "is required together with --yes", key=missing)
    # options that were given are not asked for
    task = given.task or (
        typer.prompt("Single objects (instances) or a class for every pixel (semantic)?", default="instances") if ask else "instances"
    )
    if task not in TASKS:
        raise OptionError("new.unknown_task", "must be instances or semantic", key="--task", value=task)
    raw = given.raw or typer.prompt("Training images (folder, file or pattern)")
    labels = given.labels or typer.prompt("Their label images (folder, file or pattern)")
    test, test_labels, unlabelled = given.test, given.test_labels, given.unlabelled
    if test is None and ask:
        test = _optional("Images to predict (empty: none)")
        if test is not None and test_labels is None:
            test_labels = _optional("Their label images, for scores (empty: none)")
    if unlabelled is None and ask:
        unlabelled = _optional("Many more images without labels, for pretraining (empty: none)")
    size = voxel_size_of(raw, reading, ask=ask)
    return Answers(raw, labels, cast(Literal["instances", "semantic"], task), test, test_labels, size, unlabelled, reading)


def _optional(question: str) -> str | None:
    """An answer that may be left empty."""
    return typer.prompt(question, default="", show_default=False) or None


def voxel_size_of(raw: str, reading: Reading, *, ask: bool) -> VoxelSize | None:
    """The given voxel size; asked for if the images are 3D and do not state it. `None`: from the files."""
    # one image stands for all: the check of the job reports images that differ
    first = reading.open(list_images(Path(raw))[0])
    ndim, stated = first.ndim_spatial, reading.voxel_size
    if stated is None and ask and first.voxel_size is None and ndim == 3:
        stated = lengths(typer.prompt("Voxel size z,y,x in micrometres (not stated in the files)", default="1,1,1"))
    return None if stated is None else VoxelSize.of(stated, ndim)


def print_written(written: Written) -> None:
    """Print a summary of the images, the plan, and memory and time of the job."""
    for line in written.summary.lines():
        echo(line)
    echo(written.prepared.summary_line())
    for warning in (*written.prepared.warnings, *written.notes):
        echo_error(f"note: {warning}")
    echo(f"one real step: {written.proof.cost}")
    echo(f"wrote {written.path}; start it with: morula run {written.path}")
