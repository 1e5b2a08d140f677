"""The options of `morula segment`: the model, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import morula
from morula import workflows
from morula.core.errors import OptionError

if TYPE_CHECKING:
    from morula.models.by_slice import SliceAxes
    from morula.models.model import Model
    from morula.workflows.batch import Batch


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it is applied."""

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Bundled model by name, run folder, package or checkpoint.", show_default="chosen by the image"),
    ] = None
    channels: Annotated[
        str | None,
        typer.Option("--channels", metavar="F,C,...", help="What a package of another program predicts; - for channels that are not used."),
    ] = None
    diameter: Annotated[
        float | None, typer.Option("--diameter", help="Diameter of the objects in voxels, for bundled models.", show_default="estimated")
    ] = None
    slices: Annotated[
        str | None,
        typer.Option("--slices", metavar="z|zyx", help="Use a 2D model on volumes: on the slices across z, or across all three axes."),
    ] = None
    stitch_threshold: Annotated[
        float, typer.Option("--stitch-threshold", help="With --slices z: least overlap (IoU) of an object's parts in neighbouring slices.")
    ] = 0.25

    def chosen(self) -> str | Model | None:
        """The model as the workflow takes it; `None` for one that is chosen by the image.

        Raises:
            OptionError: for channels without a model.
        """
        model: str | Model | None = self.model
        if self.channels is not None:
            if self.model is None:
                rule = "describes what a model predicts, but no model is named"
                raise OptionError("segment.channels", rule, key="channels", value=self.channels, remedy="Name the package with --model.")
            model = morula.load(self.model, channels=self.channels.split(","))
        if self.slices is None:
            return model
        return workflows.segment.sliced(model, cast("SliceAxes", self.slices), stitch_threshold=self.stitch_threshold)


@dataclass(frozen=True)
class ResultOptions:
    """Where the results go, and what happens to those of an earlier command."""

    output: Annotated[Path, typer.Option("--output", "-o", help="Label file for one image, folder for several.")] = Path("segmentation")
    also: Annotated[
        list[str],
        typer.Option("--also", metavar="FORMAT,...", help="Also write results for other programs: rois, geojson, coco, preview, parquet."),
    ] = field(default_factory=list)
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted command: keep what it has finished.")] = False
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Keep the results of images that are finished.")] = False
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Continue after an image that fails; the exit code is then 1.")] = False

    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="TASK/TASKS", help="Do a share of the work, such as 3/16; images beyond --memory in blocks."),
    ] = None
    merge: Annotated[bool, typer.Option("--merge", help="Finish what tasks with --shard have begun: labels and tables.")] = False
    print_slurm: Annotated[
        int | None, typer.Option("--print-slurm", metavar="TASKS", help="Print a script that submits such tasks and the merging to SLURM.")
    ] = None

    def batch(self) -> Batch:
        """What the workflow takes of them for several images."""
        return workflows.batch.Batch(self.resume, self.skip_existing, self.keep_going, self.shard, self.merge)


def slurm_script(arguments: Sequence[str], tasks: int) -> str:
    """The script for SLURM from the arguments of this command.

    Examples:
        >>> slurm_script(["a.tif", "--print-slurm", "4", "-o", "b"], 4).splitlines()[-1].partition("--wrap=")[2]
        "'morula segment a.tif -o b --merge'"
    """
    kept: list[str] = []
    values = iter(arguments)
    for argument in values:
        if argument == "--print-slurm":
            next(values, None)
        elif not argument.startswith("--print-slurm="):
            kept.append(argument)
    return workflows.slurm.script(kept, tasks)
