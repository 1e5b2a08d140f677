"""BiaPy's command line: ``morula-biapy``, and ``morula run --config``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from morula import __version__, dialects
from morula.cli.command import Command
from morula.cli.show import Verbosity, echo, print_events, reporting_errors
from morula.core.events import Event, Warned
from morula.workflows.run_settings import RunSettings

Config = Annotated[Path, typer.Option("--config", "-config", help="Job file of BiaPy (YAML).", show_default=False)]
ResultDir = Annotated[Path, typer.Option("--result_dir", "-rdir", help="Folder of all experiments.")]
Name = Annotated[str, typer.Option("--name", "-name", help="Name of the experiment.")]
RunId = Annotated[int, typer.Option("--run_id", "-rid", min=0, help="Number of the run.")]
Gpu = Annotated[
    str | None,
    typer.Option("--gpu", "-gpu", help='Numbers of graphics cards, for example 0 or 0,1; "" for the processor.', show_default=False),
]

app = typer.Typer(
    name="morula-biapy",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"morula {__version__}")
        raise typer.Exit


@app.command(cls=Command)
def biapy(
    config: Config,
    result_dir: ResultDir = Path(),
    name: Name = "unknown_job",
    run_id: RunId = 1,
    gpu: Gpu = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run exactly where it was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the earlier run of this name and number.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings, errors and the result only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print more.")] = False,
    version: Annotated[bool, typer.Option("--version", "-v", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Train and predict with a job file of BiaPy, with BiaPy's own flags."""
    del version
    # BiaPy has no flag to continue; `--resume` is an addition of Morula
    command = f"morula-biapy --config {config} --result_dir {result_dir} --name {name} --run_id {run_id} --resume"
    with reporting_errors(lambda: command):
        print_events(events_of(config, result_dir, name, run_id, gpu, resume=resume, overwrite=overwrite), Verbosity.of(quiet, verbose))


def events_of(
    config: Path, result_dir: Path, name: str, run_id: int, gpu: str | None, *, resume: bool = False, overwrite: bool = False
) -> Iterator[Event]:
    """The events of a run of BiaPy's command line."""
    device, devices, warning = dialects.biapy.experiment.device_of(gpu)
    if warning:
        yield Warned("biapy.gpu", warning)
    place = dialects.biapy.folders.Experiment(result_dir, name, run_id)
    settings = RunSettings(resume=resume, overwrite=overwrite, device=device)
    yield from dialects.biapy.experiment.run_experiment(config, place, settings, devices=devices)


def main() -> None:
    """Entry point of the console script ``morula-biapy``."""
    app()
