"""Jobs of several stages: the documents of one file, each of which may learn from the results of the one before it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from morula import models, workflows
from morula.core.errors import JobError, Problem
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.outputs import check_apart
from morula.io.metadata import collected
from morula.io.write import write
from morula.jobs.inputs import check_new_run, inputs_of
from morula.jobs.job import Job
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder, read_json
from morula.jobs.yaml_lines import read_documents
from morula.labels.pseudo_labels import Pseudo, pseudo_labels
from morula.workflows.run_settings import RunSettings
from morula.workflows.sources import about_metadata


def stage_count(job: str | Path | Mapping[str, object]) -> int:
    """Number of documents in a job file; a mapping is one document."""
    return 1 if isinstance(job, Mapping) else len(read_documents(job))


def run_stages(
    job: str | Path,
    run: Callable[[Mapping[str, object], RunSettings], Iterator[Event]],
    output: Path,
    settings: RunSettings,
) -> Iterator[Event]:
    """Run each document of a job file into a folder of its own: ``1_wnet3d``, ``2_channels``, ...

    A document with ``network: {from: stage 1}`` starts from the weights of that stage. A document with `images.train.pseudo` learns from
    pseudo-labels that the stage before it predicts in these images; they are written to ``pseudo_labels``. An override that begins with a
    number is for that stage (``2.training.epochs=5``); others are for every stage.

    Args:
        job: the file.
        run: runs one stage, `morula.workflows.run.run`.
        output: folder of all stages.
        settings: of the whole command. Where it resumes, finished stages are kept, and trained further where `overrides` give more epochs.

    Raises:
        JobError: with the problems of a stage, before any stage runs.
    """
    resume, overwrite = settings.resume, settings.overwrite
    stages = load_stages(job, settings.overrides)
    folders = [output / f"{number}_{stage.method.kind}" for number, stage in enumerate(stages, start=1)]
    for stage, folder in zip(stages, folders, strict=True):
        check_new_run(RunFolder(folder), stage, str(job))
        check_apart([output], inputs_of(stage))
        if not resume:
            RunFolder(folder).check_free(overwrite=overwrite)
    labels = RunFolder(output / "pseudo_labels")
    if not resume and any(_pseudo_labels(stage) is not None for stage in stages):
        labels.check_free(overwrite=overwrite)
    before: Path | None = None
    for number, stage in enumerate(stages, start=1):
        folder = folders[number - 1]
        # only what the user stated: the run plans the rest anew, for the images and the network of this stage
        document = stage.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if start := source_stage(stage):
            document["network"]["from"] = str(folders[start - 1])
        yield Logged(f"stage {number} of {len(stages)}: {stage.method.kind}, in {folder}", run=str(folder))
        pseudo = _pseudo_labels(stage)
        if pseudo is not None:
            assert before is not None  # both checked by `load_stages`
            assert stage.images.train is not None
            place = labels.path
            # a stage that has begun keeps the labels that it began with
            if not (resume and (folder / "job.yaml").is_file()):
                with labels.new(overwrite=resume or overwrite):
                    yield from below("pseudo-labels", write_pseudo_labels(before, stage.images.train.raw, place, pseudo), run=str(output))
            source = {name: value for name, value in document["images"]["train"].items() if name != "pseudo"}
            document["images"]["train"] = {**source, "labels": str(place / "labels"), "mask": str(place / "masks")}
        begun = resume and (folder / "job.yaml").is_file()
        former = _weights(folder)
        # the document holds the overrides; a stage that has begun continues with its own job, and with the settings that are given now
        chosen = of_stage(settings.overrides, number) if begun else ()
        yield from run(document, replace(settings, output=folder, overrides=chosen, resume=begun))
        if not (folder / "model" / "model.json").is_file():
            return  # the training was stopped
        if former not in (None, _weights(folder)):
            yield from _of_former_weights(stages, folders, number)
        before = folder


def _weights(folder: Path) -> object:
    """The checksum of the weights of a finished training, else `None`."""
    file = folder / "model" / "model.json"
    return read_json(file, dict).get("weights") if file.is_file() else None


def _of_former_weights(stages: Sequence[Job], folders: Sequence[Path], number: int) -> Iterator[Event]:
    """A warning for each stage that learned from stage `number` before that was trained further."""
    for later, stage in enumerate(stages[number:], start=number + 1):
        learned = source_stage(stage) == number or (later == number + 1 and _pseudo_labels(stage) is not None)
        if learned and (folders[later - 1] / "job.yaml").is_file():
            text = f"stage {later} learned from stage {number} as it was before it was trained further; run the job again in another folder"
            yield Warned("stages.of_former_weights", text, run=str(folders[later - 1]))


def load_stages(job: str | Path, overrides: Sequence[str]) -> list[Job]:
    """The jobs of a file, checked except for their images.

    Raises:
        JobError: with the problems of the first stage that has any, or when a stage needs one that does not come before it.
    """
    stages = [load_job(job, overrides=of_stage(overrides, number), stage=number) for number in range(1, stage_count(job) + 1)]
    problems = []
    if _pseudo_labels(stages[0]) is not None:
        rule = "needs an earlier stage that predicts the labels, but this is the first stage"
        problems.append(Problem("images.train.pseudo", rule, code="stages.no_earlier_stage", remedy="Leave it out here."))
    for number, stage in enumerate(stages, start=1):
        source = source_stage(stage)
        if source is not None and not 1 <= source < number:
            rule = f"must name an earlier stage than {number}"
            remedy = "Name an earlier stage, or a run folder."
            problems.append(Problem("network.from", rule, code="stages.not_earlier", value=f"stage {source}", remedy=remedy))
    if problems:
        raise JobError(problems)
    return stages


def source_stage(stage: Job) -> int | None:
    """Number of the earlier stage that gives the initial weights, as in ``network: {from: stage 1}``."""
    start = stage.network.from_
    match = re.fullmatch(r"stage\s+(\d+)", Path(start).name) if start else None
    return int(match.group(1)) if match else None


def depends_on_other_stage(stage: Job) -> bool:
    """Whether a stage needs the result of another one."""
    return source_stage(stage) is not None or _pseudo_labels(stage) is not None


def _pseudo_labels(stage: Job) -> Pseudo | None:
    return None if stage.images.train is None else stage.images.train.pseudo


def write_pseudo_labels(run: str | Path, images: str | Sequence[str], output: str | Path, options: Pseudo | None = None) -> Iterator[Event]:
    """Write the confident objects of a model trained without labels as label images, and masks of the confident voxels.

    Args:
        run: run folder of the model.
        images: a file, folder or pattern.
        output: folder that gets the folders ``labels`` and ``masks``, one TIFF file per image in each.
        options: what counts as confident.

    Raises:
        JobError: when the method of the run learns from labels.
    """
    began = time.monotonic()
    model = models.load.load(run)
    if model.method.labelled:
        rule = f"needs an earlier stage that learns without labels, but {model.job.method.kind} learns from labels"
        remedy = "Give the earlier stage the method wnet3d."
        raise JobError([Problem("images.train.pseudo", rule, code="stages.no_pseudo_labels", remedy=remedy)])
    with collected() as ignored:
        opened = workflows.predict.sources_of(images)
    yield from (Warned(remark.code, remark) for remark in about_metadata(ignored))
    yield Started(len(opened), "image")
    count, share = 0, 0.0
    for done, image in enumerate(opened, start=1):
        prediction = yield from below(image.name, model.predict_steps(image.raw))
        foreground, _ = model.settled(prediction, image.raw)
        objects = model.method.decode(foreground, model.method.fit(model.method.statistics(foreground)))
        labels, sure = pseudo_labels(objects, foreground[0], options, spacing=model.method.spacing)
        for kind, values in (("labels", labels), ("masks", sure.astype("uint8"))):
            place = Path(output) / kind / f"{image.name}.tif"
            place.parent.mkdir(parents=True, exist_ok=True)
            write(place, values, axes=image.raw.axes.spatial_axes, voxel_size=image.raw.voxel_size, labels=True, overwrite=True)
        count, share = count + int(labels.max(initial=0)), share + float(sure.mean()) / len(opened)
        yield Progress(done, len(opened), "image", image.name)
    yield FileWritten(Path(output), Artefact.PSEUDO_LABELS, f"{count} confident objects; {share:.0%} of the voxels are confident")
    yield Finished(time.monotonic() - began, {"objects": count, "confident": share})


def of_stage(overrides: Iterable[str], number: int) -> list[str]:
    """Overrides that apply to a stage.

    Examples:
        >>> of_stage(["training.seed=1", "2.training.epochs=5"], 1), of_stage(["2.training.epochs=5"], 2)
        (['training.seed=1'], ['training.epochs=5'])
    """
    chosen = []
    for text in overrides:
        head, dot, rest = text.partition(".")
        if not head.strip().isdigit():
            chosen.append(text)
        elif dot and int(head) == number:
            chosen.append(rest)
    return chosen
