"""A job of several stages: the documents of one file, each of which may learn from what the one before it found."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.errors import JobError, Problem
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, below
from morula.jobs.load import load_job
from morula.jobs.yaml_lines import read_documents

if TYPE_CHECKING:
    from morula.labels.pseudo_labels import Pseudo


def stage_count(job: str | Path | Mapping[str, Any]) -> int:
    """Documents in a job file; a mapping is one."""
    return 1 if isinstance(job, Mapping) else len(read_documents(job))


def run_stages(
    job: str | Path,
    run: Callable[..., Iterator[Event]],
    *,
    output: Path,
    overrides: Iterable[str],
    resume: bool,
    options: Mapping[str, Any],
) -> Iterator[Event]:
    """Run each document of a job file into a folder of its own: ``1_wnet3d``, ``2_channels``, ...

    A document whose `network.from` is ``stage 1`` starts from the weights of that stage. One whose `images.train.pseudo` is stated learns
    from pseudo-labels that the stage before it makes of these images; they are written to ``pseudo_labels``. Overrides begin with the
    number of their stage (``2.training.epochs=5``); others are for every stage.

    Args:
        job: the file.
        run: what runs one stage, `morula.workflows.run.run`.
        output: the folder of all stages.
        overrides: ``key=value`` texts.
        resume: go on where it was stopped; finished stages are kept.
        options: further arguments of `run`.

    Raises:
        JobError: with the problems of a stage, before the first one runs.
    """
    stages = load_stages(job, list(overrides))
    folders = [output / f"{number}_{stage.method.kind}" for number, stage in enumerate(stages, start=1)]
    before: Path | None = None
    for number, stage in enumerate(stages, start=1):
        folder = folders[number - 1]
        document = stage.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if start := source_stage(stage):
            document["network"]["from"] = str(folders[start - 1])
        yield Logged(f"stage {number} of {len(stages)}: {stage.method.kind}, in {folder}")
        pseudo = getattr(stage.images.train, "pseudo", None)
        if pseudo is not None:
            assert before is not None
            place = output / "pseudo_labels"
            if not (resume and (folder / "job.yaml").is_file()):
                yield from below("pseudo-labels", write_pseudo_labels(before, stage.images.train.raw, place, pseudo), run=str(output))
            source = {name: value for name, value in document["images"]["train"].items() if name != "pseudo"}
            document["images"]["train"] = {**source, "labels": str(place / "labels"), "mask": str(place / "masks")}
        yield from run(document, output=folder, resume=resume and (folder / "job.yaml").is_file(), **options)
        if not (folder / "model" / "model.json").is_file():
            return  # stopped
        before = folder


def load_stages(job: str | Path, overrides: Sequence[str]) -> list[Any]:
    """The jobs of a file, checked but for their images.

    Raises:
        JobError: with the problems of the first stage that has some, or where one needs a stage that does not come before it.
    """
    stages = [load_job(job, overrides=of_stage(overrides, number), stage=number) for number in range(1, stage_count(job) + 1)]
    problems = []
    if getattr(stages[0].images.train, "pseudo", None) is not None:
        problems.append(Problem("images.train.pseudo", "stands in the first stage, before which there is none; leave it out there."))
    for number, stage in enumerate(stages, start=1):
        source = source_stage(stage)
        if source is not None and not 1 <= source < number:
            problems.append(Problem("network.from", f"stage {source} does not come before stage {number}; name an earlier one, or a run."))
    if problems:
        raise JobError(problems)
    return stages


def source_stage(stage: Any) -> int | None:
    """Number of the stage whose weights a stage starts from, as in ``network: {from: stage 1}``."""
    start = getattr(stage.network, "from_", None)
    found = re.fullmatch(r"stage\s+(\d+)", Path(start).name) if start else None
    return int(found.group(1)) if found else None


def waits(stage: Any) -> bool:
    """Whether a stage needs the result of another one."""
    return source_stage(stage) is not None or getattr(stage.images.train, "pseudo", None) is not None


def write_pseudo_labels(run: str | Path, images: str, output: str | Path, options: Pseudo | None = None) -> Iterator[Event]:
    """Labels of what a trained `wnet3d` is sure of in some images, and masks of where that is, as TIFF files of the images' names.

    Args:
        run: run folder of the training.
        images: a file, folder or pattern.
        output: gets the folders ``labels`` and ``masks``.
        options: what counts as sure.

    Raises:
        JobError: when the run's method tells no foreground.
    """
    from morula.io.write import write
    from morula.labels.pseudo_labels import pseudo_labels
    from morula.models.load import load
    from morula.workflows.predict import sources_of

    began = time.monotonic()
    model = load(run)
    if model.method.labelled:
        raise JobError([Problem("images.train.pseudo", f"needs a stage of the method wnet3d before it, not {model.job.method.kind}.")])
    opened = sources_of(images)
    yield Started(len(opened), "image")
    found, share = 0, 0.0
    for done, each in enumerate(opened, start=1):
        prediction = yield from below(each.name, model.predict_steps(each.raw))
        foreground, _ = model.settled(prediction, each.raw)
        objects = model.method.decode(foreground, model.method.fit(model.method.statistics(foreground)))
        labels, sure = pseudo_labels(objects, foreground[0], options, spacing=model.method.spacing)
        for kind, values in (("labels", labels), ("masks", sure.astype("uint8"))):
            place = Path(output) / kind / f"{each.name}.tif"
            place.parent.mkdir(parents=True, exist_ok=True)
            write(place, values, axes=each.raw.axes.spatial_axes, voxel_size=each.raw.voxel_size, labels=True, overwrite=True)
        found, share = found + int(labels.max(initial=0)), share + float(sure.mean()) / len(opened)
        yield Progress(done, len(opened), "image", each.name)
    yield FileWritten(Path(output), Artefact.PSEUDO_LABELS, f"{found} sure objects; {share:.0%} of the voxels are sure")
    yield Finished(time.monotonic() - began, {"objects": found, "sure": share})


def of_stage(overrides: Iterable[str], number: int) -> list[str]:
    """Overrides of a stage.

    Examples:
        >>> of_stage(["training.seed=1", "2.training.epochs=5"], 1), of_stage(["2.training.epochs=5"], 2)
        (['training.seed=1'], ['training.epochs=5'])
    """
    found = []
    for text in overrides:
        head, dot, rest = text.partition(".")
        if not head.strip().isdigit():
            found.append(text)
        elif dot and int(head) == number:
            found.append(rest)
    return found
