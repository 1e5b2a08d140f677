"""A planned and proven job, written from a few answers and a look at the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from morula.core.atomic import atomic
from morula.core.errors import DataError, FileWriteError
from morula.core.voxel_size import VoxelSize
from morula.data.summary import DataSummary, describe
from morula.io.pairs import list_images
from morula.jobs.load import load_job
from morula.jobs.yaml_lines import dump
from morula.workflows.compare import Representation, Truths
from morula.workflows.dry_run import Proof, prove
from morula.workflows.prepare import Prepared, open_images, prepare
from morula.workflows.recommend import Recommended, recommend


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


MANY = 4
"""Images without labels, by those with labels, from which on pretraining is proposed."""


@dataclass(frozen=True, eq=False)
class Written:
    """The job file, what was seen in the images, what was planned, and its proof."""

    path: Path
    summary: DataSummary
    prepared: Prepared
    proof: Proof
    notes: tuple[str, ...]


def new(path: str | Path, answers: Answers, *, memory: str | None = None, overwrite: bool = False) -> Written:
    """Look at the images, plan a job for them, prove it by a real training step within the memory, and write it.

    Args:
        path: the job file.
        answers: what only the user knows.
        memory: what the training may take, for example ``"8GB"``; most of what is free when left out.
        overwrite: replace the file.

    Raises:
        FileWriteError: when the file exists already.
        JobError: with everything that is wrong with the images.
        DataError: when no step fits the memory.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileWriteError(f"{path} exists already. Replace it with --overwrite, or name another file.")
    document = stated(answers, path.resolve().parent)
    train, _, _ = open_images(load_job(absolute(document, path.resolve().parent)))
    objects = [each.labels for each in train if each.labels is not None] if answers.task == "instances" else []
    summary = describe([each.raw for each in train], objects)
    notes: list[str] = []
    chosen = recommend(Truths(tuple(objects), train[0].unlabelled)) if objects and summary.objects and summary.objects.count else None
    if chosen is not None:
        document |= {"method": method_of(chosen)} | objects_of(chosen)
    prepared, proof = proven(absolute(document, path.resolve().parent), memory, notes)
    document["sampling"] = {"patch": list(prepared.job.sampling.patch_shape), "batch": prepared.job.sampling.batch_size}
    first = pretraining(answers, document, path.resolve().parent, notes)
    if first:
        document["network"] = {"from": "stage 1"}
    with atomic(path) as part:
        part.write_text(text_of(document, summary, prepared, proof, chosen, first), encoding="utf-8")
    return Written(path, summary, prepared, proof, tuple(notes))


def stated(answers: Answers, folder: Path) -> dict[str, Any]:
    """The job as a mapping; paths as they will stand in a file in `folder`."""

    def source(raw: str, labels: str | None) -> dict[str, str]:
        both = {"raw": raw} if labels is None else {"raw": raw, "labels": labels}
        return {name: shown(value, folder) for name, value in both.items()}

    images: dict[str, Any] = {"train": source(answers.raw, answers.labels), "validate": "15%"}
    if answers.test is not None:
        images["test"] = source(answers.test, answers.test_labels)
    if answers.voxel_size is not None:
        images["voxel_size"] = answers.voxel_size.asdict()
    method = {"kind": "channels", "channels": ["F", "C", "Db"]} if answers.task == "instances" else {"kind": "semantic"}
    return {"images": images, "method": method}


def pretraining(answers: Answers, document: dict[str, Any], folder: Path, notes: list[str]) -> dict[str, Any]:
    """The stage that learns from images without labels, with the patch and voxel size of the job; empty where there are too few."""
    if answers.unlabelled is None:
        return {}
    more, labelled = (len(list_images(Path(each).expanduser())) for each in (answers.unlabelled, answers.raw))
    if more < MANY * labelled:
        notes.append(
            f"no pretraining is planned: {more} images without labels beside {labelled} with labels add little; "
            f"it is proposed from {MANY} times as many on"
        )
        return {}
    notes.append(f"pretraining on {more} images without labels comes first, as stage 1 of the job, because only {labelled} have labels")
    images = {name: value for name, value in document["images"].items() if name == "voxel_size"}
    stage = {
        "images": {"train": {"raw": shown(answers.unlabelled, folder)}, "validate": "15%", **images},
        "method": {"kind": "crappify"},
        "sampling": document["sampling"],
    }
    prepare(load_job(absolute(stage, folder)))
    return stage


def method_of(chosen: Recommended) -> dict[str, Any]:
    """The method with the recommended channels."""
    channels = chosen.representation.channels
    named = {code: {key: _listed(value) for key, value in options.items()} for code, options in channels.items()}
    return {"kind": "channels", "channels": named if any(named.values()) else list(named)}


def objects_of(chosen: Recommended) -> dict[str, Any]:
    """The decoder, where it is not the one that the channels get anyway."""
    usual = str(Representation.made(chosen.representation.channels)) == str(chosen.representation)
    return {} if usual else {"objects": {"decoder": chosen.representation.decoder}}


def _listed(value: Any) -> Any:
    """Tuples as lists, as YAML writes them."""
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def shown(path: str, folder: Path) -> str:
    """A path as written in a job file: relative to the file where it lies below it, else absolute."""
    absolute_path = Path(path).expanduser().absolute()
    return absolute_path.relative_to(folder).as_posix() if absolute_path.is_relative_to(folder) else str(absolute_path)


def absolute(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The mapping with absolute paths, as `load_job` takes it."""
    images = {
        key: {name: str(folder / path) for name, path in value.items()} if isinstance(value, dict) and "raw" in value else value
        for key, value in document["images"].items()
    }
    return {**document, "images": images}


def proven(document: dict[str, Any], memory: str | None, notes: list[str]) -> tuple[Prepared, Proof]:
    """The plan, with the batch halved until a real step fits the memory."""
    from morula.inference.memory import available_memory

    budget = available_memory(memory)
    prepared = prepare(load_job(document))
    while True:
        proof = prove(prepared)
        if proof.peak_bytes <= budget:
            return prepared, proof
        batch = prepared.job.sampling.batch_size // 2
        if batch < 1:
            raise DataError(
                f"one patch of {prepared.job.sampling.patch} takes {proof.peak_bytes / 1e9:.1f} GB to train on, "
                f"but {budget / 1e9:.1f} GB may be used. "
                "Give more memory, or state a smaller sampling.patch or network.features."
            )
        notes.append(
            f"a step with {2 * batch} patches takes {proof.peak_bytes / 1e9:.1f} GB, more than may be used: {batch} patches are planned"
        )
        prepared = prepare(load_job({**document, "sampling": {"batch": batch}}))


def text_of(
    document: dict[str, Any],
    summary: DataSummary,
    prepared: Prepared,
    proof: Proof,
    chosen: Recommended | None = None,
    first: dict[str, Any] | None = None,
) -> str:
    """The commented job file; with a stage before it two documents."""
    halo = "x".join(map(str, _halo(prepared)))
    lines = ["# Written by `morula new`. Run it with `morula run`; `morula check` shows everything that it leaves out.", "#"]
    lines += [f"# {line}" for line in summary.lines()]
    lines += [
        "#",
        f"# One training step was taken: {proof.weights:,} weights, {proof.peak_bytes / 1e9:.1f} GB, {proof.seconds_per_step:.2f} s; "
        f"{proof.steps} steps take about {proof.minutes:.0f} minutes here.",
        f"# The network sees {halo} voxels to each side of a voxel; tiles overlap by twice as much in prediction.",
        "",
    ]
    comments = {
        "images": "validate: a share of the training images, kept apart to choose the best epoch",
        "method": method_words(prepared, chosen),
        "objects": "the decoder that makes objects of the channels",
        "sampling": "patch: about a cube in physical units; batch: what fits the memory",
        "network": "the network of the stage before, with its weights; without this line training starts from scratch",
    }
    epochs = prepared.job.training.epochs
    if first:
        lines += [
            "# Stage 1: the network learns to restore images that were made worse, without labels. Stage 2, below the line of dashes,"
        ]
        lines += ["# starts from it. For a training from scratch remove stage 1 and the line `network` of stage 2.", *_entries(first, {})]
        lines += [f"training: {{epochs: {epochs}, patience: {max(20, epochs // 4)}}}", "---", "# Stage 2: training with labels."]
    lines += _entries(document, comments)
    lines += [
        "# fewer epochs for a first look, more for the last percent",
        f"training: {{epochs: {epochs}, patience: {max(20, epochs // 4)}}}",
    ]
    return "\n".join(lines) + "\n"


def _entries(document: dict[str, Any], comments: dict[str, str]) -> list[str]:
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
    from morula.workflows.train import build_with_seed

    return build_with_seed(prepared).receptive_halo
