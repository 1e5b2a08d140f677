"""The verbs that take a job file of any program: foreign files are converted, native ones are passed to `morula.workflows` unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from morula import workflows
from morula.core.errors import OptionError
from morula.core.events import Event
from morula.dialects import biapy, program_of, pytorch3dunet
from morula.workflows.run_settings import RunSettings, never_stop
from morula.workflows.stream import Outcome, events_of, outcome_of

if TYPE_CHECKING:
    from morula.dialects.converted import Converted
    from morula.workflows.check import Checked


def run(
    job: str | Path | Mapping[str, object],
    *,
    output: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
    stop: Callable[[], bool] = never_stop,
) -> Outcome:
    """Train the network of a job, predict its test images, score them and write the report. `iter_run` does the same and yields events.

    Arguments and errors as of `iter_run`.

    Returns:
        the run folder, and what is in it: model, scores, table of objects, report.

    Examples:
        >>> outcome = run("nuclei.yaml", overrides=["training.epochs=5"])  # doctest: +SKIP
        >>> outcome.report  # doctest: +SKIP
        PosixPath('runs/nuclei/report.html')
        >>> labels = outcome.model.segment(image)  # doctest: +SKIP
    """
    return outcome_of(run_job(job, RunSettings(output, list(overrides), resume, overwrite, device, memory, stop)))


@events_of("morula.iter_run")
def iter_run(
    job: str | Path | Mapping[str, object],
    *,
    output: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    memory: str | None = None,
    stop: Callable[[], bool] = never_stop,
) -> Iterator[Event]:
    """Train the network of a job, predict its test images, score them and write the report, while the events are read.

    Args:
        job: a job file of Morula, BiaPy or pytorch-3dunet, or a mapping with Morula's keys.
        output: the run folder; ``runs/<name of the job file>`` by default, and with pytorch-3dunet that of the file.
        overrides: ``key=value`` texts that override the file.
        resume: continue the run in this folder exactly where it was stopped.
        overwrite: replace a former run in this folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for prediction, for example ``"8GB"``.
        stop: called after every training step; when it returns true, the state is saved and the stream ends.

    Yields:
        the events of all stages, see `morula.workflows.run.run`.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder is not empty.
        OptionError: for overrides with a job that only predicts.

    Examples:
        >>> for event in iter_run("nuclei.yaml", overrides=["training.epochs=5"]):  # doctest: +SKIP
        ...     print(event)
    """
    yield from run_job(job, RunSettings(output, list(overrides), resume, overwrite, device, memory, stop))


def run_job(job: str | Path | Mapping[str, object], settings: RunSettings) -> Iterator[Event]:
    """The same as `iter_run`, with the settings as one value."""
    if _of_pytorch3dunet(job, settings):
        assert not isinstance(job, Mapping)
        yield from pytorch3dunet.run3dunet(job, settings)
        return
    if not settings.resume and is_prediction(job):
        assert not isinstance(job, Mapping)
        if settings.overrides:
            raise OptionError("biapy.overrides", "cannot be used with a job that only predicts", key="--set", remedy="Change the job file.")
        yield from biapy.predict.predict(job, settings)
        return
    # a run that is resumed has its own native job
    foreign = None if settings.resume else as_native(job)
    if foreign is None:
        yield from workflows.run.run(job, settings)
    else:
        yield from foreign.events(workflows.run.run(foreign.job, replace(settings, output=settings.folder(job).path)))


def _of_pytorch3dunet(job: str | Path | Mapping[str, object], settings: RunSettings) -> bool:
    """Whether a job file is one of pytorch-3dunet. The file of a run that is resumed may be gone: the run has its own."""
    return not (isinstance(job, Mapping) or (settings.resume and not Path(job).is_file())) and program_of(job) == "pytorch-3dunet"


@events_of("morula.train")
def train(
    job: str | Path | Mapping[str, object],
    *,
    layers: Mapping[str, object] | None = None,
    output: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    stop: Callable[[], bool] = never_stop,
) -> Iterator[Event]:
    """Train the network of a job into a run folder.

    Args:
        job: a job file of Morula or BiaPy, or a mapping with Morula's keys.
        layers: training images in memory, used in place of `images.train`, by name: an `Image`, an array (Z)YX, or a pair of an image
            and its labels. They are written to ``layers`` in the run folder.
        output: the run folder; ``runs/<name of the job file>`` by default.
        overrides: ``key=value`` texts that override the file.
        resume: continue the run in this folder exactly where it was stopped, with its own job.
        overwrite: replace a former run in this folder.
        device: ``auto`` (as the job says), ``cpu``, ``cuda`` or ``mps``.
        stop: called after every training step; when it returns true, the state is saved and the stream ends.

    Yields:
        events; `Finished` is the last one unless the training was stopped. See `morula.workflows.train.train`.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder is not empty.
        OptionError: for layers with a job file.
        TrainingError: when the loss is not finite.

    Examples:
        >>> import morula
        >>> for event in morula.train("nuclei.yaml"):  # doctest: +SKIP
        ...     print(event)
        >>> events = morula.train({"method": "wnet3d"}, layers={"brain": volume}, output="runs/brain")  # doctest: +SKIP
    """
    yield from train_job(job, RunSettings(output, list(overrides), resume, overwrite, device, stop=stop), layers=layers)


def train_job(
    job: str | Path | Mapping[str, object], settings: RunSettings, *, layers: Mapping[str, object] | None = None
) -> Iterator[Event]:
    """The same as `train`, with the settings as one value."""
    if layers is None and _of_pytorch3dunet(job, settings):
        assert not isinstance(job, Mapping)
        yield from pytorch3dunet.run3dunet(job, settings)
        return
    foreign = as_native(job) if layers is None and not settings.resume else None
    if foreign is None:
        yield from workflows.train.train(job, settings, layers=layers)
    else:
        yield from foreign.events(workflows.train.train(foreign.job, replace(settings, output=settings.folder(job).path)))


@events_of("morula.replay")
def replay(
    run: str | Path, *, output: str | Path | None = None, fast: bool = False, overwrite: bool = False, device: str = "auto"
) -> Iterator[Event]:
    """Run the job of a run again in a new folder, and report what differs: weights, objects, tables, scores.

    Args:
        run: a run folder whose training has finished, also that of `train3dunet`. It is only read.
        output: the new run folder; ``RUN_replay`` by default. It gets the results and ``replay.csv`` with one row per object.
        fast: take the stored weights, and repeat the prediction and the scores only.
        overwrite: replace an earlier run in the new folder.
        device: ``auto`` (as the job says), ``cpu``, ``cuda`` or ``mps``.

    Yields:
        events, see `morula.workflows.replay.replay`.

    Raises:
        DataError: when inputs are missing or changed, or the run has no record.
        ModelError: when the stored weights are not those of the record.
        FileWriteError: when the new folder is not empty.
        OptionError: for `fast` with a run of train3dunet, which has no prediction.

    Examples:
        >>> import morula
        >>> *_, last = morula.replay("runs/nuclei", fast=True)  # doctest: +SKIP
        >>> last.figures["different objects"]  # doctest: +SKIP
        0.0
    """
    job, settings = Path(run) / "job.yaml", RunSettings(output, overwrite=overwrite, device=device)
    if job.is_file() and program_of(job) == "pytorch-3dunet":
        yield from pytorch3dunet.replay3dunet(run, settings, fast=fast)
        return
    yield from workflows.replay.replay(run, settings, fast=fast)


def check(
    job: str | Path | Mapping[str, object], *, overrides: Iterable[str] = (), prove: bool = True, stage: int | None = None
) -> Checked:
    """Check a job, or one stage of a file of several, with its images. Job files of BiaPy are checked as the native jobs they become.

    Raises:
        JobError: with all problems at once.
    """
    foreign = as_native(job)
    if foreign is None:
        return workflows.check.check(job, overrides=overrides, prove=prove, stage=stage)
    with foreign.translate_errors():  # problems name the keys of the file that the user wrote
        checked = workflows.check.check(foreign.job, overrides=overrides, prove=prove)
        foreign.check_images(checked.prepared.facts.in_channels)
    # of the foreign file first: they explain values of the native job that the others are about
    warnings = (*foreign.warnings(), *checked.prepared.warnings)
    return replace(checked, prepared=replace(checked.prepared, warnings=warnings))


def as_native(job: str | Path | Mapping[str, object]) -> Converted | None:
    """The native job of a job file of BiaPy, `None` for native jobs.

    Raises:
        JobError: with all problems of the file.
    """
    if isinstance(job, Mapping) or program_of(job) != "BiaPy":
        return None
    return biapy.convert.convert(job)


def is_prediction(job: str | Path | Mapping[str, object]) -> bool:
    """Whether a job file of BiaPy predicts without training.

    Raises:
        JobError: with all problems of the file.
    """
    if isinstance(job, Mapping) or program_of(job) != "BiaPy":
        return False
    return biapy.settings.predicts_only(biapy.settings.read_settings(job))


def check_prediction(job: str | Path) -> list[str]:
    """Check a job file of BiaPy that predicts without training: its checkpoint, its decoder and its images.

    Returns:
        warnings: keys without effect, and what differs from BiaPy.

    Raises:
        JobError: with all problems at once.
    """
    settings = biapy.settings.read_settings(job)
    biapy.predict.model_of(settings)
    return [*map(str, settings.remarks), *settings.notes]
