"""The document of a new job: what the answers state, before the images decide about the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from morula.io.pairs import list_images
from morula.methods.planning import Document
from morula.nn.options import AUTO
from morula.workflows.answers import Answers
from morula.workflows.compare import Representation
from morula.workflows.consequences import MANY
from morula.workflows.reading import Reading

READ = ("axes", "channel", "dataset", "scene", "time", "level", "missing")
"""Keys of `images` that are attributes of `Reading`, too."""
CHANNELS = ["F", "C", "Db"]
"""Channels that are planned before labels are compared, and those of the bundled models."""
SMOOTHED = 0.1
"""Noise that is smoothed away while learning without labels, as a share of the width of an object: a fifth of its radius."""
RESTARTS = 3
"""Trainings without labels, of which the one with the lowest loss is kept: some seeds fail."""


def stated(answers: Answers, folder: Path) -> Document:
    """The job as a mapping; paths as in a job file in `folder`."""

    def source(raw: str, **more: str | None) -> dict[str, str]:
        return {name: shown(value, folder) for name, value in {"raw": raw, **more}.items() if value is not None}

    images: Document = {"train": source(answers.raw, labels=answers.labels, classes=answers.classes, mask=answers.mask)}
    images["validate"] = None if unlabelled_objects(answers) else "15%"
    if answers.test is not None:
        images["test"] = source(answers.test, labels=answers.test_labels)
    if answers.ignore_label is not None:
        images["ignore_label"] = answers.ignore_label
    if answers.voxel_size is not None:
        images["voxel_size"] = answers.voxel_size.asdict()
    images |= {name: value for name in READ if (value := getattr(answers.reading, name)) != getattr(Reading(), name)}
    document = {"images": images, "method": stated_method(answers)}
    if answers.start not in ("none", AUTO):
        document["network"] = stated_network(answers.start, folder)
    if unlabelled_objects(answers):
        document["training"] = {"restarts": RESTARTS}
    return document


def unlabelled_objects(answers: Answers) -> bool:
    """Whether objects are learned without labels."""
    return answers.task == "instances" and answers.labels is None


def stated_method(answers: Answers) -> Document:
    """The method that fits the answers, with what they say about it."""
    if answers.task == "pretraining":
        return {"kind": "crappify"}
    if answers.task == "semantic":
        return {"kind": "semantic"} | ({"names": list(answers.class_names)} if answers.class_names else {})
    if answers.labels is None:
        smoothing = 1.0 if answers.width is None else round(max(1.0, SMOOTHED * answers.width), 1)
        # half of the step from background to objects counts as alike; the default is narrower, and its result depends more on chance
        return {"kind": "wnet3d", "smoothing": smoothing, "intensity_sigma": 60, "reconstruction_weight": 1e-3}
    return {"kind": "channels", "channels": CHANNELS} | stated_classes(answers)


def stated_classes(answers: Answers) -> Document:
    """The classes of objects as a part of the method; empty where there are none."""
    if answers.classes is None:
        return {}
    return {"classes": {"names": list(answers.class_names)} if answers.class_names else {"count": answers.class_count}}


def stated_network(start: str, folder: Path) -> Document:
    """The network of the weights to start from. The kind is written where it is not the default one."""
    from morula.jobs.bundled import is_name
    from morula.workflows.transfer import stored_options

    kind, _ = stored_options(Path(start).expanduser())
    place = start if is_name(start) and not Path(start).expanduser().exists() else shown(start, folder)
    return {**({} if kind == "unet" else {"kind": kind}), "from": place}


def pretraining(answers: Answers, document: Document, folder: Path, notes: list[str]) -> Document:
    """The stage that learns from images without labels, with the patch and voxel size of the job; empty if there are too few."""
    if answers.unlabelled is None:
        return {}
    more, labelled = (len(list_images(Path(location).expanduser())) for location in (answers.unlabelled, answers.raw))
    if more < MANY * labelled:
        notes.append(
            f"no pretraining is planned: {more} images without labels add little to {labelled} with labels; "
            f"pretraining is proposed from {MANY} times as many"
        )
        return {}
    notes.append(f"pretraining on {more} images without labels comes first, as stage 1 of the job, because only {labelled} have labels")
    images = {name: value for name, value in document["images"].items() if name in ("voxel_size", *READ)}
    return {
        "images": {"train": {"raw": shown(answers.unlabelled, folder)}, "validate": "15%", **images},
        "method": {"kind": "crappify"},
        "sampling": document["sampling"],
    }


def wide_patch(patch: Sequence[int], answers: Answers, shapes: Sequence[Sequence[int]]) -> list[int]:
    """A patch that holds two typical objects side by side, as far as the images allow."""
    wanted = [*([answers.slices] if len(patch) == 3 else []), answers.width, answers.width]
    room = [max(8, min(edges) // 8 * 8) for edges in zip(*shapes, strict=True)]
    least = [min(most, 16 * math.ceil(2 * (size or 0) / 16)) for size, most in zip(wanted, room, strict=True)]
    return [max(edge, needed) for edge, needed in zip(patch, least, strict=True)]


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
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


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
    found = {**document, "images": images}
    start = document.get("network", {}).get("from")
    if start is not None and (folder / start).exists():
        found["network"] = {**document["network"], "from": str(folder / start)}
    return found
