"""Commands with the names and options of pytorch-3dunet: ``morula train3dunet`` and ``morula predict3dunet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from morula.cli.options import Memory, Quiet, Verbose
from morula.cli.show import Verbosity, print_events, reporting_errors
from morula.core.errors import OptionError
from morula.core.events import Event
from morula.dialects import pytorch3dunet

Config = Annotated[Path, typer.Option("--config", help="Job file of pytorch-3dunet (YAML).", show_default=False)]
ModelPath = Annotated[str | None, typer.Option("--model_path", help="Checkpoint; overrides model_path.")]
OutputDir = Annotated[str | None, typer.Option("--loaders.output_dir", help="Folder of the predictions.")]
FilePaths = Annotated[list[str], typer.Option("--loaders.test.file_paths", help="Files to predict, separated by spaces.")]
# argparse of pytorch-3dunet takes several values after one option; Typer leaves them as arguments
MoreFiles = Annotated[list[str] | None, typer.Argument(hidden=True)]
PatchShape = Annotated[
    tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.patch_shape", help="Shape of a patch (z y x).")
]
StrideShape = Annotated[
    tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.stride_shape", help="Stride of patches (z y x).")
]


def run3dunet(job: Path, device: str) -> Iterator[Event]:
    """Train or predict, whichever a job file of pytorch-3dunet is for."""
    # `auto` is the default of Morula; the file of pytorch-3dunet has a device of its own
    overrides = {} if device == "auto" else {"device": device}
    return (
        pytorch3dunet.train3dunet(job, overrides=overrides)
        if pytorch3dunet.purpose_of(job) == "train"
        else pytorch3dunet.predict3dunet(job, overrides=overrides)
    )


def _given_options(
    model_path: str | None,
    output_dir: str | None,
    file_paths: list[str],
    patch_shape: tuple[int, int, int] | None,
    stride_shape: tuple[int, int, int] | None,
) -> dict[str, object]:
    """The options that were given, by key of the job file."""
    given: dict[str, object] = {
        "model_path": model_path,
        "loaders.output_dir": output_dir,
        "loaders.test.file_paths": file_paths or None,
        "loaders.test.slice_builder.patch_shape": None if patch_shape is None else list(patch_shape),
        "loaders.test.slice_builder.stride_shape": None if stride_shape is None else list(stride_shape),
    }
    return {key: value for key, value in given.items() if value is not None}


def train3dunet(
    config: Config,
    model_path: ModelPath = None,
    output_dir: OutputDir = None,
    file_paths: FilePaths = [],  # noqa: B006
    patch_shape: PatchShape = None,
    stride_shape: StrideShape = None,
    more: MoreFiles = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train with a job file of pytorch-3dunet, as its own command train3dunet does."""
    with reporting_errors(lambda: f"morula train3dunet --config {config} with trainer.resume: CHECKPOINT_DIR/last_checkpoint.pytorch"):
        overrides = _given_options(model_path, output_dir, [*file_paths, *(more or ())], patch_shape, stride_shape)
        print_events(pytorch3dunet.train3dunet(config, overrides=overrides), Verbosity.of(quiet, verbose))


def predict3dunet(  # each parameter is an option of the command line
    config: Config,
    model_path: ModelPath = None,
    output_dir: OutputDir = None,
    file_paths: FilePaths = [],  # noqa: B006
    patch_shape: PatchShape = None,
    stride_shape: StrideShape = None,
    more: MoreFiles = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing predictions.")] = False,
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict with a job file of pytorch-3dunet, as its own command predict3dunet does."""
    with reporting_errors():
        overrides = _given_options(model_path, output_dir, [*file_paths, *(more or ())], patch_shape, stride_shape)
        print_events(
            pytorch3dunet.predict3dunet(config, overrides=overrides, overwrite=overwrite, memory=memory), Verbosity.of(quiet, verbose)
        )


def reject_options(job: Path, given: Mapping[str, bool]) -> None:
    """Reject options of `morula run` that have no meaning for a job file of pytorch-3dunet.

    Raises:
        OptionError: when one was given.
    """
    named = [option for option, is_given in given.items() if is_given]
    if named:
        rule = "cannot be used with a job file of pytorch-3dunet"
        remedy = f"Write it into {job} (trainer, loaders)."
        raise OptionError("pytorch3dunet.option", rule, key=", ".join(named), remedy=remedy)
