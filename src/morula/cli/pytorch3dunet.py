"""Commands with the names and options of pytorch-3dunet: ``morula train3dunet`` and ``morula predict3dunet``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from morula import cli
from morula.cli.options import Memory, PrintOptions, with_groups
from morula.cli.show import reporting_errors
from morula.core.errors import OptionError
from morula.dialects import pytorch3dunet

Config = Annotated[Path, typer.Option("--config", help="Job file of pytorch-3dunet (YAML).", show_default=False)]


@dataclass(frozen=True)
class KeyOptions:
    """Keys of the job file that the command line overrides."""

    model_path: Annotated[str | None, typer.Option("--model_path", help="Checkpoint; overrides model_path.")] = None
    output_dir: Annotated[str | None, typer.Option("--loaders.output_dir", help="Folder of the predictions.")] = None
    file_paths: Annotated[list[str], typer.Option("--loaders.test.file_paths", help="Files to predict, separated by spaces.")] = field(
        default_factory=list
    )
    patch_shape: Annotated[
        tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.patch_shape", help="Shape of a patch (z y x).")
    ] = None
    stride_shape: Annotated[
        tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.stride_shape", help="Stride of patches (z y x).")
    ] = None
    # argparse of pytorch-3dunet takes several values after one option; Typer leaves them as arguments
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None

    def overrides(self) -> dict[str, object]:
        """The options that were given, by key of the job file."""
        given: dict[str, object] = {
            "model_path": self.model_path,
            "loaders.output_dir": self.output_dir,
            "loaders.test.file_paths": [*self.file_paths, *(self.more or ())] or None,
            "loaders.test.slice_builder.patch_shape": None if self.patch_shape is None else list(self.patch_shape),
            "loaders.test.slice_builder.stride_shape": None if self.stride_shape is None else list(self.stride_shape),
        }
        return {key: value for key, value in given.items() if value is not None}


@with_groups
def train3dunet(config: Config, *, keys: KeyOptions, printing: PrintOptions) -> None:
    """Train with a job file of pytorch-3dunet, as its own command train3dunet does."""
    with reporting_errors(lambda: f"morula train3dunet --config {config} with trainer.resume: CHECKPOINT_DIR/last_checkpoint.pytorch"):
        cli.printing.print_events(pytorch3dunet.train3dunet(config, overrides=keys.overrides()), printing.verbosity)


@with_groups
def predict3dunet(
    config: Config,
    *,
    keys: KeyOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing predictions.")] = False,
    memory: Memory = None,
    printing: PrintOptions,
) -> None:
    """Predict with a job file of pytorch-3dunet, as its own command predict3dunet does."""
    with reporting_errors():
        events = pytorch3dunet.predict3dunet(config, overrides=keys.overrides(), overwrite=overwrite, memory=memory)
        cli.printing.print_events(events, printing.verbosity)


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
