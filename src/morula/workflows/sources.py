"""Open the images of a job and check them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from morula.core.errors import DataError, JobError, MorulaError, Problem
from morula.core.image import Image
from morula.core.remark import Remark
from morula.core.remedy import Remedy
from morula.core.voxel_size import VoxelSize
from morula.data.components import connected
from morula.data.patches import Source
from morula.io.annotation_mask import UNANNOTATED, mark_unannotated
from morula.io.formats.base import Missing
from morula.io.formats.nifti import compare_orientations
from morula.io.lazy import is_flat, like, take_time, time_points, without_z
from morula.io.metadata import MetadataWarning, collected
from morula.io.pairs import pair_images
from morula.io.read import read, read_labels, read_labels_and_classes
from morula.jobs.job import Images
from morula.jobs.job import Source as SourceOptions
from morula.methods.base import Method
from morula.models.enlarge import enlarged, enlarged_shape
from morula.workflows.result_files import point_name


@dataclass(frozen=True)
class Truth:
    """Files of the ground truth of an image; `time` is its time point where they are series, `values` whether the labels are an image whose
    values are predicted, which has `enlarge` times as many voxels along each axis, `weights` says how much voxels count in the loss."""

    @property
    def parts(self) -> dict[str, Path]:
        """The files by their keys in a job."""
        parts = {"labels": self.labels, "classes": self.classes, "mask": self.mask, "weights": self.weights}
        return {key: file for key, file in parts.items() if file is not None}

    labels: Path
    classes: Path | None = None
    mask: Path | None = None
    time: int | None = None
    values: bool = False
    weights: Path | None = None
    enlarge: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Opened:
    """One image of a source, its labels and classes if there are any, and the name of its results.

    `unlabelled` is the label of unannotated voxels, `reading` says how the file was read where that was stated by the user. `time` is the
    time point, counted from 0, where the file is a series of which each time point is an image.
    """

    name: str
    raw: Image
    labels: Image | None = None
    classes: Image | None = None
    unlabelled: int | None = None
    truth: Truth | None = None
    reading: str = ""
    time: int | None = None
    weights: Image | None = None

    def enlarged(self, factors: Sequence[int]) -> Opened:
        """The same with its image interpolated to the grid of its labels, which is finer by these factors (Z)YX; lazy."""
        return replace(self, raw=enlarged(self.raw, factors))

    @property
    def files(self) -> list[str]:
        """The files of its parts, with the data set inside where there is one."""
        more = () if self.truth is None else (self.truth.classes, self.truth.mask, self.truth.weights)
        read = (None if part is None else part.source for part in (self.raw, self.labels))
        return [str(file) for file in (*read, *more) if file is not None]

    def row(self, prediction: Path | None) -> dict[str, str | None]:
        """Its entry in the list of images of a run: name, files, and the time point of a series."""
        parts = (None,) * 3 if self.truth is None else (self.truth.labels, self.truth.classes, self.truth.mask)
        truth = {name: None if part is None else str(part) for name, part in zip(("truth", "classes", "mask"), parts, strict=True)}
        files = {"raw": self.raw.source, "prediction": None if prediction is None else str(prediction.resolve()), **truth}
        return {"name": self.name, **files, **({} if self.time is None else {"time": str(self.time)})}

    def patches(self, *, classes: bool = False) -> Source:
        """The source of patches; with `classes`, its classes too."""
        shown = self.classes if classes else None
        return Source(self.raw, self.labels, self.name, classes=shown, weights=self.weights, unlabelled=self.unlabelled)


def open_source(
    source: SourceOptions, images: Images, *, key: str, need_labels: bool, values: bool = False, enlarge: tuple[int, ...] = ()
) -> tuple[list[Opened], list[str]]:
    """Open all images of a source lazily; returns them, and the warnings of the pairing and about ignored metadata.

    With `values`, labels are images whose values are predicted, with `enlarge` times as many voxels along each axis.

    Each time point of a series is an image of its own, unless the job selects one.

    Raises:
        JobError: with all problems of these files.
    """
    if need_labels and source.labels is None:
        rule = "is missing, but the method learns from labels"
        raise JobError([Problem(f"{key}.labels", rule, code="images.labels_missing", remedy="Name the label images.")])
    opened, problems = [], []
    images = images.of(source)
    with collected() as ignored:
        pairs, warnings = paired(source, images, key, enlarge)
        # all files are tried, so that the error names every bad one
        for name, raw, truth in pairs:
            try:
                opened += _time_points(name, raw, None if truth is None else replace(truth, values=values, enlarge=enlarge), images)
            except MorulaError as error:
                problems.append(Problem.of(error, key))
    opened = flattened(opened) if any(image.raw.ndim_spatial == 2 for image in opened) else opened
    problems += consistency_problems(opened, key)
    if problems:
        raise JobError(problems)
    return opened, [*warnings, *about_metadata(ignored)]


def about_metadata(warnings: Iterable[MetadataWarning]) -> list[Remark]:
    """The warnings about the metadata of files as texts with their codes, for events: those are in the log and in the report."""
    return [Remark(warning.code, str(warning)) for warning in warnings]


def paired(
    source: SourceOptions, images: Images | None, key: str, enlarge: Sequence[int] = ()
) -> tuple[list[tuple[str, Path, Truth | None]], list[str]]:
    """Name, file and ground truth of each image of a source, and the warnings of the pairing.

    `enlarge` is the factor per axis by which labels have more voxels than their images.

    Raises:
        JobError: when files are missing or do not match.
    """
    axes = None if images is None else images.of(source).axes
    # labels, classes and masks are each paired with the raw images by name, independently of each other
    sides: dict[str, dict[Path, Path | None]] = {}
    names: dict[Path, str] = {}
    warnings: list[str] = []
    places = (("labels", source.labels), ("classes", source.classes), ("mask", source.mask), ("weights", source.weights))
    for side, place in places:
        if place is None and side != "labels":
            continue
        try:
            chosen = {} if images is None else {"dataset": images.name_inside, "level": images.level}
            pairs, remarks = pair_images(source.raw, place, axes=axes, enlarge=enlarge, **chosen)  # type: ignore[arg-type]
        except MorulaError as error:
            raise JobError([Problem.of(error, key if side == "labels" else f"{key}.{side}")]) from error
        names |= {pair.raw: pair.name for pair in pairs}
        sides[side] = {pair.raw: pair.labels for pair in pairs}
        warnings += remarks
    empty: dict[Path, Path | None] = {}
    result: list[tuple[str, Path, Truth | None]] = []
    for raw, name in names.items():
        labels = sides["labels"][raw]
        classes, mask, weights = (sides.get(side, empty).get(raw) for side in ("classes", "mask", "weights"))
        result.append((name, raw, None if labels is None else Truth(labels, classes, mask, weights=weights)))
    return result, warnings


def open_pair(name: str, raw: Path, truth: Truth | None, images: Images | None = None) -> Opened:
    """Open one image with its labels.

    Raises:
        DataError: when their shapes differ, or the label file does not contain labels.
    """
    if images is None:
        image = read(raw)
    else:
        chosen = {"level": images.level, "channel": images.channel, "time": images.time}
        image = read(raw, dataset=images.name_inside, **chosen, **_reading(images))  # type: ignore[arg-type]
    if truth is None:
        return Opened(name, image)
    return Opened(name, image, *open_truth(truth, image, images), truth, weights=_open_weights(truth, image, images))


def _time_points(name: str, raw: Path, truth: Truth | None, images: Images) -> list[Opened]:
    """Open a file with its labels: one image, or as many as it has time points.

    Raises:
        DataError: as `open_pair`, or when images and labels have different numbers of time points.
    """
    image = open_pair(name, raw, None, images).raw
    count = len(time_points(image))  # 1 where the job selects a time point
    if count == 1:
        return [open_pair(name, raw, truth, images)]
    for what, file in () if truth is None else truth.parts.items():
        points = len(time_points(read_labels(file, shape=image.spatial_shape, **_reading(images, labels=True))))
        if points != count:
            rule = f"{'have' if what != 'mask' else 'has'} {points} time point{'s'[: points != 1]} but the image {raw} has {count}"
            remedy = Remedy(f"give {what} of every time point", "select one (time=0; --time 0; images.time: 0)")
            raise DataError("images.other_time_points", rule, file=file, remedy=remedy)
    opened = []
    for point in range(count):
        own = None if truth is None else replace(truth, time=point)
        opened.append(replace(open_pair(point_name(name, point), raw, own, at_time(images, point)), time=point))
    return opened


def at_time(images: Images, point: int | None) -> Images:
    """How a time point of a series is read; `None` for images that are no series."""
    return images if point is None else images.model_copy(update={"time": point})


def open_truth(truth: Truth, image: Image, images: Images | None = None) -> tuple[Image, Image | None, int | None]:
    """Labels of an image, its classes if there are any, and the label of unannotated voxels.

    Raises:
        DataError: when the shapes differ, or the label file does not contain labels.
    """
    reading = _reading(images, labels=True)
    time = truth.time if images is None or truth.time is not None else images.time
    if image.source is not None:
        compare_orientations(Path(image.source), truth.labels)
    if truth.values:
        labels, classes = read(truth.labels, **_reading(images, target=truth.labels)), None
    else:
        labels, classes = read_labels_and_classes(truth.labels, image.spatial_shape, **reading)
    if truth.classes is not None:
        classes = read_labels(truth.classes, shape=image.spatial_shape, **reading)
    if time is not None:
        labels, classes = take_time(labels, time), None if classes is None else take_time(classes, time)
    labels = connected(labels) if images is not None and images.components else labels
    labels, classes = like(labels, image), None if classes is None else like(classes, image)
    expected, more = enlarged_shape(image, truth.enlarge), f", {_times(truth.enlarge)} times as many" if truth.enlarge else ""
    for what, part, file in (("labels", labels, truth.labels), ("classes", classes, truth.classes)):
        if part is not None and part.spatial_shape != expected:
            rule = f"have {_times(part.spatial_shape)} voxels but the image {image.source} has {_times(image.spatial_shape)}"
            remedy = f"Give {what} of the same size, or state images.axes."
            if more:
                rule, remedy = f"{rule}: {_times(expected)} are expected{more}", f"Give {what} of this size, or correct method.enlarge."
            raise DataError("images.shapes_differ", rule, file=file, remedy=remedy)
    # a mask becomes a label value, so that everything after this knows only one way to mark unannotated voxels
    value = None if images is None else images.ignore_label
    if truth.mask is None:
        return labels, classes, value
    value = UNANNOTATED if value is None else value
    return mark_unannotated(labels, read(truth.mask, time=time, **reading), value), classes, value


def _open_weights(truth: Truth, image: Image, images: Images | None) -> Image | None:
    """How much the voxels of an image count in the loss; `None` where nothing is stated.

    Raises:
        DataError: for another shape than that of the image, or several channels.
    """
    if truth.weights is None:
        return None
    time = truth.time if images is None or truth.time is not None else images.time
    weights = like(read(truth.weights, time=time, **_reading(images, labels=True)), image)
    if weights.spatial_shape != (expected := enlarged_shape(image, truth.enlarge)) or weights.n_channels != 1:
        shown = f"{_times(weights.spatial_shape)} voxels and {weights.n_channels} channel(s)"
        rule = f"have {shown}, but must have one channel of {_times(expected)} voxels, as the labels of the image {image.source}"
        raise DataError("images.weights_shape", rule, file=truth.weights, remedy="Give one weight for each voxel.")
    return weights


class _Reading(TypedDict):
    axes: str | None
    voxel_size: VoxelSize | None
    missing: Missing


def _reading(images: Images | None, *, labels: bool = False, target: Path | None = None) -> _Reading:
    """Axes and voxel size as stated in the job; of an image that is predicted, channels may be absent or more than those of its image."""
    if images is None:
        return {"axes": None, "voxel_size": None, "missing": "error"}
    axes = images.axes.replace("C", "") if labels and images.axes else images.axes
    if axes and target is not None and len(axes) != (dimensions := len(read(target, missing=images.missing).shape)):
        plain = axes.replace("C", "")
        axes = plain if len(plain) == dimensions else None
    size = None if images.voxel_size == "auto" else VoxelSize(**images.voxel_size)  # type: ignore[arg-type]
    return {"axes": axes, "voxel_size": size, "missing": images.missing}


def flattened(opened: Sequence[Opened]) -> list[Opened]:
    """The images in 2D where all of them are 2D or have a Z axis of length 1; otherwise as they are."""
    if not all(is_flat(image.raw) for image in opened):
        return list(opened)
    return [
        replace(
            image,
            raw=without_z(image.raw),
            labels=None if image.labels is None else without_z(image.labels),
            classes=None if image.classes is None else without_z(image.classes),
            weights=None if image.weights is None else without_z(image.weights),
        )
        for image in opened
    ]


def consistency_problems(opened: Sequence[Opened], key: str) -> list[Problem]:
    """Problems of images whose dimensions or channels differ from those of the first one."""
    problems = []
    for image in opened[1:]:
        raw, first = image.raw, opened[0].raw
        if raw.ndim_spatial != first.ndim_spatial:
            rule = f"{image.name} is {raw.ndim_spatial}D but {opened[0].name} is {first.ndim_spatial}D"
            problems.append(Problem(key, rule, code="images.dimensions_differ", remedy="Use 2D and 3D images in separate jobs."))
        elif raw.n_channels != first.n_channels:
            rule = f"{image.name} has {raw.n_channels} channel(s) but {opened[0].name} has {first.n_channels}"
            problems.append(Problem(key, rule, code="images.channels_differ", remedy="All images of a job need the same channels."))
    return problems


def target_problems(opened: Mapping[str, Sequence[Opened]], method: Method) -> list[Problem]:
    """Problems of images to be predicted, by key, that have another number of channels than the network; one per key."""
    problems = []
    for key, images in opened.items() if method.labelled and method.labels_are_images else ():
        widths = {image.name: image.labels.n_channels for image in images if image.labels is not None}
        others = [name for name, width in widths.items() if width != len(method.channels)]
        if others:
            more = f"; so do {len(others) - 1} more" if len(others) > 1 else ""
            rule = f"{others[0]} has {widths[others[0]]} channel(s), but {len(method.channels)} are predicted{more}"
            remedy = "Correct method.channels, or give images with as many channels."
            problems.append(Problem(f"images.{key}.labels", rule, code="targets.channels", remedy=remedy))
    return problems


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
