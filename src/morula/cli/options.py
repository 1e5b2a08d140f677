"""Arguments and options that several commands share, and groups of options.

A group is a dataclass whose fields are options. A command takes the group as one parameter; `with_groups` puts the options in its place::

    @with_groups
    def predict(run: Run, *, compute: ComputeOptions, printing: PrintOptions): ...

    morula predict RUN --device cuda --memory 8GB --quiet
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from morula.cli.show import Verbosity, reporting_errors
from morula.workflows.run_settings import RunSettings

if TYPE_CHECKING:
    from morula.io.formats.base import Missing
    from morula.workflows.reading import Reading

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).", show_default=False)]
Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")]
ReplaceFiles = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Memory = Annotated[str | None, typer.Option(help="Memory limit of the process, for example 8GB; larger images are segmented in blocks.")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job, for example training.epochs=5. Can be repeated."),
]
Intensity = Annotated[Path | None, typer.Option("--intensity", "-i", help="Image to measure intensities in.")]
Workers = Annotated[int, typer.Option(help="Processes that decode and measure images that are larger than the memory.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="Dask cluster for such images: local:4, tcp://host:8786, or slurm.yaml."),
]
ExportKinds = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="FORMAT,...",
        help="rois, geojson, coco, preview or parquet, several with commas; for a model bioimageio, torchscript or onnx.",
    ),
]


@dataclass(frozen=True)
class PrintOptions:
    """How much is printed."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and the result.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more, for example every file that is written.")] = False

    @property
    def verbosity(self) -> Verbosity:
        """The two switches as one value."""
        return Verbosity.of(self.quiet, self.verbose)


@dataclass(frozen=True)
class ComputeOptions:
    """Device and memory of a prediction."""

    device: Device = "auto"
    memory: Memory = None


@dataclass(frozen=True)
class RunOptions:
    """Folder of a run, and what becomes of an earlier one."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder.", show_default="runs/<name of the job file>")] = None
    set_: Set = field(default_factory=list)
    resume: Annotated[bool, typer.Option("--resume", help="Continue this run exactly where it was stopped.")] = False
    overwrite: Overwrite = False

    def settings(self, device: str, memory: str | None = None) -> RunSettings:
        """The settings of the run on a device."""
        with reporting_errors():  # the options may contradict each other
            return RunSettings(self.output, self.set_, self.resume, self.overwrite, device, memory)


@dataclass(frozen=True)
class FileOptions:
    """How image files are read."""

    axes: Annotated[str | None, typer.Option("--axes", help="Axes of the files, for example ZYX or YXC. By default from the files.")] = None
    channel: Annotated[int | None, typer.Option("--channel", help="Use only this channel, counted from 0.")] = None
    dataset: Annotated[str | None, typer.Option("--dataset", help="Name of the data set in the file (HDF5, Zarr, LIF, COCO).")] = None
    scene: Annotated[
        int | None, typer.Option("--scene", help="Number of the image in a file of several (TIFF, Zarr, CZI, LIF, ND2), counted from 0.")
    ] = None
    time: Annotated[int | None, typer.Option("--time", help="Use only this time point, counted from 0.")] = None
    level: Annotated[
        int, typer.Option("--level", help="Level of the pyramid (slides, OME-Zarr, CZI): 0 is the finest, -1 the coarsest.")
    ] = 0
    voxel_size: Annotated[
        str | None,
        typer.Option("--voxel-size", help="Edge lengths in micrometres (z,y,x), such as 1.75,0.8,0.8. By default from the files."),
    ] = None
    missing: Annotated[
        str, typer.Option("--missing", help="What to do with planes, strips and chunks that a file lacks: error, or zeros with a warning.")
    ] = "error"

    def reading(self) -> Reading:
        """The options as the workflows take them.

        Raises:
            OptionError: when one is wrong.
        """
        from morula.core.voxel_size import lengths
        from morula.workflows.reading import Reading

        size = None if self.voxel_size is None else lengths(self.voxel_size)
        return Reading(
            axes=self.axes,
            channel=self.channel,
            dataset=self.dataset,
            scene=self.scene,
            voxel_size=size,
            missing=cast("Missing", self.missing),
            time=self.time,
            level=self.level,
        )


@dataclass(frozen=True)
class PartOptions(FileOptions):
    """How image files are read, and which part of them."""

    region: Annotated[
        str | None,
        typer.Option("--region", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Use only this part of the images, in voxels of the level; no Z in 2D."),
    ] = None

    def reading(self) -> Reading:
        """As `FileOptions.reading`."""
        return dataclasses.replace(super().reading(), region=self.region)


@dataclass(frozen=True)
class LabelOptions(PartOptions):
    """How label files are read."""

    components: Annotated[bool, typer.Option("--components", help="The labels are a mask: each connected component is an object.")] = False

    def reading(self) -> Reading:
        """As `FileOptions.reading`."""
        return dataclasses.replace(super().reading(), components=self.components)


@dataclass(frozen=True)
class NewJobOptions:
    """What `morula new` asks for where it is not given."""

    raw: Annotated[str | None, typer.Option(help="Training images: a folder, file or pattern.")] = None
    labels: Annotated[str | None, typer.Option(help="Label images of the training images.")] = None
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Learn objects without labels.")] = False
    mask: Annotated[str | None, typer.Option(help="Masks of the annotated part, or the value of unannotated voxels.")] = None
    classes: Annotated[str | None, typer.Option(help="Class images of the objects.")] = None
    class_names: Annotated[str | None, typer.Option(help="Names of the classes, separated by commas.")] = None
    width: Annotated[float | None, typer.Option(help="Without labels: width of a typical object in pixels.")] = None
    test: Annotated[str | None, typer.Option(help="Test images to predict.")] = None
    test_labels: Annotated[str | None, typer.Option(help="Label images of the test images, for scores.")] = None
    task: Annotated[str | None, typer.Option(help="instances, semantic or pretraining.")] = None
    unlabelled: Annotated[str | None, typer.Option(help="Many more images without labels, for pretraining.")] = None
    start: Annotated[
        str | None, typer.Option(help="Weights to start from: none, a bundled model, a run folder or a checkpoint. [default: tried out]")
    ] = None
    minutes: Annotated[
        float | None, typer.Option(help="Minutes that the training may take on this computer; epochs, batch and patch are planned for it.")
    ] = None

    def answers(self) -> dict[str, str]:
        """What was given, by the question that it answers."""
        given = dataclasses.asdict(self)
        del given["no_labels"]
        return {key: str(value) for key, value in given.items() if value is not None}


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its groups, each in place of the parameter for the group."""
    types = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in types.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        own = parameter.replace(annotation=types[name], kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += _options(groups[name]) if name in groups else [own]

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        values = {
            name: group(**{setting.name: given.pop(setting.name) for setting in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**given, **values)

    del expanded.__wrapped__  # Typer would read the signature of the command
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


@functools.cache  # most groups belong to several commands
def _options(group: type) -> tuple[inspect.Parameter, ...]:
    """The options of a group as parameters of a command."""
    types = get_type_hints(group, include_extras=True)

    def option(setting: dataclasses.Field[Any]) -> inspect.Parameter:
        default = setting.default if setting.default_factory is dataclasses.MISSING else setting.default_factory()
        return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[setting.name])

    return tuple(map(option, dataclasses.fields(group)))
