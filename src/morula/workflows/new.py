"""A planned and tested job, written from a few answers and from the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from morula.core.atomic import atomic
from morula.core.errors import DataError
from morula.core.outputs import Destination, check_outputs
from morula.core.voxel_size import VoxelSize
from morula.data.summary import DataSummary, describe
from morula.inference.memory import available_memory
from morula.io.pairs import list_images
from morula.jobs.load import load_job
from morula.jobs.yaml_lines import dump
from morula.methods.planning import Document
from morula.workflows.build import build_with_seed
from morula.workflows.compare import Representation, Truths
from morula.workflows.dry_run import Proof, prove
from morula.workflows.prepare import Prepared, open_images, prepare
from morula.workflows.reading import Reading
from morula.workflows.recommend import Recommended, recommend
from morula.workflows.trial import Trial, fitting_models, tried


@dataclass(frozen=True)
class Answers:
    """What only the user knows."""

    raw: str
    labels: str
    task: Literal["instances", "semantic"] = "instances"
    test: str | None = None
    test_labels: str | None = None
    voxel_size: VoxelSize | None = None
    unlabelled: str | None = None
    """Images without labels to learn from first."""
    reading: Reading = field(default_factory=Reading)
    """How the files are read, as far as their metadata do not state it."""


READ = ("axes", "channel", "dataset", "scene", "time", "level", "missing")
"""Keys of `images` that are attributes of `Reading`, too."""
SETS = 2
"""Channel sets that are tried."""
TRAINING_SHARE = 0.8
"""Share of a stated time that the training steps get; validation, tuning and prediction take the rest."""
FEWEST_STEPS = 300
"""Steps below which the batch and the patch are made smaller."""
SMALLEST_BATCH = 2
SMALLEST_PATCH = {2: 128, 3: 32}
"""Edge in voxels below which patches are not made smaller."""
MANY = 4
"""Pretraining is proposed from this many images without labels per image with labels."""


@dataclass(frozen=True, eq=False)
class Written:
    """The job file, the summary of the images, the plan, and the test of one training step."""

    path: Path
    summary: DataSummary
    prepared: Prepared
    proof: Proof
    notes: tuple[str, ...]


def new(
    path: str | Path,
    answers: Answers,
    *,
    memory: str | None = None,
    overwrite: bool = False,
    trial: float = 0.0,
    minutes: float | None = None,
) -> Written:
    """Plan a job for images, test it by one real training step within the memory limit, and write it.

    Args:
        path: the job file.
        answers: what only the user knows.
        memory: memory limit for training, for example ``"8GB"``; by default most of the free memory.
        overwrite: replace the file.
        trial: seconds of training for each of the best channel sets, and for the bundled model that fits; the validation images decide.
            With 0 the channels that lose least of the labels are planned, and random weights.
        minutes: planned duration of the training on this computer; epochs, batch and patch are planned for it.

    Raises:
        FileWriteError: when the file exists already.
        JobError: with all problems of the images.
        DataError: when even one patch per step does not fit into the memory.
    """
    path = Path(path)
    inputs = [each for each in (answers.raw, answers.labels, answers.test, answers.test_labels, answers.unlabelled) if each is not None]
    check_outputs([Destination(path, key="job")], inputs, overwrite=overwrite)
    document = stated(answers, path.resolve().parent)
    train = open_images(load_job(absolute(document, path.resolve().parent)))[0]["train"]
    objects = [each.labels for each in train if each.labels is not None] if answers.task == "instances" else []
    summary = describe([each.raw for each in train], objects)
    notes: list[str] = []
    chosen = recommend(Truths(tuple(objects), train[0].unlabelled)) if objects and summary.objects and summary.objects.count else None
    trials: list[Trial] = []
    if chosen is not None:
        document |= {"method": method_of(chosen.representation)} | objects_of(chosen.representation)
        if trial > 0 and answers.unlabelled is None:
            document, trials = tried_out(document, chosen, path.resolve().parent, trial)
    prepared, proof = proven(absolute(document, path.resolve().parent), memory, notes)
    document["sampling"] = {"patch": list(prepared.job.sampling.patch_shape), "batch": prepared.job.sampling.batch_size}
    if minutes is not None:
        prepared, proof, document = within(minutes, prepared, proof, document, path.resolve().parent)
    if answers.task == "instances":
        document["objects"] = {**document.get("objects", {}), "tune": True}
    first = pretraining(answers, document, path.resolve().parent, notes)
    if first:
        document["network"] = {"from": "stage 1"}
    with atomic(path) as part:
        part.write_text(text_of(document, summary, prepared, proof, chosen, first, trials), encoding="utf-8")
    return Written(path, summary, prepared, proof, tuple(notes))


def stated(answers: Answers, folder: Path) -> Document:
    """The job as a mapping; paths as in a job file in `folder`."""

    def source(raw: str, labels: str | None) -> dict[str, str]:
        both = {"raw": raw} if labels is None else {"raw": raw, "labels": labels}
        return {name: shown(value, folder) for name, value in both.items()}

    images: Document = {"train": source(answers.raw, answers.labels), "validate": "15%"}
    if answers.test is not None:
        images["test"] = source(answers.test, answers.test_labels)
    if answers.voxel_size is not None:
        images["voxel_size"] = answers.voxel_size.asdict()
    images |= {name: value for name in READ if (value := getattr(answers.reading, name)) != getattr(Reading(), name)}
    method = {"kind": "channels", "channels": ["F", "C", "Db"]} if answers.task == "instances" else {"kind": "semantic"}
    return {"images": images, "method": method}


def pretraining(answers: Answers, document: Document, folder: Path, notes: list[str]) -> Document:
    """The stage that learns from images without labels, with the patch and voxel size of the job; empty if there are too few."""
    if answers.unlabelled is None:
        return {}
    more, labelled = (len(list_images(Path(each).expanduser())) for each in (answers.unlabelled, answers.raw))
    if more < MANY * labelled:
        notes.append(
            f"no pretraining is planned: {more} images without labels add little to {labelled} with labels; "
            f"pretraining is proposed from {MANY} times as many"
        )
        return {}
    notes.append(f"pretraining on {more} images without labels comes first, as stage 1 of the job, because only {labelled} have labels")
    images = {name: value for name, value in document["images"].items() if name in ("voxel_size", *READ)}
    stage = {
        "images": {"train": {"raw": shown(answers.unlabelled, folder)}, "validate": "15%", **images},
        "method": {"kind": "crappify"},
        "sampling": document["sampling"],
    }
    prepare(load_job(absolute(stage, folder)))  # raises the problems of these images before the file is written
    return stage


def tried_out(document: Document, chosen: Recommended, folder: Path, seconds: float) -> tuple[Document, list[Trial]]:
    """The document with the channels and the start that are best on the validation images after a short training, and all trials."""
    options: list[tuple[str, Document]] = []
    job = load_job(absolute(document, folder))
    facts = prepare(job).facts
    for model in fitting_models(facts.ndim, facts.in_channels):
        channels = {"method": {"kind": "channels", "channels": ["F", "C", "Db"]}, "network": {"from": model.name}}
        options.append((f"{model.name} (F+C+Db)", {**document, "objects": {}, **channels}))
    for representation in chosen.best(SETS):
        options.append((str(representation), {**document, "objects": {}, "method": method_of(representation)} | objects_of(representation)))
    trials = [tried(name, load_job(absolute(each, folder)), seconds=seconds) for name, each in options]
    # losses of different channels cannot be compared; where F1 is equal, the first counts: the bundled model, then the least loss of labels
    best = max(range(len(trials)), key=lambda number: (round(trials[number].f1, 3), -number))
    return options[best][1], trials


def within(minutes: float, prepared: Prepared, proof: Proof, document: Document, folder: Path) -> tuple[Prepared, Proof, Document]:
    """The plan whose training takes this time here: fewer epochs, and where that leaves few steps a smaller batch, then smaller patches."""
    seconds = TRAINING_SHARE * 60 * minutes
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
    document["training"] = {"epochs": epochs}
    prepared = prepare(load_job(absolute(document, folder)))
    per_epoch = max(1, len(prepared.train) // batch)
    return prepared, replace(proof, steps=epochs * per_epoch), document


def method_of(representation: Representation) -> Document:
    """The method with these channels."""
    channels = representation.channels
    named = {code: {key: _listed(value) for key, value in options.items()} for code, options in channels.items()}
    return {"kind": "channels", "channels": named if any(named.values()) else list(named)}


def objects_of(representation: Representation) -> Document:
    """The decoder, unless it is the default one of the channels."""
    usual = str(Representation.made(representation.channels)) == str(representation)
    return {} if usual else {"objects": {"decoder": representation.decoder}}


def _listed(value: object) -> object:
    """Tuples as lists, as YAML writes them."""
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def shown(path: str, folder: Path) -> str:
    """A path as written in a job file: relative to the folder of the file if it is in that folder, else absolute."""
    absolute_path = Path(path).expanduser().absolute()
    return absolute_path.relative_to(folder).as_posix() if absolute_path.is_relative_to(folder) else str(absolute_path)


def absolute(document: Document, folder: Path) -> Document:
    """The mapping with absolute paths: `load_job` resolves the paths of a mapping from the current folder."""
    images = {
        key: {name: str(folder / path) for name, path in value.items()} if isinstance(value, dict) and "raw" in value else value
        for key, value in document["images"].items()
    }
    return {**document, "images": images}


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
        prepared = prepare(load_job({**document, "sampling": {"batch": batch}}))


def text_of(
    document: Document,
    summary: DataSummary,
    prepared: Prepared,
    proof: Proof,
    chosen: Recommended | None = None,
    first: Document | None = None,
    trials: Sequence[Trial] = (),
) -> str:
    """The job file with comments; two documents if there is a first stage."""
    halo = "x".join(map(str, _halo(prepared)))
    lines = ["# Written by `morula new`. Run it with `morula run`; `morula check` shows the values of all keys that it leaves out.", "#"]
    lines += [f"# {line}" for line in summary.lines()]
    lines += [
        "#",
        f"# One training step was taken: {proof.cost} here.",
        f"# The network sees {halo} voxels to each side of a voxel; tiles overlap by twice as much in prediction.",
        "",
    ]
    comments = {
        "images": "validate: a share of the training images, kept apart to choose the best epoch",
        "method": "; ".join(each.words() for each in trials) if trials else method_words(prepared, chosen),
        "objects": "the decoder that makes objects of the channels; tune: search its settings on the validation images after training",
        "sampling": "patch: about a cube in physical units; batch: what fits the memory",
        "network": f"the network of {'stage 1' if first else 'a bundled model'} with its weights; without it training starts from scratch",
    }
    document = {key: value for key, value in document.items() if key != "training" and value != {}}
    epochs = prepared.job.training.epochs
    if first:
        lines += ["# Stage 1: the network learns to restore degraded images, without labels. Stage 2, below the line of dashes,"]
        lines += ["# starts from it. For a training from scratch remove stage 1 and the line `network` of stage 2.", *_entries(first, {})]
        lines += [f"training: {{epochs: {epochs}, patience: {max(20, epochs // 4)}}}", "---", "# Stage 2: training with labels."]
    # the training section is text of its own, because its comment must be last and its values come from the plan
    lines += _entries(document, comments)
    lines += [
        "# fewer epochs for a first test, more for the best scores",
        f"training: {{epochs: {epochs}, patience: {max(20, epochs // 4)}}}",
    ]
    return "\n".join(lines) + "\n"


def _entries(document: Document, comments: dict[str, str]) -> list[str]:
    """Lines of YAML, each entry under its comment."""
    lines = []
    for key, value in document.items():
        lines += [f"# {comments[key]}"] if key in comments else []
        lines.append(dump({key: value}, flow=None).rstrip())
    return lines


def method_words(prepared: Prepared, chosen: Recommended | None) -> str:
    """What is predicted, and why."""
    if not prepared.method.instances:
        return "a class for every pixel"
    if chosen is None:
        return "foreground, contour and distance to the border"
    return f"the channels that lose least of these labels when encoded and decoded; F1 at 0.9: {chosen.words()}"


def _halo(prepared: Prepared) -> tuple[int, ...]:
    return build_with_seed(prepared).receptive_halo
