"""Conversion of a training job of pytorch-3dunet to a native job.

What becomes of each key stands in its row (`morula.dialects.pytorch3dunet.keys.key`): the native key that gets its value, or a note on the
difference. The functions here make what is no copy of a value. Both jobs train the same weights, unless a note says otherwise; a job that
has no native counterpart is rejected. No key is dropped silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from morula.core.errors import DataError, JobError, MissingFileError, Problem
from morula.core.location import split_location
from morula.data.normalise import MinMax
from morula.data.normalise import Options as Normalised
from morula.dialects.converted import Converted, Value, nested
from morula.dialects.pytorch3dunet.conflicts import training_warnings
from morula.dialects.pytorch3dunet.job import Job, Learning
from morula.dialects.pytorch3dunet.keys import Section as Values
from morula.dialects.pytorch3dunet.losses import ClassesLoss, CrossEntropyLoss, LossOptions, PixelWiseCrossEntropyLoss, RegressionLoss
from morula.dialects.pytorch3dunet.networks import network_options
from morula.dialects.pytorch3dunet.optimisers import native_schedule, optimiser_of
from morula.dialects.pytorch3dunet.patches import build_slices
from morula.dialects.pytorch3dunet.sections import FileOptions, LoadersOptions, PhaseName
from morula.dialects.pytorch3dunet.targets import (
    BlobsToMask,
    LabelToAffinities,
    LabelToTensor,
    LabelToZAffinities,
    LabelTransform,
    Relabel,
    StandardLabelToBoundary,
    Targets,
)
from morula.dialects.pytorch3dunet.transform_lists import Lists, parse_lists, spline_order
from morula.dialects.pytorch3dunet.transforms import CropToFixed, Normalisation, Normalize, RandomIntensity, native_scaling
from morula.dialects.pytorch3dunet.volumes import Place, Volume, find_files, is_hdf5, open_volume, open_volumes
from morula.training.options import Optimiser, Schedule, TorchSchedule

Section: TypeAlias = dict[str, Value]
"""A section of the native job."""

_RAW, _LABEL = "loaders.train.transformer.raw", "loaders.train.transformer.label"


@dataclass
class _Notes:
    """Differences of the native job, each with the key of the original that it is about."""

    lines: list[str] = field(default_factory=list)

    def add(self, key: str, text: str) -> None:
        self.lines.append(f"{key}: {text}")


@dataclass(frozen=True, eq=False)
class _Training:
    """A training job that is converted: its sections, the lists of transforms, and the files as far as they can be opened."""

    job: Job
    learning: Learning
    lists: Lists
    notes: _Notes

    @property
    def loaders(self) -> LoadersOptions:
        return self.job.loaders

    def sections(self) -> dict[str, Values | None]:
        """The sections whose rows say what becomes of their keys, by their place in the job."""
        builder = self.learning.train.slice_builder
        filtered = builder if builder is not None and builder.name == "FilterSliceBuilder" else None
        return {
            "": self.job.plain,
            "loaders": self.loaders,
            "loaders.train.slice_builder": filtered,
            "trainer": self.learning.trainer,
            "loss": self.learning.loss,
        }

    @cached_property
    def volumes(self) -> list[Volume]:
        """The training volumes; empty where one cannot be opened: a job may be converted where its data are not."""
        try:
            return open_volumes(self.loaders, "train")
        except (DataError, MissingFileError, OSError):
            return []

    @property
    def planar(self) -> bool:
        """Whether all images are single planes, which native jobs take for images of two dimensions."""
        known = bool(self.volumes) or self.loaders.dataset == "DSB2018Dataset"
        return known and all(volume.shape[0] == 1 for volume in self.volumes)


def convert(job: Job) -> Converted:
    """The native job of a training job of pytorch-3dunet.

    Raises:
        JobError: for a job that only `morula train3dunet` can run, such as regression, at the key that has no counterpart.
    """
    learning = job.learning
    if learning is None:
        remedy = "Predict with `morula predict3dunet --config JOB`, or convert the job that trained the network."
        raise JobError([Problem("trainer", "is missing; a job that predicts cannot be converted", code="convert.predicts", remedy=remedy)])
    training = _Training(job, learning, parse_lists(learning.train.transformer), _Notes())
    notes = training.notes
    copied: Section = {}
    for title, section in training.sections().items():
        if section is not None:
            copied |= {native: value for native, value in section.copied().items() if value is not None}
            for key, text in section.notes().items():
                notes.add(f"{title}.{key}", text)
    if training.loaders.random_scale is None:
        del copied["sampling.scale_probability"]
    table: Any = nested(copied)
    document = {
        "images": _images(training),
        "method": _method(training),
        "network": _network(training),
        "sampling": {**table["sampling"], **_sampling(training)},
        "augment": _augmentations(training) or "none",
        "training": {**table["training"], **_optimisation(training)},
    }
    _validation_notes(training)
    for problem in training_warnings(job.model, learning.loss):
        notes.add(problem.key, f"{problem.rule}; the native job uses the activation that the loss trains.")
    return Converted(document, tuple(notes.lines), job.remarks)


def _refuse(key: str, rule: str, value: object = None) -> JobError:
    rule, remedy = f"{rule}, which has no native counterpart", "Run the job with `morula train3dunet --config JOB`."
    return JobError([Problem(key, rule, code="convert.no_counterpart", value=value, remedy=remedy)])


# --- images ------------------------------------------------------------------------------------------------------------------------------


def _images(training: _Training) -> Section:
    loaders = training.loaders
    for key, names in (("raw_internal_path", loaders.raw_internal_path), ("label_internal_path", loaders.label_internal_path)):
        if not isinstance(names, str) and len(names) > 1:
            raise _refuse(f"loaders.{key}", "several data sets become channels", list(names))
    phases: tuple[tuple[str, PhaseName], ...] = (("train", "train"), ("validate", "val"), ("test", "test"))
    return {native: _source(loaders, name) for native, name in phases if loaders.phase(name) is not None}


def _source(loaders: LoadersOptions, name: PhaseName) -> Section:
    """Files of a phase; folders are replaced by the files that the original reads from them."""
    phase, labels = loaders.phase(name), name != "test"
    assert phase is not None
    if loaders.dataset == "DSB2018Dataset":
        folders = [Path(str(path)).expanduser().absolute() for path in phase.file_paths]
        raw, masks = ([str(folder / inner) for folder in folders] for inner in ("images", "masks"))
        return {"raw": _one_or_all(raw), **({"labels": _one_or_all(masks)} if labels else {})}
    try:
        places = find_files(phase, loaders)
    except MissingFileError:  # a job may be converted where its data are not
        places = list(phase.file_paths)
    parts = [_file(loaders, place, labels=labels) for place in places]
    truths = [label for _, label in parts if label is not None and labels]
    return {"raw": _one_or_all([raw for raw, _ in parts]), **({"labels": _one_or_all(truths)} if truths else {})}


def _one_or_all(paths: Sequence[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else list(paths)


def _file(loaders: LoadersOptions, place: Place, *, labels: bool) -> tuple[str, str | None]:
    """Native locations of the raw data and the labels of one volume."""
    raw, label = (names if isinstance(names, str) else names[0] for names in (loaders.raw_internal_path, loaders.label_internal_path))
    if isinstance(place, FileOptions):
        return _inside(place.raw, raw), _inside(place.label, label) if place.label else None
    path = Path(place).expanduser().absolute()
    volume = _opened(loaders, place, labels=labels) if path.exists() else None
    if volume is not None and any(array.shape[0] > 1 for array in volume.labels):
        raise _refuse("loaders.label_internal_path", "labels of several channels are used as targets", label)
    file, _ = split_location(path)
    return _inside(place, raw), _inside(str(file), label) if is_hdf5(file) else str(path.parent.parent / label)


def _inside(place: str, name: str) -> str:
    """A file with the data set that is read, where it is HDF5 and none is named."""
    file, inner = split_location(Path(place).expanduser().absolute())
    return str(file) if inner is None and not is_hdf5(file) else f"{file}:/{inner or name}"


def _opened(loaders: LoadersOptions, place: Place, *, labels: bool) -> Volume | None:
    """The volume, or `None` where it cannot be opened; `morula check` of either job reports why."""
    try:
        return open_volume(place, loaders, labels=labels)
    except (DataError, MissingFileError, OSError):
        return None


# --- method ------------------------------------------------------------------------------------------------------------------------------


def _method(training: _Training) -> Section:
    loss, labels = training.learning.loss, training.lists.label
    if isinstance(loss, RegressionLoss) or not training.job.model.is_segmentation:
        raise _refuse("loss.name", f"{loss.name} trains a regression", loss.name)
    for each in labels:
        if native_scaling(each) is not None or isinstance(each, RandomIntensity):
            raise _refuse(_LABEL, f"{each.name} changes the values of labels", each.name)
    if spline_order(labels, 0):
        training.notes.add(_LABEL, "labels that are moved take the value of the nearest voxel.")
    return _classes(training, loss) if isinstance(loss, ClassesLoss) else _masks(training, loss)


def _classes(training: _Training, loss: ClassesLoss) -> Section:
    for each in training.lists.label:
        if isinstance(each, LabelTransform) and not isinstance(each, LabelToTensor):
            raise _refuse(_LABEL, f"{each.name} makes the classes of {loss.name}", each.name)
    found: Section = {"kind": "semantic", "classes": training.job.model.out_channels, "losses": {loss.native: 1.0}}
    ignore = loss.ignore_index
    if ignore is not None and ignore >= 0:
        found["ignore"] = int(ignore)
    elif ignore is not None:
        text = "negative labels are not allowed in native label images; give them a positive value, such as 255."
        training.notes.add("loss.ignore_index", text)
    if isinstance(loss, PixelWiseCrossEntropyLoss):
        training.notes.add("loss.name", "all voxels have the same weight; native jobs have no weights of voxels.")
    if isinstance(loss, CrossEntropyLoss) and loss.weight:
        found["class_weights"] = list(loss.weight)
    return found


def _masks(training: _Training, loss: LossOptions) -> Section:
    channels = _channels(training)
    codes = [channel if isinstance(channel, str) else next(iter(channel)) for channel in channels]
    widths = [_width(channel) for channel in channels]
    if sum(widths) != training.job.model.out_channels:
        rule = f"is not the number of channels that the label list makes, {sum(widths)}"
        raise _refuse("model.out_channels", rule, training.job.model.out_channels)
    found: Section = {"kind": "channels", "channels": channels, "losses": dict.fromkeys(codes, loss.native)}
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in loss.arguments.items() if name != "activation"}
    if max(widths) == 1:
        options.pop("over_channels", None)  # of one channel, both means are the same
    if len(codes) > 1 and isinstance(options.get("positive_weights"), list):
        raise _refuse("loss.pos_weight", "channels of different kinds have weights of their own", options["positive_weights"])
    if options:
        found["loss_options"] = {loss.native: options}
    if len(codes) > 1:  # the native loss is the sum over representations, the original's the mean over channels
        found["weights"] = {code: round(width / sum(widths), 9) for code, width in zip(codes, widths, strict=True)}
        if loss.native == "generalized_dice":
            training.notes.add("loss.name", "each channel has a generalised Dice loss of its own.")
    if loss.ignore_index is not None:
        text = f"write images.ignore_label: {int(loss.ignore_index)} if it is a value of the label images"
        made = any(getattr(each, "ignore_index", None) is not None for each in training.lists.label)
        training.notes.add("loss.ignore_index", f"{text}{'; boundaries near ignored voxels differ' if made else ''}.")
    return found


def _width(channel: str | Mapping[str, Any]) -> int:
    return len(channel["A"]["offsets"]) if isinstance(channel, Mapping) and "A" in channel else 1


def _channels(training: _Training) -> list[str | dict[str, Section]]:
    """Native channels for the targets of the label list."""
    labels, loss = training.lists.label, training.learning.loss
    makers = [each for each in labels if isinstance(each, LabelTransform) and not isinstance(each, LabelToTensor | Relabel)]
    if len(makers) > 1:
        raise _refuse(_LABEL, f"{makers[1].name} changes the targets of {makers[0].name}", makers[1].name)
    for each in labels:
        if isinstance(each, Relabel):
            if each.append_original:
                raise _refuse(_LABEL, "Relabel with append_original makes the targets", each.name)
            training.notes.add(_LABEL, "Relabel makes an object the background of patches that have none; native objects stay objects.")
    appends = any(isinstance(each, Targets) and each.append_label for each in makers)
    if appends != loss.skip_last_target:
        rule = f"is {str(loss.skip_last_target).lower()}, but labels are {'' if appends else 'not '}appended to the targets"
        raise _refuse("loss.skip_last_target", rule, loss.skip_last_target)
    if not makers:
        training.notes.add(_LABEL, "all labels above 0 are foreground; the original takes the labels themselves as targets.")
        return ["F"]
    return _channels_of(makers[0], training.notes)


def _channels_of(each: LabelTransform, notes: _Notes) -> list[str | dict[str, Section]]:
    match each:
        case StandardLabelToBoundary() if each.name == "StandardLabelToBoundary":
            return [*(["F"] if each.foreground else []), {"C": {"mode": each.mode, "connectivity": 2}}]
        case BlobsToMask(cross_entropy=False):
            return ["F", {"C": {"mode": "outer", "connectivity": 2}}] if each.boundary else ["F"]
        case LabelToAffinities(aggregate_affinities=False) | LabelToZAffinities():
            notes.add(_LABEL, "native affinities are 1 where two voxels share an object, and compare a voxel with one before it.")
            offsets = _offsets(each)
            if len(set(offsets)) < len(offsets):
                raise _refuse(_LABEL, f"{each.name} makes two channels of one offset along z", each.name)
            return [{"A": {"offsets": list(map(list, offsets))}}]
    raise _refuse(_LABEL, f"{each.name}{' with cross_entropy' if isinstance(each, BlobsToMask) else ''} makes the targets", each.name)


def _offsets(each: LabelToAffinities | LabelToZAffinities) -> list[tuple[int, int, int]]:
    if isinstance(each, LabelToZAffinities):
        return [(-distance, 0, 0) for distance in each.offsets]
    pairs = zip(each.offsets, each.z_offsets or each.offsets, strict=True)
    return [offset for plane, depth in pairs for offset in ((0, 0, -plane), (0, -plane, 0), (-depth, 0, 0))]


# --- network -----------------------------------------------------------------------------------------------------------------------------


def _network(training: _Training) -> Section:
    model, pre_trained = training.job.model, training.learning.trainer.pre_trained
    if model.conv_padding not in (1, (1, 1, 1), (1, 1)):
        raise _refuse("model.conv_padding", "convolutions change the size of the image", model.conv_padding)
    if training.planar and model.ndim == 3:
        raise _refuse("model.name", f"{model.name} computes images of two dimensions as volumes of one plane", model.name)
    options = network_options(model)
    # options that differ from the native defaults
    given = options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    # sizes that a native job leaves out are planned, so they are written even where they are the default
    sizes = options.model_dump(mode="json", include={"features", "kernels", "pools"})
    found = {"kind": "ordered_unet", **sizes, **given}
    if model.ndim == 2 and not training.planar:  # on (1, Y, X), it is a 3D network with kernels and pools of one voxel along z
        found["kernels"] = _flat(options.kernels, len(options.features))
        found["pools"] = _flat(options.pools, len(options.features) - 1)
    if pre_trained is not None:
        found["from"] = str(Path(pre_trained).expanduser().absolute())
    return found


def _flat(edges: int | Sequence[int | Sequence[int]], number: int) -> list[list[int]]:
    """Kernels or pools of each level of a 2D network, extended by one voxel along z."""
    levels = [edges] * number if isinstance(edges, int) else list(edges)
    return [[1, *([edge] * 2 if isinstance(edge, int) else edge)] for edge in levels]


# --- sampling and augmentation -----------------------------------------------------------------------------------------------------------


def _sampling(training: _Training) -> Section:
    builder, order = training.learning.train.slice_builder, spline_order(training.lists.raw, 1)
    found = {**_patches(training), **({} if order == 1 else {"spline_order": order})}
    if builder is not None and builder.name == "FilterSliceBuilder" and found.get("kind") == "grid":
        found |= {"least_labelled": builder.threshold, "accept_unlabelled": builder.slack_acceptance}
    # the original makes targets of each patch alone, and scores what a patch shows beyond the image as well
    return {**found, "label_context": False, "score_padding": True, "normalise": _normalise(training)}


def _patches(training: _Training) -> Section:
    """Shape and positions of the patches."""
    builder, first = training.learning.train.slice_builder, int(training.planar)
    once: Section = {"patches_per_epoch": "grid"} if builder is not None or training.volumes else {}
    crop = next((each for each in training.lists.raw if isinstance(each, CropToFixed)), None)
    if crop is not None:
        training.notes.add(_RAW, "CropToFixed is a random patch of the whole image.")
        depth = [1] if builder is None else builder.patch_shape[:1]
        return {"patch": [*depth, *crop.size][first:], "kind": "random", **once}
    if builder is not None:
        overlap = [patch - stride for patch, stride in zip(builder.patch_shape, builder.stride_shape, strict=True)]
        return {"patch": list(builder.patch_shape[first:]), "kind": "grid", "overlap": overlap[first:], **once}
    shapes = {volume.shape for volume in training.volumes}
    if len(shapes) == 1:
        return {"patch": list(shapes.pop()[first:]), "kind": "grid", **once}
    training.notes.add("loaders.dataset", "patches have one shape; the original takes whole images, whatever their shape.")
    return {}


def _normalise(training: _Training) -> Section:
    """The normalisation of the raw list; without one, values stay as they are."""
    raw, notes, whole = training.lists.raw, training.notes, training.loaders.global_normalization
    scalings = [(each, options) for each in raw if (options := native_scaling(each)) is not None]
    if not scalings:
        return {"kind": "fixed"}
    each, options = scalings[0]
    if len(scalings) > 1:
        notes.add(_RAW, f"only the first of {', '.join(each.name for each, _ in scalings)} is converted.")
    if any(isinstance(earlier, RandomIntensity) for earlier in raw[: raw.index(each)]):
        notes.add(_RAW, f"{each.name} is applied before all random changes of intensity.")
    if isinstance(each, Normalisation) and each.eps != 1e-10:
        notes.add(_RAW, f"eps of {each.name} is 1e-10.")
    found = _variant(options)
    if options.kind == "fixed":
        return found
    if isinstance(options, MinMax):
        if isinstance(each, Normalize) and (each.min_value, each.max_value) != (None, None):
            notes.add(_RAW, "Normalize with one limit uses the extremes of the patch.")
    elif whole:
        notes.add("loaders.global_normalization", "of an image above 16 million voxels, blocks that are spread over it are measured.")
        return {**found, "per": "image", "channels": "together"}
    return {**found, "per": "patch"}


def _augmentations(training: _Training) -> list[Value]:
    """The augmentations that the dialect itself uses, which are native ones."""
    made = [native for each in training.lists.raw if (native := each.augmentation()) is not None]
    if any(len(set(volume.spacing)) > 1 for volume in training.volumes) and any(native.name in ("rotate", "blur") for native in made):
        training.notes.add(_RAW, "rotations and blurs follow the voxel size of the files; those of the original are in voxels.")
    return [{native.name: native.options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})} for native in made]


# --- training ----------------------------------------------------------------------------------------------------------------------------


def _optimisation(training: _Training) -> Section:
    job, learning = training.job, training.learning
    optimiser, schedule = optimiser_of(learning.optimizer), native_schedule(job.config.get("lr_scheduler"))
    if isinstance(schedule, TorchSchedule) and schedule.name == "ReduceLROnPlateau":
        text = "ReduceLROnPlateau follows the validation score of the native job, not eval_metric."
        training.notes.add("lr_scheduler.name", text)
    interval = f"{learning.trainer.validate_after_iters} steps"
    return {
        **_steps_per_epoch(training),
        "optimiser": _variant(optimiser),
        "schedule": _variant(schedule),
        "validate_every": interval,
        "checkpoint_every": interval,
        "seed": job.plain.manual_seed or 0,
    }


def _variant(options: Optimiser | Schedule | Normalised) -> Section:
    """The options that differ from the native defaults."""
    return {"kind": options.kind, **options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})}


def _steps_per_epoch(training: _Training) -> dict[str, int]:
    """Native epochs leave out a last smaller batch unless their number of steps is given."""
    batch, builder = training.loaders.batch_size, training.learning.train.slice_builder
    if batch == 1 or not training.volumes:
        return {}
    patches = sum(len(build_slices(volume, builder)) for volume in training.volumes)
    return {"steps_per_epoch": math.ceil(patches / batch)} if patches % batch else {}


def _validation_notes(training: _Training) -> None:
    """Differences of the validation, which decides which weights are best and sets the learning rate of ReduceLROnPlateau."""
    notes, val, name = training.notes, training.learning.val, training.learning.metric.name
    notes.add("eval_metric", f"the best weights are those with the best native score of whole validation images, not the best {name}.")
    builder, lists = val.slice_builder, parse_lists(val.transformer)
    if builder is not None and builder.stride_shape != builder.patch_shape:
        notes.add("loaders.val.slice_builder", "validation patches cover each image once.")
    if any(each.augmentation() is not None or isinstance(each, CropToFixed) for each in lists.raw):
        notes.add("loaders.val.transformer.raw", "random transforms are left out.")
