"""The commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from morula import __version__
from morula.cli.show import Verbosity, answering, say, show
from morula.core.errors import OptionError

if TYPE_CHECKING:
    from morula.core.events import Event

app = typer.Typer(
    name="morula",
    help="2D and 3D microscopy into measured objects - with labels, with few labels, or with none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).", show_default=False)]
Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; runs/<name of the job file> when left out.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Goes before the job file, for example training.epochs=5. May be repeated.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on exactly where this run was stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a former run in the folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Memory = Annotated[str | None, typer.Option(help="Memory that prediction may take, for example 8GB.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings, errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]


def _version(wanted: bool) -> None:
    if wanted:
        say(f"morula {__version__}")
        raise typer.Exit


@app.callback()
def _about(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    del version


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the images and the run.")] = Path("demo"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate images, train, predict, score, report: a few minutes on a laptop."""
    from morula.cli.demo import demo as run_demo

    with answering():
        show(run_demo(output, overwrite=overwrite), Verbosity.of(quiet, verbose))
        say(str(output / "run" / "report.html"))


@app.command()
def new(  # each parameter is an option of the command line
    job: Annotated[Path, typer.Argument(help="Job file to write.")] = Path("job.yaml"),
    raw: Annotated[str | None, typer.Option(help="Training images: a folder, a file or a pattern.")] = None,
    labels: Annotated[str | None, typer.Option(help="Their label images.")] = None,
    test: Annotated[str | None, typer.Option(help="Images to predict.")] = None,
    test_labels: Annotated[str | None, typer.Option(help="Their labels, to be scored.")] = None,
    task: Annotated[str | None, typer.Option(help="instances or semantic.")] = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Edge lengths in micrometres, for example 1.75,0.8,0.8 (z,y,x); from the files when left out.")
    ] = None,
    unlabelled: Annotated[str | None, typer.Option(help="Many more images without labels: pretraining on them is planned first.")] = None,
    memory: Memory = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what is given and planned.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the job file.")] = False,
) -> None:
    """Ask a few questions, look at the images and write a planned and proven job."""
    from morula.cli.new import answers_for, tell
    from morula.workflows.new import new as write_job

    with answering():
        stated = {"raw": raw, "labels": labels, "test": test, "test_labels": test_labels, "task": task, "voxel_size": voxel_size}
        answers = answers_for(**stated, unlabelled=unlabelled, ask=not yes)
        tell(write_job(job, answers, memory=memory, overwrite=overwrite))


@app.command()
def check(
    job: JobFile,
    set_: Set = [],  # noqa: B006 - Typer reads it, nobody changes it
    prove: Annotated[bool, typer.Option(help="Take one real training step to measure memory and time.")] = True,
) -> None:
    """Show everything that is wrong with a job at once, what will be used for all that it leaves out, and what it will cost."""
    from morula.cli.biapy import check_prediction
    from morula.cli.check import tell, tell3dunet, tell_stages
    from morula.dialects import program_of
    from morula.dialects.pytorch3dunet.check import check3dunet
    from morula.dialects.verbs import check as check_job
    from morula.dialects.verbs import is_prediction
    from morula.workflows.check import check_stages
    from morula.workflows.stages import stage_count

    with answering():
        if program_of(job) == "pytorch-3dunet":
            _refuse_flags(job, {"--set": bool(set_)})
            tell3dunet(check3dunet(job))
        elif stage_count(job) > 1:
            tell_stages(check_stages(job, overrides=set_, prove=prove))
        elif is_prediction(job):
            check_prediction(job)
        else:
            tell(check_job(job, overrides=set_, prove=prove))


@app.command()
def convert(
    job: Annotated[Path, typer.Argument(help="Job file of BiaPy or pytorch-3dunet (YAML).", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; shown when left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Show a job file of BiaPy or pytorch-3dunet as a job of Morula."""
    from morula.cli.check import write_converted
    from morula.dialects.convert import convert as convert_job

    with answering():
        text, warnings = convert_job(job)
        write_converted(text, warnings, output, overwrite=overwrite)


def _refuse_flags(job: Path, given: Mapping[str, bool]) -> None:
    """Flags that a job of pytorch-3dunet cannot obey.

    Raises:
        OptionError: when one was given.
    """
    named = [flag for flag, there in given.items() if there]
    if named:
        raise OptionError(f"{', '.join(named)} cannot be used with a job file of pytorch-3dunet; write it in {job} (trainer, loaders).")


def _again(verb: str, job: Path, output: Path | None) -> str:
    """How a stopped command is gone on with: resumed where its run folder was made."""
    from morula.workflows.train import default_output

    made = ((output or default_output(job)) / "job.yaml").is_file()
    return f"morula {verb} {job}{f' -o {output}' if output else ''}{' --resume' if made else ''}"


@app.command()
def run(
    job: Annotated[Path | None, typer.Argument(help="Job file (YAML).", show_default=False)] = None,
    output: Output = None,
    set_: Set = [],  # noqa: B006
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    memory: Memory = None,
    config: Annotated[Path | None, typer.Option("--config", help="Job file of BiaPy, run as `morula-biapy` does.")] = None,
    result_dir: Annotated[Path, typer.Option("--result_dir", help="With --config: folder of all experiments.")] = Path(),
    name: Annotated[str, typer.Option("--name", help="With --config: name of the experiment.")] = "unknown_job",
    run_id: Annotated[int, typer.Option("--run_id", help="With --config: number of the run.")] = 1,
    gpu: Annotated[str | None, typer.Option("--gpu", help='With --config: graphics cards, "" for the processor.')] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train, predict, evaluate and report."""
    from morula.cli.biapy import biapy
    from morula.dialects import program_of
    from morula.dialects.verbs import run as run_job

    if config is not None:
        biapy(config, result_dir, name, run_id, gpu, resume=resume, overwrite=overwrite, quiet=quiet, verbose=verbose)
        return
    if job is None:
        raise typer.BadParameter("name a job file, or --config with a job file of BiaPy")
    with answering(lambda: _again("run", job, output)):
        if program_of(job) == "pytorch-3dunet":
            _refuse_flags(job, {"--output": output is not None, "--set": bool(set_), "--resume": resume, "--overwrite": overwrite})
            show(_run3dunet(job, device), Verbosity.of(quiet, verbose))
            return
        events = run_job(job, output=output, overrides=set_, resume=resume, overwrite=overwrite, device=device, memory=memory)
        show(events, Verbosity.of(quiet, verbose))


@app.command()
def train(
    job: JobFile,
    output: Output = None,
    set_: Set = [],  # noqa: B006
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the network of a job into a run folder."""
    from morula.dialects import program_of
    from morula.dialects.verbs import train as train_job

    with answering(lambda: _again("train", job, output)):
        if program_of(job) == "pytorch-3dunet":
            _refuse_flags(job, {"--output": output is not None, "--set": bool(set_), "--resume": resume, "--overwrite": overwrite})
            show(_run3dunet(job, device), Verbosity.of(quiet, verbose))
            return
        events = train_job(job, output=output, overrides=set_, resume=resume, overwrite=overwrite, device=device)
        show(events, Verbosity.of(quiet, verbose))


@app.command()
def predict(run: Run, device: Device = "auto", memory: Memory = None, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Predict the test images of a run's job."""
    from morula.workflows.predict import predict as predict_run

    with answering(lambda: f"morula predict {run}"):
        show(predict_run(run, device=device, memory=memory), Verbosity.of(quiet, verbose))


Config = Annotated[Path, typer.Option("--config", help="Job file of pytorch-3dunet (YAML).", show_default=False)]
ModelPath = Annotated[str | None, typer.Option("--model_path", help="Checkpoint, instead of model_path.")]
OutputDir = Annotated[str | None, typer.Option("--loaders.output_dir", help="Folder of the predictions.")]
FilePaths = Annotated[list[str], typer.Option("--loaders.test.file_paths", help="Files to predict; several after one another.")]
MoreFiles = Annotated[list[str] | None, typer.Argument(hidden=True)]
PatchShape = Annotated[
    tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.patch_shape", help="Edges of a patch (z y x).")
]
StrideShape = Annotated[
    tuple[int, int, int] | None, typer.Option("--loaders.test.slice_builder.stride_shape", help="Distance of patches (z y x).")
]


def _run3dunet(job: Path, device: str) -> Iterator[Event]:
    """What a job file of pytorch-3dunet asks for."""
    from morula.dialects.pytorch3dunet.job import purpose_of
    from morula.dialects.pytorch3dunet.predict import predict3dunet as predict_config
    from morula.dialects.pytorch3dunet.train import train3dunet as train_config

    overrides = {} if device == "auto" else {"device": device}
    return train_config(job, overrides=overrides) if purpose_of(job) == "train" else predict_config(job, overrides=overrides)


def _flags(
    model_path: str | None,
    output_dir: str | None,
    file_paths: list[str],
    patch_shape: tuple[int, int, int] | None,
    stride_shape: tuple[int, int, int] | None,
) -> dict[str, object]:
    """The flags of pytorch-3dunet's commands that were given, by key."""
    given: dict[str, object] = {
        "model_path": model_path,
        "loaders.output_dir": output_dir,
        "loaders.test.file_paths": file_paths or None,
        "loaders.test.slice_builder.patch_shape": None if patch_shape is None else list(patch_shape),
        "loaders.test.slice_builder.stride_shape": None if stride_shape is None else list(stride_shape),
    }
    return {key: value for key, value in given.items() if value is not None}


@app.command()
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
    """Train as a job file of pytorch-3dunet says."""
    from morula.dialects.pytorch3dunet.train import train3dunet as train_config

    with answering(lambda: f"morula train3dunet --config {config} with trainer.resume: CHECKPOINT_DIR/last_checkpoint.pytorch"):
        overrides = _flags(model_path, output_dir, [*file_paths, *(more or ())], patch_shape, stride_shape)
        show(train_config(config, overrides=overrides), Verbosity.of(quiet, verbose))


@app.command()
def predict3dunet(  # each parameter is an option of the command line
    config: Config,
    model_path: ModelPath = None,
    output_dir: OutputDir = None,
    file_paths: FilePaths = [],  # noqa: B006
    patch_shape: PatchShape = None,
    stride_shape: StrideShape = None,
    more: MoreFiles = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace predictions that exist.")] = False,
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Predict with a job file and a checkpoint of pytorch-3dunet."""
    from morula.dialects.pytorch3dunet.predict import predict3dunet as predict_config

    with answering():
        overrides = _flags(model_path, output_dir, [*file_paths, *(more or ())], patch_shape, stride_shape)
        show(predict_config(config, overrides=overrides, overwrite=overwrite, memory=memory), Verbosity.of(quiet, verbose))


@app.command()
def segment(
    images: Annotated[list[str], typer.Argument(help="Images, folders or patterns.", show_default=False)],
    model: Annotated[Path, typer.Option("--model", "-m", help="Run folder (or the model folder in it).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Label file for one image, folder for several.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    device: Device = "auto",
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment and measure new images with a trained model; no training data needed."""
    from morula.workflows.segment import segment as segment_images

    with answering():
        events = segment_images(list(images), model=model, output=output, overwrite=overwrite, device=device, memory=memory)
        show(events, Verbosity.of(quiet, verbose))


@app.command()
def evaluate(
    run: Annotated[
        Path,
        typer.Argument(help="Run folder; with --representations a job file, a run folder or label images.", show_default=False),
    ],
    representations: Annotated[
        str | None,
        typer.Option(
            metavar="F+C,F+C+Db,...",
            help="Compare channel sets: what decoding encoded labels gives back. A:mutex_watershed names the decoder, too.",
        ),
    ] = None,
    also: Annotated[list[Path], typer.Option("--run", help="An evaluated run to compare with. May be repeated.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the comparison; runs/<name>_comparison.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score the predicted test images of a run against their labels, or compare representations on one data set."""
    from morula.workflows.compare import compare
    from morula.workflows.evaluate import evaluate as evaluate_run

    with answering(lambda: f"morula evaluate {run} --representations {representations}" if representations else f"morula evaluate {run}"):
        if representations is None and not also:
            show(evaluate_run(run), Verbosity.of(quiet, verbose))
            return
        folder = output or Path("runs") / f"{run.resolve().stem}_comparison"
        show(
            compare(run, (representations or "").split(",") if representations else (), output=folder, runs=also),
            Verbosity.of(quiet, verbose),
        )


@app.command()
def tune(
    run: Run,
    metric: Annotated[
        str | None, typer.Option(help="Figure to raise, for example f1 or panoptic_quality; as the job says when left out.")
    ] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Intersection over union at which it is taken. May be repeated: the mean counts.")
    ] = None,
    device: Device = "auto",
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search thresholds and operations on objects on the validation images, and write the winner into the run."""
    from morula.workflows.tune import tune as tune_run

    with answering(lambda: f"morula tune {run}"):
        show(tune_run(run, metric=metric, thresholds=threshold, device=device, memory=memory), Verbosity.of(quiet, verbose))


@app.command()
def measure(
    labels: Annotated[Path, typer.Argument(help="Label image.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.", show_default=False)],
    intensity: Annotated[Path | None, typer.Option("--intensity", "-i", help="Image to measure intensities in.")] = None,
    voxel_size: Annotated[str | None, typer.Option(help="Edge lengths in micrometres (z,y,x); from the file when left out.")] = None,
    extra: Annotated[
        list[str], typer.Option("--extra", metavar="NAME", help="A further region property of scikit-image, such as solidity.")
    ] = [],  # noqa: B006
    remove: Annotated[
        list[str],
        typer.Option(
            "--remove",
            metavar="CONDITION",
            help="Remove objects that satisfy it, such as 'npixels < 100 and circularity <= 0.7'. May be repeated.",
        ),
    ] = [],  # noqa: B006
    kept: Annotated[Path | None, typer.Option("--kept", help="Label image to write of the objects that remain.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Measure the objects of a label image: one row an object."""
    from morula.workflows.measure import measure_file

    with answering():
        events = measure_file(
            labels,
            output,
            intensity=intensity,
            voxel_size=voxel_size,
            extra=extra,
            remove=remove,
            kept=kept,
            overwrite=overwrite,
        )
        show(events, Verbosity.NORMAL)


@app.command()
def report(run: Run) -> None:
    """Write the HTML report of a run anew."""
    from morula.report.build import write_report

    with answering():
        say(str(write_report(run)))


@app.command()
def info(
    path: Annotated[
        Path, typer.Argument(help="Image, label image, folder of images, job file, run folder or model folder.", show_default=False)
    ],
) -> None:
    """Tell what a file or folder holds."""
    from morula.cli.info import tell

    with answering():
        tell(path)


@app.command()
def doctor() -> None:
    """Tell what this machine has, and what of it will bite."""
    from morula.cli.doctor import tell

    with answering():
        tell()
