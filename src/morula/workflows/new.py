"""A planned and tested job, written from a few answers and from the images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

from morula.core.errors import DataError, JobError, OptionError
from morula.core.events import Event, Logged, Progress, Started
from morula.core.outputs import Destination, check_outputs
from morula.data.summary import describe
from morula.inference.memory import available_memory
from morula.jobs.load import load_job
from morula.methods.planning import Document
from morula.nn.options import AUTO
from morula.workflows.answers import Answers
from morula.workflows.compare import Representation, Truths
from morula.workflows.dry_run import Proof, prove
from morula.workflows.new_document import (
    CHANNELS,
    absolute,
    method_of,
    objects_of,
    pretraining,
    stated,
    stated_classes,
    unlabelled_objects,
    wide_patch,
)
from morula.workflows.new_plan import Plan
from morula.workflows.prepare import Prepared, open_images, prepare
from morula.workflows.recommend import Recommended, recommend
from morula.workflows.run_settings import never_stop
from morula.workflows.trial import STEPS, Trial, fitting_models, tried, untrained

FEW = 3
"""Images below which there may be none to keep apart for validation."""
SETS = 2
"""Channel sets that are tried."""
TRAINING_SHARE = 0.8
"""Share of a stated time that the training steps get; validation, tuning and prediction take the rest."""
FEWEST_STEPS = 300
"""Steps below which the batch and the patch are made smaller."""
SMALLEST_BATCH = 2
SMALLEST_PATCH = {2: 128, 3: 32}
"""Edge in voxels below which patches are not made smaller."""


def new(
    path: str | Path,
    answers: Answers,
    *,
    memory: str | None = None,
    overwrite: bool = False,
    trial: float = 0.0,
    minutes: float | None = None,
) -> Plan:
    """Plan a job for images, test it by one real training step within the memory limit, and write it. Arguments and errors as of
    `plan_steps`.
    """
    steps = plan_steps(path, answers, memory=memory, overwrite=overwrite, trial=trial, minutes=minutes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            plan: Plan = end.value
            plan.write(overwrite=overwrite)
            return plan


def plan_steps(
    path: str | Path,
    answers: Answers,
    *,
    memory: str | None = None,
    overwrite: bool = False,
    trial: float = 0.0,
    minutes: float | None = None,
    stop: Callable[[], bool] = never_stop,
) -> Generator[Event, None, Plan]:
    """Plan a job for images, and test it by real training steps. Nothing is written.

    Args:
        path: the job file.
        answers: what only the user knows.
        memory: memory limit for training, for example ``"8GB"``; by default most of the free memory.
        overwrite: the file may exist, as far as it is as Morula wrote it.
        trial: seconds of training for each of the best channel sets, and for the bundled model that fits; the validation images decide.
            With 0 the channels that lose least of the labels are planned, and random weights.
        minutes: planned duration of the training on this computer; epochs, batch and patch are planned for it.
        stop: ends a trial when it returns true.

    Yields:
        what is done.

    Returns:
        the plan.

    Raises:
        FileWriteError: when the file exists already.
        OptionError: when pixels are to be classified without labels.
        JobError: with all problems of the images.
        DataError: when even one patch per step does not fit into the memory.
    """
    path = Path(path)
    folder, notes = path.resolve().parent, list[str]()
    inputs = [
        location
        for location in (answers.raw, answers.labels, answers.test, answers.test_labels, answers.unlabelled)
        if location is not None
    ]
    check_outputs([Destination(path, key="job", proven=True)], inputs, overwrite=overwrite)
    if answers.task == "semantic" and answers.labels is None:
        remedy = "Name label images, or find objects without labels."
        raise OptionError("new.semantic_without_labels", "are needed for a class of every pixel", key="labels", remedy=remedy)
    yield Logged("looking at the images ...")
    document = stated(answers, folder)
    opened = open_images(load_job(absolute(document, folder)))[0]["train"]
    objects = [image.labels for image in opened if image.labels is not None] if answers.task == "instances" else []
    summary = describe([image.raw for image in opened], objects)
    if len(opened) < FEW and document["images"]["validate"] is not None:
        document = _with_validation(document, folder, notes)
    chosen, taken, trials = None, "", list[Trial]()
    if summary.objects and summary.objects.count:
        chosen = recommend(Truths(tuple(objects), opened[0].unlabelled))
        document |= _channels(chosen.representation, answers)
        if trial > 0 and answers.unlabelled is None and document["images"]["validate"] is not None:
            document, taken = yield from _tried_out(document, chosen, answers, folder, trials, trial, stop)
            notes += _notes_on(trials, taken)
    yield Logged("measuring a training step ...")
    prepared, proof, document = _measured(document, answers, memory, folder, notes)
    if minutes is not None:
        prepared, proof, document = within(minutes, prepared, proof, document, folder)
    if answers.task == "instances" and answers.labels is not None and document["images"]["validate"] is not None:
        document["objects"] = {**document.get("objects", {}), "tune": True}
    first = pretraining(answers, document, folder, notes)
    if first:
        prepare(load_job(absolute(first, folder)))  # raises the problems of these images before the file is written
        document["network"] = {"from": "stage 1"}
    notes += [text for text in (*prepared.notes, *prepared.warnings) if text not in notes]
    return Plan(path, document, first, summary, prepared, proof, chosen, tuple(trials), taken, tuple(notes))


def _with_validation(document: Document, folder: Path, notes: list[str]) -> Document:
    """The document; without validation where the images are too few or too small for it."""
    try:
        prepare(load_job(absolute(document, folder)))
    except JobError as error:
        if any(problem.key != "images.validate" for problem in error.problems):
            raise
        notes.append("the images are too few or too small to keep some apart, so nothing chooses the best epoch, and nothing is tuned")
        return {**document, "images": {**document["images"], "validate": None}}
    return document


def _channels(representation: Representation, answers: Answers) -> Document:
    """Method and decoder of a channel set, with the classes of objects."""
    return {"method": {**method_of(representation), **stated_classes(answers)}} | objects_of(representation)


def _tried_out(
    document: Document,
    chosen: Recommended,
    answers: Answers,
    folder: Path,
    trials: list[Trial],
    seconds: float,
    stop: Callable[[], bool],
) -> Generator[Event, None, tuple[Document, str]]:
    """The document with the channels and the start that are best on the validation images after a short training, and their name.

    All trials are added to `trials`.
    """
    options: dict[str, Document] = {}
    if answers.start == AUTO:
        job = load_job(absolute({**document, "objects": {}}, folder))
        facts = prepare(job).facts
        for model in fitting_models(facts.ndim, facts.in_channels):
            trials.append(untrained(model.name, job))
            method = {"kind": "channels", "channels": CHANNELS, **stated_classes(answers)}
            options[f"F+C+Db from {model.name}"] = {**document, "objects": {}, "method": method, "network": {"from": model.name}}
    for representation in chosen.best(SETS):
        options[str(representation)] = {**document, "objects": {}} | _channels(representation, answers)
    yield Started(len(options), "training", f"{len(options)} short trainings of {seconds:g} s each")
    for number, (name, option) in enumerate(options.items(), start=1):
        trials.append(tried(name, load_job(absolute(option, folder)), seconds=seconds, stop=stop))
        yield Progress(number, len(options), "training", f"{name}: F1 {trials[-1].f1:.3f}")
    # losses of different channels cannot be compared; where F1 is equal, the first counts: the bundled model, then the least loss of labels
    trained = [trial for trial in trials if trial.trained]
    best = max(range(len(trained)), key=lambda number: (round(trained[number].f1, 3), -number))
    return options[trained[best].name], trained[best].name


def _notes_on(trials: Sequence[Trial], taken: str) -> list[str]:
    """That the trials were too short to tell which plan is better, and that a model needs no training."""
    found = []
    fewest = min(trial.steps for trial in trials if trial.trained)
    if fewest < STEPS:
        found.append(f"the short trainings took as few as {fewest} steps, so their scores say little; give them more time, or none")
    planned = next(trial for trial in trials if trial.name == taken)
    for trial in trials:
        if not trial.trained and trial.f1 >= planned.f1:
            command = f"morula segment IMAGES --model {trial.name}"
            found.append(f"the model {trial.name} scores {trial.f1:.3f} on these images without training, and may do: {command}")
    return found


def _measured(document: Document, answers: Answers, memory: str | None, folder: Path, notes: list[str]) -> tuple[Prepared, Proof, Document]:
    """The plan within the memory, its cost, and the document with patch and batch."""
    if unlabelled_objects(answers):
        prepared = prepare(load_job(absolute(document, folder)))
        document["sampling"] = {"patch": wide_patch(prepared.job.sampling.patch_shape, answers, prepared.facts.shapes)}
    prepared, proof = proven(absolute(document, folder), memory, notes)
    sampling = {"patch": list(prepared.job.sampling.patch_shape), "batch": prepared.job.sampling.batch_size}
    return prepared, proof, {**document, "sampling": sampling}


def within(minutes: float, prepared: Prepared, proof: Proof, document: Document, folder: Path) -> tuple[Prepared, Proof, Document]:
    """The plan whose training takes this time here: fewer epochs, and where that leaves few steps a smaller batch, then smaller patches."""
    restarts = prepared.job.training.restarts
    seconds = TRAINING_SHARE * 60 * minutes / restarts
    while seconds / proof.seconds_per_step < FEWEST_STEPS:
        sampling = prepared.job.sampling
        patch, batch = list(sampling.patch_shape), sampling.batch_size
        if batch > SMALLEST_BATCH:
            batch = max(SMALLEST_BATCH, batch // 2)
        elif max(patch) > SMALLEST_PATCH[len(patch)]:
            patch = [max(min(n, SMALLEST_PATCH[len(patch)]), n // 2) for n in patch]
        else:
            break
        document = {**document, "sampling": {"patch": patch, "batch": batch}}
        prepared = prepare(load_job(absolute(document, folder)))
        proof = prove(prepared)
    steps = max(1, int(seconds / proof.seconds_per_step))
    batch = prepared.job.sampling.batch_size
    epochs = max(1, min(prepared.job.training.epochs, steps * batch // len(prepared.train)))
    document["sampling"]["patches_per_epoch"] = max(batch, min(len(prepared.train), steps * batch // epochs))
    document["training"] = {**document.get("training", {}), "epochs": epochs}
    prepared = prepare(load_job(absolute(document, folder)))
    per_epoch = max(1, len(prepared.train) // batch)
    return prepared, replace(proof, steps=epochs * per_epoch * restarts), document


def proven(document: Document, memory: str | None, notes: list[str]) -> tuple[Prepared, Proof]:
    """The plan, with the batch halved until a real training step fits into the memory."""
    budget = available_memory(memory)
    prepared = prepare(load_job(document))
    while True:
        proof = prove(prepared)
        if proof.peak_bytes <= budget:
            return prepared, proof
        batch = prepared.job.sampling.batch_size // 2
        if batch < 1:
            raise DataError(
                "memory.step_too_large",
                f"a training step with one patch needs {proof.peak_bytes / 1e9:.1f} GB but {budget / 1e9:.1f} GB are available",
                key="sampling.patch",
                value=prepared.job.sampling.patch,
                remedy="Give more memory, or state a smaller sampling.patch or network.features.",
            )
        notes.append(
            f"a step with {2 * batch} patches needs {proof.peak_bytes / 1e9:.1f} GB, more than the limit, so {batch} patches are planned"
        )
        prepared = prepare(load_job({**document, "sampling": {**document.get("sampling", {}), "batch": batch}}))
