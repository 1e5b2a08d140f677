"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from morula.cli.show import reporting_errors

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).", show_default=False)]
Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder. [default: runs/<name of the job file>]")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job, for example training.epochs=5. Can be repeated."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue this run exactly where it was stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Memory = Annotated[str | None, typer.Option(help="Memory limit of the process, for example 8GB; larger images are segmented in blocks.")]
Workers = Annotated[int, typer.Option(help="Processes that decode and measure images that are larger than the memory.")]
ResumeBatch = Annotated[bool, typer.Option("--resume", help="Continue the interrupted command: keep what it has finished.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Keep the results of images that are finished.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Go on after an image that fails; the exit code is 1 at the end.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more, for example every file that is written.")]
AxesOption = Annotated[str | None, typer.Option("--axes", help="Axes of the files, for example ZYX or YXC. By default from the files.")]
Channel = Annotated[int | None, typer.Option("--channel", help="Use only this channel, counted from 0.")]
DataSet = Annotated[str | None, typer.Option("--dataset", help="Name of the data set in the file (HDF5, Zarr, LIF, COCO).")]
Scene = Annotated[
    int | None, typer.Option("--scene", help="Number of the image in a file of several (TIFF, Zarr, CZI, LIF, ND2), counted from 0.")
]
TimePoint = Annotated[int | None, typer.Option("--time", help="Use only this time point, counted from 0.")]
Level = Annotated[int, typer.Option("--level", help="Level of the pyramid (slides, OME-Zarr, CZI): 0 is the finest, -1 the coarsest.")]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Use only this part of the images, in voxels of the level; 2D without Z."),
]
VoxelEdges = Annotated[
    str | None,
    typer.Option("--voxel-size", help="Edge lengths in micrometres (z,y,x), such as 1.75,0.8,0.8. By default from the files."),
]
MissingPieces = Annotated[
    str, typer.Option("--missing", help="What becomes of planes, strips and chunks that a file lacks: error, or zeros with a warning.")
]
Components = Annotated[bool, typer.Option("--components", help="The labels are a mask: each connected component is an object.")]
Also = Annotated[
    list[str],
    typer.Option("--also", metavar="FORMAT,...", help="Write for other programs, too: rois, geojson, coco, preview, parquet."),
]
ExportKinds = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="FORMAT,...",
        help="rois, geojson, coco, preview or parquet, several with commas; for a model bioimageio, torchscript or onnx.",
    ),
]

_READING: dict[str, tuple[Any, object]] = {
    "axes": (AxesOption, None),
    "channel": (Channel, None),
    "dataset": (DataSet, None),
    "scene": (Scene, None),
    "time": (TimePoint, None),
    "level": (Level, 0),
    "region": (RegionOption, None),
    "voxel_size": (VoxelEdges, None),
    "missing": (MissingPieces, "error"),
}
"""Options that say how files are read, with their defaults."""


def reading_options(command: Callable[..., None], *, parts: bool = True) -> Callable[..., None]:
    """Give a command the options that say how files are read in place of its parameter `reading`; with `parts` also ``--region``."""
    offered = {name: option for name, option in _READING.items() if parts or name != "region"}
    signature = inspect.signature(command)
    types = get_type_hints(command, localns={"Reading": object}, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name == "reading":
            options = [parameter.replace(name=each, default=value, annotation=kind) for each, (kind, value) in offered.items()]
            parameters += options
        else:
            parameters.append(parameter.replace(annotation=types[name]))

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        from morula.workflows.measure import lengths
        from morula.workflows.reading import Reading

        with reporting_errors():  # the options themselves may be wrong
            chosen = {name: given.pop(name) for name in offered}
            size = chosen.pop("voxel_size")
            reading = Reading(**chosen, voxel_size=None if size is None else lengths(size))
        command(**given, reading=reading)

    del with_options.__wrapped__
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options
