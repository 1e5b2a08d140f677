"""The commands of `morula`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from morula import __version__, cli, dialects, report, workflows
from morula.cli.biapy import ExperimentOptions, print_experiment
from morula.cli.command import Command
from morula.cli.export import PackageOptions, model_format, written_model
from morula.cli.options import (
    Cluster,
    ComputeOptions,
    Device,
    ExportKinds,
    FileOptions,
    Intensity,
    JobFile,
    LabelOptions,
    Memory,
    NewJobOptions,
    Overwrite,
    PartOptions,
    PrintOptions,
    ReplaceFiles,
    Run,
    RunOptions,
    Set,
    Workers,
    with_groups,
)
from morula.cli.pytorch3dunet import predict3dunet, reject_options, train3dunet
from morula.cli.segment import ModelOptions, ResultOptions, slurm_script
from morula.cli.show import Verbosity, echo, reporting_errors
from morula.workflows.run_settings import RunSettings

app = typer.Typer(
    name="morula",
    help="Segment and measure objects in 2D and 3D microscopy images: with labels, with few labels, or with none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"morula {__version__}")
        raise typer.Exit


@app.callback()
def _about(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    del version


@app.command(cls=Command)
@with_groups
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the images and the run.")] = Path("demo"),
    overwrite: Overwrite = False,
    *,
    printing: PrintOptions,
) -> None:
    """Run everything on simulated images: train, predict, score, report. Takes a few minutes on a laptop."""
    with reporting_errors():
        cli.printing.print_events(cli.demo.demo(output, overwrite=overwrite), printing.verbosity)
        echo(str(output / "run" / "report.html"))


@app.command(cls=Command)
@with_groups
def new(
    job: Annotated[Path, typer.Argument(help="Job file to write.")] = Path("job.yaml"),
    *,
    given: NewJobOptions,
    files: FileOptions,
    memory: Memory = None,
    trial: Annotated[
        float, typer.Option(help="Seconds of training for each of the best plans, judged on the validation images; 0 for no trial.")
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; use the options and planned values.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the job file.")] = False,
    printing: PrintOptions,
) -> None:
    """Write a job file: ask a few questions, inspect the images, plan the job and test one training step."""
    with reporting_errors():
        reading, verbosity = files.reading(), printing.verbosity
        where = cli.new.write_job(job, given, reading, ask=not yes, verbosity=verbosity, overwrite=overwrite, memory=memory, trial=trial)
    if where == "here":
        _start("run", job, RunSettings(), printing.verbosity)


@app.command(cls=Command)
def check(
    job: JobFile,
    set_: Set = [],  # noqa: B006 - Typer only reads it
    prove: Annotated[bool, typer.Option(help="Take one real training step to measure memory and time.")] = True,
) -> None:
    """Check a job: report all problems at once, the planned values of all keys that it leaves out, memory and time."""
    with reporting_errors():
        # recognised by its keys, not by an option: users check files of other programs with the same command
        if _reject_for_pytorch3dunet(job, {"--set": bool(set_)}):
            cli.check.print_check3dunet(dialects.pytorch3dunet.check3dunet(job))
        elif workflows.stages.stage_count(job) > 1:
            cli.check.print_stages(workflows.check.check_stages(job, overrides=set_, prove=prove))
        elif dialects.verbs.is_prediction(job):
            cli.check.print_warnings(dialects.verbs.check_prediction(job))
        else:
            cli.check.print_check(dialects.verbs.check(job, overrides=set_, prove=prove))


@app.command(cls=Command)
def convert(
    job: Annotated[Path, typer.Argument(help="Job file of BiaPy or pytorch-3dunet (YAML).", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. By default the job is printed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    to: Annotated[str, typer.Option("--to", help="morula, or biapy: a job of BiaPy 3.0 to 3.7 in the keys of 3.7.1.")] = "morula",
) -> None:
    """Convert a job file of BiaPy or pytorch-3dunet to a job of Morula."""
    with reporting_errors():
        text, warnings = dialects.convert.convert(job, to=to)
        cli.check.write_converted(job, text, warnings, output, overwrite=overwrite)


def _reject_for_pytorch3dunet(job: Path, given: Mapping[str, bool]) -> bool:
    """Whether a job file is one of pytorch-3dunet, which knows fewer options.

    Raises:
        OptionError: when it is, and one of the other options was given.
    """
    foreign = dialects.program_of(job) == "pytorch-3dunet"
    if foreign:
        reject_options(job, given)
    return foreign


def _start(verb: Literal["run", "train"], job: Path, settings: RunSettings, verbosity: Verbosity) -> None:
    """Run or train a job file of any program, and print the events."""
    start = dialects.verbs.run_job if verb == "run" else dialects.verbs.train_job
    # the command is built when it is printed: whether `--resume` works depends on how far the run came
    with reporting_errors(lambda: _resume_command(verb, job, settings)):
        rejected = {
            "--output": settings.output is not None,
            "--set": bool(settings.overrides),
            "--resume": settings.resume,
            "--overwrite": settings.overwrite,
        }
        _reject_for_pytorch3dunet(job, rejected)
        cli.printing.print_events(start(job, settings), verbosity)


def _resume_command(verb: str, job: Path, settings: RunSettings) -> str:
    """The command that continues a stopped one; with ``--resume`` if its run folder was created."""
    output = f" -o {settings.output}" if settings.output else ""
    return f"morula {verb} {job}{output}{' --resume' if settings.folder(job).job_file.is_file() else ''}"


@app.command(cls=Command)
@with_groups
def run(
    job: Annotated[Path | None, typer.Argument(help="Job file (YAML).", show_default=False)] = None,
    *,
    options: RunOptions,
    compute: ComputeOptions,
    config: Annotated[Path | None, typer.Option("--config", "-config", help="Job file of BiaPy, run as `morula-biapy` does.")] = None,
    experiment: ExperimentOptions,
    printing: PrintOptions,
) -> None:
    """Train, predict the test images, evaluate and write the report."""
    # BiaPy's options on the command of Morula: users replace `biapy` by `morula run` in their scripts
    if config is not None:
        print_experiment(config, experiment, printing.verbosity, resume=options.resume, overwrite=options.overwrite)
        return
    if job is None:
        raise typer.BadParameter("give a job file, or --config with a job file of BiaPy")
    _start("run", job, options.settings(compute.device, compute.memory), printing.verbosity)


@app.command(cls=Command)
@with_groups
def train(job: JobFile, *, options: RunOptions, device: Device = "auto", printing: PrintOptions) -> None:
    """Train the network of a job into a run folder."""
    _start("train", job, options.settings(device), printing.verbosity)


@app.command(cls=Command)
@with_groups
def predict(run: Run, *, compute: ComputeOptions, workers: Workers = 1, printing: PrintOptions) -> None:
    """Predict the test images of a run."""
    with reporting_errors(lambda: f"morula predict {run}"):
        events = workflows.predict.predict(run, device=compute.device, memory=compute.memory, workers=workers)
        cli.printing.print_events(events, printing.verbosity)


app.command(cls=Command)(train3dunet)
app.command(cls=Command)(predict3dunet)


@app.command(cls=Command)
@with_groups
def segment(
    images: Annotated[list[str], typer.Argument(help="Images, folders or patterns.", show_default=False)],
    *,
    model: ModelOptions,
    results: ResultOptions,
    files: PartOptions,
    compute: ComputeOptions,
    workers: Workers = 1,
    cluster: Cluster = None,
    printing: PrintOptions,
) -> None:
    """Segment and measure new images with a trained model. No training data is needed."""
    with reporting_errors():
        reading = files.reading()  # wrong options are found before a model is loaded
        if results.print_slurm is not None:
            echo(slurm_script(sys.argv[2:], results.print_slurm))
            return
        events = workflows.segment.segment(
            list(images),
            model=model.chosen(),
            output=results.output,
            overwrite=results.overwrite,
            device=compute.device,
            memory=compute.memory,
            workers=workers,
            cluster=cluster,
            reading=reading,
            diameter=model.diameter,
            also=results.also,
            batch=results.batch(),
        )
        cli.printing.print_events(events, printing.verbosity)


@app.command(cls=Command)
@with_groups
def evaluate(
    run: Annotated[
        Path,
        typer.Argument(help="Run folder. With --representations: a job file, run folder or label images.", show_default=False),
    ],
    representations: Annotated[
        str | None,
        typer.Option(
            metavar="F+C,F+C+Db,...",
            help="Compare sets of channels: encode labels, decode them and score the result. A:mutex_watershed names the decoder.",
        ),
    ] = None,
    also: Annotated[list[Path], typer.Option("--run", help="Evaluated run to compare with. Can be repeated.")] = [],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the comparison.", show_default="runs/<name>_comparison")
    ] = None,
    *,
    files: LabelOptions,
    printing: PrintOptions,
) -> None:
    """Score the predicted test images of a run, or compare representations on one data set."""
    with reporting_errors(
        lambda: f"morula evaluate {run} --representations {representations}" if representations else f"morula evaluate {run}"
    ):
        reading = files.reading()
        if representations is None and not also:
            workflows.compare.check_unused(reading)
            cli.printing.print_events(workflows.evaluate.evaluate(run), printing.verbosity)
            return
        folder = output or Path("runs") / f"{run.resolve().stem}_comparison"
        sets = representations.split(",") if representations else ()
        cli.printing.print_events(workflows.compare.compare(run, sets, output=folder, runs=also, reading=reading), printing.verbosity)


@app.command(cls=Command)
@with_groups
def tune(
    run: Run,
    metric: Annotated[
        str | None, typer.Option(help="Score to maximise, for example f1 or panoptic_quality. By default as in the job.")
    ] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="IoU threshold of the score. Can be repeated; the score is averaged.")
    ] = None,
    *,
    compute: ComputeOptions,
    printing: PrintOptions,
) -> None:
    """Tune thresholds and post-processing on the validation images, and write the best settings into the run."""
    with reporting_errors(lambda: f"morula tune {run}"):
        events = workflows.tune.tune(run, metric=metric, thresholds=threshold, device=compute.device, memory=compute.memory)
        cli.printing.print_events(events, printing.verbosity)


@app.command(cls=Command)
@with_groups
def measure(
    labels: Annotated[Path, typer.Argument(help="Label image.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.", show_default=False)],
    intensity: Intensity = None,
    *,
    files: LabelOptions,
    extra: Annotated[
        list[str],
        typer.Option("--extra", metavar="NAME", help="Additional region property of scikit-image (repeatable), for example solidity."),
    ] = [],  # noqa: B006
    remove: Annotated[
        list[str],
        typer.Option(
            "--remove",
            metavar="CONDITION",
            help="Remove objects that satisfy this, for example 'npixels < 100 and circularity <= 0.7'. Can be repeated.",
        ),
    ] = [],  # noqa: B006
    kept: Annotated[Path | None, typer.Option("--kept", help="Label image for the remaining objects.")] = None,
    overwrite: ReplaceFiles = False,
) -> None:
    """Measure the objects of a label image: one row per object."""
    with reporting_errors():
        events = workflows.measure.measure_file(
            labels,
            output,
            intensity=intensity,
            reading=files.reading(),
            extra=extra,
            remove=remove,
            kept=kept,
            overwrite=overwrite,
        )
        cli.printing.print_events(events, Verbosity.NORMAL)


@app.command(cls=Command)
@with_groups
def export(
    source: Annotated[str, typer.Argument(help="Label image, outlines of another program, or a model.", show_default=False)],
    to: ExportKinds = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for one format, folder for several.", show_default="beside the labels; MODEL.zip"),
    ] = None,
    intensity: Intensity = None,
    *,
    files: LabelOptions,
    package: PackageOptions,
    overwrite: ReplaceFiles = False,
) -> None:
    """Write labels for other programs (ROIs of ImageJ, GeoJSON of QuPath, COCO, preview, Parquet), or a model for the model zoo."""
    with reporting_errors():
        if kind := model_format(to, bioimageio=package.bioimageio):
            events = written_model(source, kind, output, package, overwrite=overwrite)
            cli.printing.print_events(events, Verbosity.NORMAL)
            return
        events = workflows.export.export(source, to, output=output, intensity=intensity, reading=files.reading(), overwrite=overwrite)
        cli.printing.print_events(events, Verbosity.NORMAL)


@app.command(cls=Command)
@with_groups
def replay(
    run: Run,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New run folder.", show_default="RUN_replay")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Take the stored weights: repeat prediction and scores only.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    *,
    printing: PrintOptions,
) -> None:
    """Run the job of a run again in a new folder, and report every object that differs. Exit code 1 if anything does."""
    with reporting_errors():
        events = dialects.verbs.replay(run, output=output, fast=fast, overwrite=overwrite, device=device)
        if cli.printing.print_events(events, printing.verbosity).get("different files"):
            raise typer.Exit(1)


@app.command("report", cls=Command)
def write_report(run: Run) -> None:
    """Write the HTML report of a run."""
    with reporting_errors():
        echo(str(report.build.write_report(run)))


@app.command(cls=Command)
@with_groups
def info(
    path: Annotated[
        Path, typer.Argument(help="Image, label image, folder of images, job file, run folder or model folder.", show_default=False)
    ],
    *,
    files: PartOptions,
) -> None:
    """Describe an image, job file, run folder or model."""
    with reporting_errors():
        cli.info.print_info(path, files.reading())


@app.command(cls=Command)
def models() -> None:
    """List the models that can be used by their names: licence, training images, scores, picture."""
    with reporting_errors():
        cli.models.print_models()


@app.command(cls=Command)
def doctor() -> None:
    """Check this computer: hardware, packages and likely problems."""
    with reporting_errors():
        cli.doctor.print_findings()
