"""The questions of `morula new`, and its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import typer

from morula.cli.check import cost
from morula.cli.show import complain, say
from morula.core.errors import OptionError
from morula.core.voxel_size import VoxelSize
from morula.workflows.measure import lengths
from morula.workflows.new import Answers, Written

TASKS = ("instances", "semantic")


def answers_for(
    *,
    raw: str | None,
    labels: str | None,
    test: str | None,
    test_labels: str | None,
    task: str | None,
    voxel_size: str | None,
    unlabelled: str | None,
    ask: bool,
) -> Answers:
    """Answers from the options, the missing ones asked for.

    Raises:
        OptionError: for an answer that is none, or a missing one that must not be asked for.
    """
    if not ask and (raw is None or labels is None):
        raise OptionError("with --yes nothing is asked, so --raw and --labels must be given.")
    task = task or (
        typer.prompt("Objects to be told apart (instances) or a class for every pixel (semantic)?", default="instances")
        if ask
        else "instances"
    )
    if task not in TASKS:
        raise OptionError(f"task {task!r} is not known; write instances or semantic.")
    raw = raw or typer.prompt("Folder (or file, or pattern) of the training images")
    labels = labels or typer.prompt("Folder (or file, or pattern) of their label images")
    if test is None and ask:
        test = typer.prompt("Images to predict (empty: none)", default="", show_default=False) or None
        if test is not None and test_labels is None:
            test_labels = typer.prompt("Their labels, to be scored (empty: none)", default="", show_default=False) or None
    if unlabelled is None and ask:
        unlabelled = typer.prompt("Many more images without labels, to pretrain on (empty: none)", default="", show_default=False) or None
    size = voxel_size_of(raw, voxel_size, ask=ask)
    return Answers(cast(str, raw), cast(str, labels), cast(Literal["instances", "semantic"], task), test, test_labels, size, unlabelled)


def voxel_size_of(raw: str, stated: str | None, *, ask: bool) -> VoxelSize | None:
    """The stated voxel size; asked for where the images are 3D and do not tell it; `None` leaves it to the files."""
    from morula.io.pairs import list_images
    from morula.io.read import read

    first = read(list_images(Path(raw))[0])
    ndim = first.ndim_spatial
    if stated is None and ask and first.voxel_size is None and ndim == 3:
        stated = typer.prompt("Voxel size z,y,x in micrometres (the files do not tell)", default="1,1,1")
    return None if stated is None else VoxelSize.of(lengths(stated), ndim)


def tell(written: Written) -> None:
    """Print what was seen, planned and proven."""
    for line in written.summary.lines():
        say(line)
    say(written.prepared.summary_line())
    for warning in (*written.prepared.warnings, *written.notes):
        complain(f"note: {warning}")
    say(cost(written.proof))
    say(f"wrote {written.path}; start it with: morula run {written.path}")
