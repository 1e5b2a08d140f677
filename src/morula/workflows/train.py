"""From labelled images to a trained model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import OptionError
from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Logged, Preview, Warned, below
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import check_apart, check_space
from morula.core.remark import code_of
from morula.jobs.inputs import check_new_run, check_run_again
from morula.jobs.load import load_job
from morula.jobs.provenance import checksum, checksums, circumstances
from morula.jobs.run_folder import RunFolder
from morula.jobs.tuning import changed
from morula.jobs.yaml_lines import located
from morula.measurement.csv_table import read_table
from morula.methods.patch_scores import patch_scores
from morula.training.monitors import Loss, Monitor, Score
from morula.training.processes import first_process
from morula.workflows.build import build_with_seed, loaders_of
from morula.workflows.in_memory_images import FOLDER, files_of_layers, job_with_layers, write_layers
from morula.workflows.log import logged
from morula.workflows.moved_images import with_moved_images
from morula.workflows.prepare import Prepared, prepare
from morula.workflows.run_settings import RunSettings
from morula.workflows.space import training_bytes
from morula.workflows.training_parts import earlier_parts
from morula.workflows.transfer import start_from
from morula.workflows.trial import settled_start
from morula.workflows.validation_scorer import ValidationScorer

if TYPE_CHECKING:
    from morula.jobs.job import Job
    from morula.nn.network import Network


@with_named_os_errors
def train(job: str | Path | Mapping[str, Any], settings: RunSettings, *, layers: Mapping[str, Any] | None = None) -> Iterator[Event]:
    """Train the network of a job into a run folder.

    Args:
        job: a job file, or a mapping with the same keys.
        settings: folder, overrides, device and what becomes of an earlier run.
        layers: training images in memory by name, see `morula.train`.

    Yields:
        events of `morula.core.events`; the last one is `Finished` unless the training was stopped.

    Raises:
        JobError: with all problems of the job and its files.
        FileWriteError: when the folder is not empty.
        OptionError: for layers with a job file.
        TrainingError: when the loss is not finite.

    Examples:
        >>> for event in train("nuclei.yaml", RunSettings(device="cpu")):  # doctest: +SKIP
        ...     print(event)
    """
    folder = settings.folder(job)
    with ExitStack() as held:
        yield from train_into(folder, held, job, settings, layers=layers)
        if first_process():
            yield from finish_objects(folder, device=settings.device)


def train_into(
    folder: RunFolder,
    held: ExitStack,
    job: str | Path | Mapping[str, Any],
    settings: RunSettings,
    *,
    layers: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Train as `train` does, and hold the lock of the run folder in `held`, for what comes after the training.

    Everything is checked before the folder is created or changed: a command that is refused changes nothing.
    """
    resume, overwrite, overrides = settings.resume, settings.overwrite, settings.job_overrides
    if resume:
        source: str | Path | Mapping[str, Any] = RunFolder.existing(folder.path).job_file
        if first_process():
            held.enter_context(folder.in_use())
        loaded = with_moved_images(untuned(load_job(source, overrides=overrides), load_job(source)), folder, job)
        check_run_again(folder, loaded)
    else:
        source = job if layers is None else _with_layers(job, layers, folder)
        loaded = load_job(source, overrides=overrides)
        # tuned settings and calibrations are valid only for the model that they were found with
        loaded = loaded.model_copy(update={"objects": loaded.objects.model_copy(update={"tuned": None, "calibration": None})})
        if layers is None:
            check_new_run(folder, loaded, source)
        if first_process():
            folder.check_free(overwrite=overwrite)
    if layers is not None and not resume and first_process():
        held.enter_context(folder.new(overwrite=overwrite))
        write_layers(layers, layers_folder(folder), axes=(job.get("images") or {}).get("axes") if isinstance(job, Mapping) else None)
    with located(source):
        loaded, chosen = settled_start(loaded)
        prepared = prepare(loaded)
    check_space(folder.path, training_bytes(prepared))
    if not resume and layers is None and first_process():
        held.enter_context(folder.new(overwrite=overwrite))
    several = loaded.training.restarts > 1
    stop = settings.stop
    events = train_restarts(prepared, folder, stop=stop) if several else train_prepared(prepared, folder, resume=resume, stop=stop)
    yield from logged(below("train", chain(map(Logged, chosen), events)), folder)


def untuned(job: Job, stored: Job) -> Job:
    """The job of a run without tuned settings and calibration where the training goes on: they fit only the weights of then."""
    tuned, now, before = job.objects.tuned, job.training, stored.training
    if (now.epochs, now.steps, now.schedule) == (before.epochs, before.steps, before.schedule):
        return job
    return changed(job, {**(tuned.before if tuned else {}), "objects.tuned": None, "objects.calibration": None})


def _with_layers(job: str | Path | Mapping[str, Any], layers: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """The job with training images in memory, which are in the run folder once they are written."""
    if not isinstance(job, Mapping):
        remedy = "Give the job as a mapping with the same keys."
        raise OptionError(
            "layers.job_file", "images in memory cannot be combined with a job file", key="job", value=str(job), remedy=remedy
        )
    check_apart([folder.path], files_of_layers(layers))
    return job_with_layers(job, layers, layers_folder(folder))


def layers_folder(folder: RunFolder) -> Path:
    """The folder of images that were given in memory."""
    return folder.path.absolute() / FOLDER


def finish_objects(folder: RunFolder, *, device: str = "auto", memory: str | None = None) -> Iterator[Event]:
    """Search the settings of the decoder and calibrate the confidences, where the job asks for it and it was not done yet."""
    from morula.workflows.calibrate import calibrate_into
    from morula.workflows.tune import tune_into

    if not (folder.model / "model.json").is_file():
        return
    objects = load_job(folder.job_file).objects
    if objects.tune and objects.tuned is None:
        yield from tune_into(folder, device=device, memory=memory)
    else:
        yield from calibrate_into(folder, device=device, memory=memory)


def train_prepared(prepared: Prepared, folder: RunFolder, *, resume: bool, stop: Callable[[], bool]) -> Iterator[Event]:
    """Train a prepared job: write the job and its provenance first, the model last."""
    from morula.training.tracking import track

    network = build_with_seed(prepared)
    events = track(_fit(prepared, network, folder, resume=resume, stop=stop), folder.path)
    start = prepared.job.network.from_
    # a training that is resumed is compared with its checkpoint first: when it is refused, nothing has been written
    first = [next(events)] if resume and first_process() else []  # other processes have no events
    if first_process():
        yield from record(prepared, folder)
    if start is not None and not resume:
        transfer = start_from(network, Path(start))
        yield from map(Logged, transfer.lines(Path(start)))
        if first_process():
            folder.write_provenance(transfer.facts(Path(start)))
    finished = yield from _all_but_finished(chain(first, events))
    if finished:
        yield from save(prepared, network, folder)
        yield finished


def train_restarts(prepared: Prepared, folder: RunFolder, *, stop: Callable[[], bool]) -> Iterator[Event]:
    """Train with several seeds, each in a folder of its own under ``starts``, and keep the best. A training that was stopped is resumed.

    The best one is chosen as the best epoch is.
    """
    began, first, number = time.monotonic(), prepared.job.training.seed, prepared.job.training.restarts
    figures = []
    for start in range(number):
        place = RunFolder(folder.path / "starts" / str(start + 1))
        place.path.mkdir(parents=True, exist_ok=True)
        resume = (place.checkpoints / "last").is_dir()
        events = train_prepared(with_seed(prepared, first + start), place, resume=resume, stop=stop)
        begun = [next(events)] if resume and first_process() else []  # refused before anything is written
        if start == 0 and first_process():
            yield from record(prepared, folder)
        yield Logged(f"start {start + 1} of {number}, seed {first + start}")
        finished = yield from _all_but_finished(below(f"start {start + 1}", chain(begun, events)))
        if finished is None:
            return
        figures.append(_best_figure(place, _stated(prepared)))
    best = min(range(number), key=figures.__getitem__)
    listed = ", ".join(f"{abs(figure):.4g}" for figure in figures)
    yield Logged(f"start {best + 1} of {number} is kept; {'scores' if figures[best] < 0 else 'losses'} of all: {listed}")
    if first_process():
        _keep(RunFolder(folder.path / "starts" / str(best + 1)), folder)
        folder.write_provenance({"start": best + 1, "seed": first + best})
    yield Finished(time.monotonic() - began, {"starts": number, "kept": best + 1})


def with_seed(prepared: Prepared, seed: int) -> Prepared:
    """Another seed: other initial weights and other patches of the same images, validated on the same validation images."""
    return replace(prepared, train=replace(prepared.train, seed=seed), warnings=())


def _stated(prepared: Prepared) -> Monitor | None:
    """The figure that the job names, and its direction."""
    monitor = prepared.job.training.monitor
    return None if monitor is None else monitor.monitor


def _best_figure(folder: RunFolder, monitor: Monitor | None) -> float:
    """The best figure of a training, higher ones with a minus sign: lower is better."""
    table = read_table(folder.logs / "training.csv")
    stated = () if monitor is None else (monitor.figure,)
    name = next(figure for figure in (*stated, "score", "validation_loss", "loss") if figure in table)
    higher = not name.endswith("loss") if monitor is None else monitor.higher_is_better
    values = np.asarray(table[name], np.float64)
    return float(-np.nanmax(values) if higher else np.nanmin(values))


def _keep(best: RunFolder, folder: RunFolder) -> None:
    """Copy the files of the best start into the run. ``model.json`` comes last: with it the training counts as finished."""
    for source, ignored in ((best.logs, "log.txt"), (best.checkpoints, ""), (best.model, "model.json")):
        shutil.copytree(source, folder.path / source.name, ignore=shutil.ignore_patterns(ignored), dirs_exist_ok=True, copy_function=_copy)
    _copy(best.model / "model.json", folder.model / "model.json")


def _copy(source: str | Path, target: str | Path) -> None:
    with atomic(target) as part:
        shutil.copyfile(source, part)


def record(prepared: Prepared, folder: RunFolder) -> Iterator[Event]:
    """Write the resolved job and its provenance; yield the warnings."""
    parts = earlier_parts(folder, prepared.job)
    yield FileWritten(folder.write_job(prepared.job), Artefact.JOB)
    yield Logged(prepared.summary_line())
    yield from map(Logged, prepared.notes)
    yield from (Warned(code_of(text, "job.doubtful"), text) for text in prepared.warnings)
    began = time.monotonic()
    from morula.training.devices import emulated, pick_device, pick_precision

    job = prepared.job
    device = pick_device(job.training.device)
    if emulated(job.training.precision, device):
        text = "training.precision = bf16 takes many times as long as fp32 on this processor, which has no instructions for it"
        yield Warned("training.emulated", f"{text}; leave it out, and the fastest precision of this computer is taken")
    facts = {"seed": prepared.train.seed, "job": checksum(folder.job_file), "inputs": checksums(prepared.files)}
    facts |= {"scale": " ".join(prepared.notes)} if prepared.notes else {}
    folder.write_provenance({**facts, **parts, "precision": pick_precision(job.training.precision, device), **circumstances(device)})
    if time.monotonic() - began > 5:
        yield Logged(f"checksums of {len(prepared.files)} files took {time.monotonic() - began:.0f} s")


def _fit(prepared: Prepared, network: Network, folder: RunFolder, *, resume: bool, stop: Callable[[], bool]) -> Iterator[Event]:
    """The training loop, with the figures, preview titles and advice of the method added to its events."""
    from morula.training.loop import ValidationHooks, fit

    method = prepared.method
    history: list[dict[str, float]] = []
    known: set[str] = set()
    judge = ValidationScorer(prepared) if ValidationScorer.fits(prepared) else None
    stated = prepared.job.training.monitor
    scores = None if stated is None or isinstance(stated, Loss | Score) else partial(patch_scores, stated, method)
    events = fit(
        network,
        method.loss,
        loaders_of(prepared),
        prepared.job.training.model_copy(update={"seed": prepared.train.seed}),
        folder=folder.path,
        resume=resume,
        stop=stop,
        hooks=ValidationHooks(method.preview, method.arrays, judge, scores, _stated(prepared)),
    )
    for event in events:
        if isinstance(event, Epoch):
            judged = judge.figures if judge is not None and "score" in event.figures else {}
            event = replace(event, figures={**event.figures, **method.epoch_figures(event.figures), **judged})
        elif isinstance(event, Preview):
            rows, columns = method.preview_titles()
            event = replace(event, rows=rows, columns=columns)
        yield event
        if isinstance(event, Epoch):
            history.append(event.figures)
            fresh = [text for text in method.advice(history) if text not in known]
            known.update(fresh)
            yield from (Warned("training.advice", text) for text in fresh)


def _all_but_finished(events: Iterator[Event]) -> Generator[Event, None, Finished | None]:
    """Pass all events through except `Finished`, which is returned."""
    for event in events:
        if isinstance(event, Finished):
            return event
        yield event
    return None


def save(prepared: Prepared, network: Network, folder: RunFolder) -> Iterator[Event]:
    """Write the model with the best weights, and an example that is checked whenever the model is loaded."""
    import torch

    network.cpu().float().eval()
    model = prepared.model(network)
    image = prepared.train.sample(0, 0)["image"]
    corner = [slice(min(n, max(2 * m, 8))) for n, m in zip(image.shape[1:], network.multiple, strict=True)]  # a small file
    example = torch.from_numpy(image[(slice(None), *corner)].copy())[None]
    weights = folder.model / "weights.safetensors"
    before = checksum(weights) if weights.is_file() else None
    for path in model.save(folder.model, example):
        yield FileWritten(path, Artefact.MODEL)
    folder.write_provenance({"weights": checksum(weights)})
    if before not in (None, checksum(weights)):
        folder.mark_stale("the model was trained further after these objects were predicted")
