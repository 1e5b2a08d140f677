"""BiaPy's command line: ``morula-biapy``, and ``morula run --config``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from morula import __version__, cli, dialects
from morula.cli.command import Command
from morula.cli.options import with_groups
from morula.cli.show import Verbosity, echo, reporting_errors
from morula.workflows.run_settings import RunSettings

if TYPE_CHECKING:
    from morula.core.events import Event

Config = Annotated[Path, typer.Option("--config", "-config", help="Job file of BiaPy (YAML).", show_default=False)]


@dataclass(frozen=True)
class ExperimentOptions:
    """Where the results of a job of BiaPy go, and its graphics cards."""

    result_dir: Annotated[Path, typer.Option("--result_dir", "-rdir", help="With --config: folder of all experiments.")] = Path()
    name: Annotated[str, typer.Option("--name", "-name", help="With --config: name of the experiment.")] = "unknown_job"
    run_id: Annotated[int, typer.Option("--run_id", "-rid", min=0, help="With --config: number of the run.")] = 1
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            "-gpu",
            help='With --config: graphics cards, for example 0 or 0,1; "" for the processor.',
            show_default=False,
        ),
    ] = None

    def command(self, config: Path) -> str:
        """The command that continues the run."""
        # BiaPy has no flag to continue; `--resume` is an addition of Morula
        return f"morula-biapy --config {config} --result_dir {self.result_dir} --name {self.name} --run_id {self.run_id} --resume"


@dataclass(frozen=True)
class ProcessOptions:
    """BiaPy's flags about its processes, as scripts of clusters state them. They are accepted and have no effect."""

    world_size: Annotated[int | None, typer.Option("--world_size", hidden=True)] = None
    local_rank: Annotated[int | None, typer.Option("--local_rank", hidden=True)] = None
    dist_on_itp: Annotated[bool, typer.Option("--dist_on_itp", hidden=True)] = False
    dist_url: Annotated[str | None, typer.Option("--dist_url", hidden=True)] = None
    dist_backend: Annotated[str | None, typer.Option("--dist_backend", hidden=True)] = None

    def remarks(self) -> Iterator[Event]:
        """A warning about the flags that are stated."""
        from morula.core.events import Warned  # not at the top: `morula --help` has no events

        stated = [f"--{field.name}" for field in fields(self) if getattr(self, field.name) not in (None, False)]
        if stated:
            yield Warned(
                "biapy.processes",
                f"{', '.join(stated)} {'has' if len(stated) == 1 else 'have'} no effect: processes follow from --gpu, torchrun or SLURM.",
            )


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
@with_groups
def biapy(
    config: Config,
    *,
    experiment: ExperimentOptions,
    processes: ProcessOptions,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run exactly where it was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the earlier run of this name and number.")] = False,
    # BiaPy's own -v is the version
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and the result.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print more.")] = False,
    version: Annotated[bool, typer.Option("--version", "-v", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Train and predict with a job file of BiaPy, with BiaPy's own flags."""
    del version
    cli.printing.print_events(processes.remarks(), Verbosity.of(quiet, verbose))
    print_experiment(config, experiment, Verbosity.of(quiet, verbose), resume=resume, overwrite=overwrite)


def print_experiment(config: Path, experiment: ExperimentOptions, verbosity: Verbosity, *, resume: bool, overwrite: bool) -> None:
    """Run a job file of BiaPy and print the events."""
    with reporting_errors(lambda: experiment.command(config)):
        settings = RunSettings(resume=resume, overwrite=overwrite)
        cli.printing.print_events(events_of(config, experiment, settings), verbosity)


def events_of(config: Path, experiment: ExperimentOptions, settings: RunSettings) -> Iterator[Event]:
    """The events of a run of BiaPy's command line."""
    from morula.core.events import Warned  # not at the top: `morula --help` has no events

    device, devices, warning = dialects.biapy.experiment.device_of(experiment.gpu)
    if warning:
        yield Warned("biapy.gpu", warning)
    place = dialects.biapy.folders.Experiment(experiment.result_dir, experiment.name, experiment.run_id)
    yield from dialects.biapy.experiment.run_experiment(config, place, replace(settings, device=device), devices=devices)


def main() -> None:
    """Entry point of the console script ``morula-biapy``."""
    app()
