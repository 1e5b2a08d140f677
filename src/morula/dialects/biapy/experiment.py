"""BiaPy's command line: a job file, a folder for results, the name of the experiment and the number of the run.

RESULT_DIR/NAME/
    config_files/         copies of the job file
    checkpoints/          the best weights of each run with BiaPy's names
    logs/                 messages and learning curves of each run
    results/NAME_RUN/     the run folder, with BiaPy's folders of results beside its own
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from morula.core.atomic import atomic
from morula.core.errors import OptionError
from morula.core.events import Event, Warned
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, check_apart, check_writable
from morula.dialects.biapy.convert import converted
from morula.dialects.biapy.folders import Experiment
from morula.dialects.biapy.predict import model_of, predict_settings
from morula.dialects.biapy.results.links import is_free, kept
from morula.dialects.biapy.results.tree import ResultsTree
from morula.dialects.biapy.settings import Settings, predicts_only, read_settings
from morula.dialects.converted import Converted, Value
from morula.jobs.inputs import check_new_run, images_of, inputs_of
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.models.model import Model
from morula.workflows.run import run as run_native
from morula.workflows.run_settings import RunSettings

_CHECKPOINT = "PATHS.CHECKPOINT_FILE"


def run_experiment(config: str | Path, experiment: Experiment, settings: RunSettings, *, devices: int = 1) -> Iterator[Event]:
    """Run a job file of BiaPy as its command line does: train, predict or both, into the folders of the experiment.

    With MODEL.LOAD_CHECKPOINT and no PATHS.CHECKPOINT_FILE the weights are those of the earlier run of the same name and number.
    That run is kept: its folder gets another name.

    Args:
        config: the job file.
        experiment: folders, name and number.
        settings: device and memory, whether the run is continued, or the earlier run of this name and number replaced. The folder is
            that of the experiment.
        devices: graphics cards to train on.

    Yields:
        events of all stages.

    Raises:
        JobError: with all problems of the job file, its images and its checkpoint.
        FileWriteError: when there is a run of this name and number already.

    Examples:
        >>> for event in run_experiment("nuclei.yaml", Experiment(Path("out"), "nuclei"), RunSettings()):  # doctest: +SKIP
        ...     print(event)
    """
    parts = Path(experiment.name).parts
    if not parts or ".." in parts or Path(experiment.name).is_absolute():
        rule, remedy = (
            "must be a name, because results go to --result_dir/NAME",
            "Write for example nuclei, and name the folder with --result_dir.",
        )
        raise OptionError("biapy.name", rule, key="--name", value=experiment.name, remedy=remedy)
    check_writable(experiment.run_folder, str(experiment.run_folder))
    # files outside of the run folder are recorded here: only those are ever replaced
    with recording(experiment.folder, RESULTS):
        yield from _recorded(config, experiment, settings, devices)


def _recorded(config: str | Path, experiment: Experiment, settings: RunSettings, devices: int) -> Iterator[Event]:
    output = experiment.run_folder
    run = replace(settings, output=output)
    if run.resume:
        tree = ResultsTree(experiment, read_settings(config, with_tree=True))
        yield from tree.follow(run_native(config, run), resumed=True)
        return
    # read twice: whether the earlier run supplies a checkpoint depends on the job itself
    supplied = _supplied(read_settings(config), experiment)
    read = read_settings(config, supplied=supplied, with_tree=True)
    start = _start(read)
    _check_places(experiment, _job_of(start), supplied=bool(supplied))
    # the conversion has reported the problems of the job: the earlier run is moved only for a job that can start
    if supplied and output.is_dir():
        kept, read = _set_aside(config, experiment)
        yield Warned("biapy.earlier_run", f"the earlier run {experiment.identifier} is kept as {kept.name}; its weights are the start.")
        start = _start(read)
    if isinstance(start, Converted):  # before the first file is written
        folder = RunFolder(output)
        check_new_run(folder, _job_of(start), config)
        folder.check_free(overwrite=run.overwrite)
    tree = ResultsTree(experiment, read)
    yield from _copy_job(Path(config), experiment, tree.time)
    if isinstance(start, Converted):
        several = [f"training.devices={devices}"] if devices > 1 else []
        yield from tree.follow(start.events(run_native(start.job, replace(run, overrides=several))))
    else:
        yield from tree.follow(predict_settings(read, start, RunFolder(output), run))


def _start(read: Settings) -> Converted | Model:
    """The native job of a job that trains, and the model of one that predicts only."""
    return model_of(read) if predicts_only(read) else converted(read)


def _job_of(start: Converted | Model) -> Job:
    return load_job(start.job) if isinstance(start, Converted) else start.job


def _check_places(experiment: Experiment, job: Job, *, supplied: bool) -> None:
    """Nothing is added to folders with images of the job, and weights that it names are not replaced by those of the run."""
    folders = [Destination(experiment.folder / name, key="--result_dir") for name in ("config_files", "checkpoints", "logs")]
    check_apart(folders, images_of(job))
    if not supplied:
        check_apart([Destination(experiment.written_checkpoint, key="--result_dir")], inputs_of(job))


def _supplied(settings: Settings, experiment: Experiment) -> Mapping[str, Value]:
    """The checkpoint of the earlier run, where the job asks for it."""
    if not settings.flag("MODEL.LOAD_CHECKPOINT") or settings.text(_CHECKPOINT):
        return {}
    checkpoint = experiment.checkpoint
    return {} if checkpoint is None else {_CHECKPOINT: str(checkpoint)}


def _set_aside(config: str | Path, experiment: Experiment) -> tuple[Path, Settings]:
    """Rename the folder of the earlier run, and read the job with its checkpoint from there."""
    output = experiment.run_folder
    # never replaced: a third run must not overwrite what the second one has set aside
    number = 1
    while (kept := output.with_name(f"{output.name}_before_{number}")).exists():
        number += 1
    output.rename(kept)
    model = kept / "model"
    checkpoint = model if model.is_dir() else experiment.checkpoint
    return kept, read_settings(config, supplied={_CHECKPOINT: str(checkpoint)}, with_tree=True)


def _copy_job(config: Path, experiment: Experiment, time: str) -> Iterator[Event]:
    """Keep the job file: under its name, as in the documents, and with number and time of the run, as BiaPy 3.7 does."""
    folder = experiment.folder / "config_files"
    folder.mkdir(parents=True, exist_ok=True)
    for target in (folder / config.name, folder / f"{config.stem}_{experiment.run_id}_{time}.yaml"):
        if target.exists() and target.samefile(config):  # a stored copy that is run again
            continue
        if not is_free(target):
            yield kept(target)
            continue
        with atomic(target) as part:
            shutil.copyfile(config, part)


def device_of(gpu: str | None) -> tuple[str, int, str]:
    """Device, number of devices and a warning (or nothing) for BiaPy's ``--gpu``, which has the numbers of graphics cards.

    An empty text stands for the processor.

    The cards are chosen by CUDA_VISIBLE_DEVICES, so this has to be called before the first use of CUDA.

    Raises:
        OptionError: when it is no list of numbers.

    Examples:
        >>> device_of(""), device_of(None)
        (('cpu', 1, ''), ('auto', 1, ''))
    """
    if gpu is None:
        return "auto", 1, ""
    numbers = [number.strip() for number in gpu.split(",") if number.strip()]
    if not all(number.isdigit() for number in numbers):
        raise OptionError(
            "biapy.gpu",
            "must be numbers of graphics cards",
            key="--gpu",
            value=gpu,
            remedy="Write 0, or 0,1, or nothing for the processor.",
        )
    if not numbers:
        return "cpu", 1, ""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(numbers)
    import torch  # only runs with --gpu need it this early

    if torch.cuda.is_available():
        return "cuda", min(len(numbers), torch.cuda.device_count()), ""
    return "auto", 1, f"--gpu {gpu}: there is no such graphics card; the fastest device that is present is used."
