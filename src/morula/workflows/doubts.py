"""What is implausible in the images and labels of a job. Each remark has a code; the training can start all the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from morula.core.errors import Problem
from morula.core.image import Image
from morula.core.remark import Remark
from morula.data.label_position import misplaced_labels
from morula.data.plausibility import background_with_id, images_that_hold_labels, repeated_images, single_voxels
from morula.io.blocks import iterate_blocks
from morula.jobs.job import Job
from morula.methods import METHODS
from morula.methods.semantic_options import Options as Semantic
from morula.workflows.sources import Opened

_NAMES = {"train": "training", "validate": "validation", "test": "test"}
_LEARNED = ("train", "validate")
_CHANNELS = 5
"""Channels from which on a volume is doubted to have that many."""


def doubts_about(opened: Mapping[str, Sequence[Opened]], job: Job) -> list[Remark]:
    """Remarks on the images and label images of a job, which were opened and fit each other."""
    learned = [image for key in _LEARNED for image in opened.get(key, ())]
    remarks = repeated_images({_NAMES[key]: [image.raw for image in group] for key, group in opened.items()})
    remarks += missing_voxel_sizes([image.raw for image in learned]) if job.images.voxel_size == "auto" else []
    remarks += many_channels([image.raw for image in learned]) if job.images.axes is None and job.images.channel is None else []
    remarks += single_series(opened.get("train", ())) if isinstance(job.images.validate_, float) and job.images.validate_ else []
    method = METHODS.load(job.method.kind)
    if method.labelled and not method.restores:
        labelled = [image for group in opened.values() for image in group if image.labels is not None]
        pairs = [(image.raw, image.labels) for image in labelled if image.labels is not None]
        remarks += images_that_hold_labels(pairs) or misplaced_labels(pairs, job.images.ignore_label)
        for doubts in (background_with_id, single_voxels) if method.instances else ():
            remarks += doubts([labels for _, labels in pairs])
    return remarks + _absent_object_classes(opened.get("train", ()), job)


def single_series(train: Sequence[Opened]) -> list[Remark]:
    """A remark where training and validation images are time points of one series."""
    if len(train) < 2 or any(image.time is None or image.raw.source != train[0].raw.source for image in train):
        return []
    text = (
        f"training and validation images are time points of one series, {train[0].raw.source}, which resemble each other, so validation "
        "scores are too good. Name images of another series as images.validate."
    )
    return [Remark("images.single_series", text)]


def missing_voxel_sizes(images: Sequence[Image]) -> list[Remark]:
    """A remark where volumes state no voxel size: z is almost never as fine as y and x.

    Examples:
        >>> missing_voxel_sizes([Image(np.zeros((2, 4, 4), np.uint8), "ZYX")])[0].code
        'voxel_size.missing'
    """
    missing = [image for image in images if image.ndim_spatial == 3 and image.voxel_size is None]
    if not missing:
        return []
    text = (
        f"{len(missing)} of {len(images)} volumes state no voxel size, so z is assumed to be as fine as y and x, and sizes are in voxels. "
        "State it as images.voxel_size, for example {z: 2, y: 0.5, x: 0.5}."
    )
    return [Remark("voxel_size.missing", text)]


def many_channels(images: Sequence[Image]) -> list[Remark]:
    """A remark where volumes have more channels than microscopes usually record: the first axis may be time, or positions.

    Examples:
        >>> many_channels([Image(np.zeros((12, 2, 4, 4), np.uint8), "CZYX")])[0].code
        'images.many_channels'
    """
    found = next((image for image in images if image.ndim_spatial == 3 and image.n_channels > _CHANNELS), None)
    if found is None:
        return []
    shape = " x ".join(map(str, found.shape))
    text = (
        f"{found.source or 'a volume'} of {shape} is read as {found.axes}, with {found.n_channels} channels. If they are time points, "
        "state images.axes: TZYX and images.time, or write them as single volumes; state images.axes: CZYX if they are channels."
    )
    return [Remark("images.many_channels", text)]


def _absent_object_classes(train: Sequence[Opened], job: Job) -> list[Remark]:
    options = job.method.object_classes
    if options is None:
        return []
    found = {value for image in train if image.classes is not None for value in _values_in(image.classes)}
    return _absent([title for number, title in enumerate(options.titles, start=1) if number not in found])


def _absent(names: Sequence[str]) -> list[Remark]:
    if not names:
        return []
    verb = "class never occurs" if len(names) == 1 else "classes never occur"
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return [Remark("classes.absent", f"{len(names)} {verb} in the training labels, so nothing is learned of them: {shown}.")]


@dataclass(frozen=True)
class ClassValues:
    """Label values that are classes to the method, by key of the images; no keys where labels are not classes to it."""

    values: Mapping[str, frozenset[int]]

    @classmethod
    def of(cls, opened: Mapping[str, Sequence[Opened]], job: Job) -> ClassValues:
        """Read all labels of a job, if the method takes their values for classes."""
        without: Collection[int | None] | None = METHODS.load(job.method.kind).labels_without_class(job.method)
        if without is None:
            return cls({})
        return cls({key: frozenset(_values(group)) - {value for value in without if value is not None} for key, group in opened.items()})

    @property
    def found(self) -> tuple[int, ...]:
        """The values of all images in ascending order."""
        return tuple(sorted(set().union(*self.values.values())))

    def problems(self, job: Job) -> list[Problem]:
        """Values that are no class: training or scoring would end there."""
        assert isinstance(job.method, Semantic)
        known = set(job.method.values or range(job.method.classes or 0))
        problems = []
        for key, values in self.values.items():
            if other := sorted(values - known):
                rule = f"hold the value {other[-1]}, but the classes are {_listed(sorted(known))}"
                remedy = "State the label values of the classes as method.values, or a value that is not a class as method.ignore."
                problems.append(Problem(f"images.{key}.labels", rule, code="labels.unknown_class", value=other[-1], remedy=remedy))
        return problems

    def remarks(self, stated: Job, planned: Job) -> Iterator[Remark]:
        """What was planned for values with gaps, and classes that training images do not have."""
        assert isinstance(stated.method, Semantic)
        assert isinstance(planned.method, Semantic)
        method = planned.method
        if method.values and not stated.method.values:
            text = (
                f"the labels hold the values {_listed(self.found)}, which become the classes {_listed(range(len(method.values)))} "
                "(method.values). If one of them marks unannotated voxels, state it as images.ignore_label."
            )
            yield Remark("classes.mapped", text)
        numbers = dict(enumerate(method.values or range(method.classes or 0)))
        titles = method.names or [f"class {number}" for number in numbers]
        yield from _absent([titles[number] for number, value in numbers.items() if number and value not in self.values["train"]])


def _values(group: Sequence[Opened]) -> Iterator[int]:
    for image in group:
        if image.labels is not None:
            yield from (value for value in _values_in(image.labels) if value != image.unlabelled)


def _values_in(image: Image) -> set[int]:
    """All values of a label image; it is read block by block."""
    found: set[int] = set()
    for block in iterate_blocks(image.data):
        found.update(int(value) for value in np.unique(block))
    return found


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")
