"""Conversion of a training job of pytorch-3dunet to a native job.

Keys with a native counterpart are converted exactly, so that both jobs train the same weights. Every other key is either rejected, or named
in a note that starts with the dotted key. No key is dropped silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from morula.core.errors import DataError, JobError, MissingFileError, Problem
from morula.dialects.converted import Converted, Value
from morula.dialects.pytorch3dunet import losses
from morula.dialects.pytorch3dunet.conflicts import training_warnings
from morula.dialects.pytorch3dunet.job import Job, Learning
from morula.dialects.pytorch3dunet.keys import Section as Values
from morula.dialects.pytorch3dunet.losses import ClassesLoss, LossOptions, RegressionLoss
from morula.dialects.pytorch3dunet.networks import NetworkOptions, network_options
from morula.dialects.pytorch3dunet.optimisers import native_schedule, optimiser_of
from morula.dialects.pytorch3dunet.patches import build_slices
from morula.dialects.pytorch3dunet.sections import FileOptions, LoadersOptions, PhaseOptions
from morula.dialects.pytorch3dunet.targets import (
    BlobsToMask,
    LabelToAffinities,
    LabelToTensor,
    LabelToZAffinities,
    LabelTransform,
    Relabel,
    StandardLabelToBoundary,
)
from morula.dialects.pytorch3dunet.transform_lists import Lists, parse_lists, spline_order
from morula.dialects.pytorch3dunet.transforms import (
    CropToFixed,
    Normalisation,
    Normalize,
    PercentileNormalizer,
    RandomIntensity,
    Standardize,
    ToTensor,
    Transform,
)
from morula.dialects.pytorch3dunet.volumes import Place, Volume, find_files, is_hdf5, open_volume

Section: TypeAlias = dict[str, Value]
"""A section of the native job."""

_LOSSES = {"BCEWithLogitsLoss": "bce", "DiceLoss": "dice", "BCEDiceLoss": "bce_dice", "GeneralizedDiceLoss": "generalized_dice"}
_FACES = "are between voxels that share a face (in the original, also an edge), and use the labels beyond the patch."
_RAW, _LABEL = "loaders.train.transformer.raw", "loaders.train.transformer.label"


@dataclass
class _Notes:
    """Differences of the native job, each with the key of the original that it is about."""

    lines: list[str] = field(default_factory=list)

    def add(self, key: str, text: str) -> None:
        self.lines.append(f"{key}: {text}")

    def of(self, values: Values, title: str) -> None:
        """The notes of the table on keys that are not at their default."""
        for key, text in type(values).notes.items():
            if getattr(values, key) != type(values).model_fields[key].default:
                self.add(f"{title}.{key}", text)


def convert(job: Job) -> Converted:
    """The native job of a training job of pytorch-3dunet.

    Raises:
        JobError: for a job that only `morula train3dunet` can run, such as regression, at the key that has no counterpart.
    """
    learning, loaders = job.learning, job.loaders
    if learning is None:
        remedy = "Predict with `morula predict3dunet --config JOB`, or convert the job that trained the network."
        raise JobError([Problem("trainer", "is missing; a job that predicts cannot be converted", code="convert.predicts", remedy=remedy)])
    notes = _Notes()
    lists = parse_lists(learning.train.transformer)
    document = {
        "images": _images(loaders, notes),
        "method": _method(job.model, learning.loss, lists, notes),
        "network": _network(job.model, learning.trainer.pre_trained),
        "sampling": _sampling(loaders, learning.train, lists, notes),
        "augment": _augmentations(lists) or "none",
        "training": _training(job, learning, notes),
    }
    _validation_notes(learning, notes)
    for problem in training_warnings(job.model, learning.loss):
        notes.add(problem.key, f"{problem.rule}; the native job uses the activation that the loss trains.")
    return Converted(document, tuple(notes.lines), job.remarks)


def _refuse(key: str, rule: str, value: object = None) -> JobError:
    rule, remedy = f"{rule}, which has no native counterpart", "Run the job with `morula train3dunet --config JOB`."
    return JobError([Problem(key, rule, code="convert.no_counterpart", value=value, remedy=remedy)])


# --- images ------------------------------------------------------------------------------------------------------------------------------


def _images(loaders: LoadersOptions, notes: _Notes) -> Section:
    for key, names in (("raw_internal_path", loaders.raw_internal_path), ("label_internal_path", loaders.label_internal_path)):
        if not isinstance(names, str) and len(names) > 1:
            raise _refuse(f"loaders.{key}", "several data sets become channels", list(names))
    phases = {"train": loaders.train, "validate": loaders.val, "test": loaders.test}
    found: Section = {name: _source(loaders, phase, labels=name != "test") for name, phase in phases.items() if phase is not None}
    notes.of(loaders, "loaders")
    return found


def _source(loaders: LoadersOptions, phase: PhaseOptions, *, labels: bool) -> Section:
    """Files of a phase; folders are replaced by the files that the original reads from them."""
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
    if isinstance(place, FileOptions):
        return str(Path(place.raw).expanduser().absolute()), str(Path(place.label).expanduser().absolute()) if place.label else None
    path = Path(place).expanduser().absolute()
    raw, label = (names if isinstance(names, str) else names[0] for names in (loaders.raw_internal_path, loaders.label_internal_path))
    volume = _opened(loaders, place, labels=labels) if path.exists() else None
    if volume is not None and any(array.shape[0] > 1 for array in volume.labels):
        raise _refuse("loaders.label_internal_path", "labels of several channels are used as targets", label)
    if is_hdf5(path):
        return f"{path}:/{raw}", f"{path}:/{label}"
    return str(path), str(path.parent.parent / label)


def _opened(loaders: LoadersOptions, place: Place, *, labels: bool) -> Volume | None:
    """The volume, or `None` where it cannot be opened; `morula check` of either job reports why."""
    try:
        return open_volume(place, loaders, labels=labels)
    except (DataError, MissingFileError, OSError):
        return None


# --- method ------------------------------------------------------------------------------------------------------------------------------


def _method(model: NetworkOptions, loss: LossOptions, lists: Lists, notes: _Notes) -> Section:
    if isinstance(loss, RegressionLoss) or not model.is_segmentation:
        raise _refuse("loss.name", f"{loss.name} trains a regression", loss.name)
    return _classes(loss, model.out_channels, lists, notes) if isinstance(loss, ClassesLoss) else _masks(loss, lists, notes)


def _classes(loss: ClassesLoss, classes: int, lists: Lists, notes: _Notes) -> Section:
    for each in lists.label:
        if isinstance(each, LabelTransform) and not isinstance(each, LabelToTensor):
            raise _refuse(_LABEL, f"{each.name} makes the classes of {loss.name}", each.name)
    name = "weighted_ce" if isinstance(loss, losses.WeightedCrossEntropyLoss) else "ce"
    found: Section = {"kind": "semantic", "classes": classes, "losses": {name: 1.0}}
    ignore = loss.ignore_index
    if ignore is not None and ignore >= 0:
        found["ignore"] = int(ignore)
    elif ignore is not None:
        notes.add("loss.ignore_index", "negative labels are not allowed in native label images; give them a positive value, such as 255.")
    if isinstance(loss, losses.CrossEntropyLoss) and loss.weight:
        found["class_weights"] = list(loss.weight)
    if isinstance(loss, losses.PixelWiseCrossEntropyLoss):
        notes.add("loss.name", "all voxels have the same weight; native jobs have no weights of voxels.")
    return found


def _masks(loss: LossOptions, lists: Lists, notes: _Notes) -> Section:
    channels = _channels(lists, notes)
    codes = [channel if isinstance(channel, str) else next(iter(channel)) for channel in channels]
    name = _LOSSES[loss.name]
    found: Section = {"kind": "channels", "channels": channels, "losses": dict.fromkeys(codes, name)}
    options = _loss_options(loss, notes)
    if options:
        found["loss_options"] = {name: options}
    if len(codes) > 1:  # the native loss is the sum over representations, the original's the mean over channels
        widths = _widths(channels)
        found["weights"] = {code: round(width / sum(widths), 9) for code, width in zip(codes, widths, strict=True)}
        if name == "generalized_dice":
            notes.add("loss.name", "each channel has a generalised Dice loss of its own.")
    if loss.ignore_index is not None:
        text = f"write images.unlabelled: {int(loss.ignore_index)} if it is a value of the label images"
        made = any(getattr(each, "ignore_index", None) is not None for each in lists.label)
        notes.add("loss.ignore_index", f"{text}{'; boundaries near ignored voxels differ' if made else ''}.")
    return found


def _widths(channels: Sequence[str | Mapping[str, Any]]) -> list[int]:
    return [len(channel["A"]["offsets"]) if isinstance(channel, Mapping) and "A" in channel else 1 for channel in channels]


def _loss_options(loss: LossOptions, notes: _Notes) -> Section:
    """Options with which the native loss is equal to that of the original."""
    notes.of(loss, "loss")
    match loss:
        case losses.BCEWithLogitsLoss():
            weight = loss.pos_weight
            return {} if weight is None else {"positive_weights": list(weight) if isinstance(weight, tuple) else weight}
        case losses.DiceLoss():
            # the form of V-Net, which the original uses
            return {"squared": True, "smooth": 0}
        case losses.BCEDiceLoss():
            return {"squared": True, "smooth": 0, "shares": list(loss.shares)}
    return {"smooth": 0}


def _channels(lists: Lists, notes: _Notes) -> list[str | dict[str, Section]]:
    """Native channels for the targets of a label list."""
    for each in lists.label:
        match each:
            case StandardLabelToBoundary() if each.name == "StandardLabelToBoundary":
                notes.add(_LABEL, f"boundaries {_FACES}")
                return [*(["F"] if each.foreground else []), {"C": {"mode": each.mode}}]
            case BlobsToMask(cross_entropy=True):
                raise _refuse(_LABEL, "BlobsToMask with cross_entropy makes classes of objects and their boundary", each.name)
            case BlobsToMask():
                if each.boundary:
                    notes.add(_LABEL, f"outer boundaries {_FACES}")
                return ["F", {"C": {"mode": "outer"}}] if each.boundary else ["F"]
            case LabelToAffinities(aggregate_affinities=False) | LabelToZAffinities():
                notes.add(_LABEL, "native affinities are 1 where two voxels share an object, and compare a voxel with one before it.")
                return [{"A": {"offsets": _offsets(each)}}]
            case LabelTransform() if not isinstance(each, LabelToTensor | Relabel):
                raise _refuse(_LABEL, f"{each.name} makes the targets", each.name)
    return ["F"]


def _offsets(each: LabelToAffinities | LabelToZAffinities) -> list[list[int]]:
    if isinstance(each, LabelToZAffinities):
        return [[-distance, 0, 0] for distance in each.offsets]
    pairs = zip(each.offsets, each.z_offsets or each.offsets, strict=True)
    return [offset for plane, depth in pairs for offset in ([0, 0, -plane], [0, -plane, 0], [-depth, 0, 0])]


# --- network -----------------------------------------------------------------------------------------------------------------------------


def _network(model: NetworkOptions, pre_trained: str | None) -> Section:
    options = network_options(model)
    # options that differ from the native defaults
    given = options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    # sizes that a native job leaves out are planned, so they are written even where they are the default
    sizes = options.model_dump(mode="json", include={"features", "kernels", "pools"})
    found = {"kind": "ordered_unet", **sizes, **given}
    if model.ndim == 2:  # a 2D network on (1, Y, X) is a 3D network with kernels and pools of one voxel along z
        found["kernels"] = _flat(options.kernels, len(options.features))
        found["pools"] = _flat(options.pools, len(options.features) - 1)
    if model.conv_padding not in (1, (1, 1, 1), (1, 1)):
        raise _refuse("model.conv_padding", "convolutions change the size of the image", model.conv_padding)
    if pre_trained is not None:
        found["from"] = str(Path(pre_trained).expanduser().absolute())
    return found


def _flat(edges: int | Sequence[int | Sequence[int]], number: int) -> list[list[int]]:
    """Kernels or pools of each level of a 2D network, extended by one voxel along z."""
    levels = [edges] * number if isinstance(edges, int) else list(edges)
    return [[1, *([edge] * 2 if isinstance(edge, int) else edge)] for edge in levels]


# --- sampling and augmentation -----------------------------------------------------------------------------------------------------------


def _sampling(loaders: LoadersOptions, phase: PhaseOptions, lists: Lists, notes: _Notes) -> Section:
    builder = phase.slice_builder
    found: Section = {"batch": loaders.batch_size}
    crop = next((each for each in lists.raw if isinstance(each, CropToFixed)), None)
    if crop is not None:
        notes.add(_RAW, "CropToFixed is a random patch of the whole image.")
        found |= {"patch": [*([1] if builder is None else builder.patch_shape[:1]), *crop.size], "kind": "random"}
    elif builder is not None:
        overlap = [patch - stride for patch, stride in zip(builder.patch_shape, builder.stride_shape, strict=True)]
        found |= {"patch": list(builder.patch_shape), "kind": "grid", "overlap": overlap}
    if builder is not None:
        found["patches_per_epoch"] = "grid"
    if builder is not None and builder.name == "FilterSliceBuilder":
        if crop is None:
            found |= {"least_labelled": builder.threshold, "accept_unlabelled": builder.slack_acceptance}
        if builder.ignore_index is not None:
            notes.add("loaders.train.slice_builder.ignore_index", "counts as labelled, unless it is images.ignore_label.")
    if loaders.random_scale is not None:
        found |= {"scale_voxels": loaders.random_scale, "scale_probability": loaders.random_scale_probability}
    order = spline_order(lists.raw, 1)
    if order != 1:
        found["spline_order"] = order
    # the original scores what a patch shows beyond the image as well
    found["score_padding"] = True
    found["normalise"] = _normalise(lists, notes, whole=loaders.global_normalization)
    return found


def _normalise(lists: Lists, notes: _Notes, *, whole: bool) -> Section:
    """The normalisation of the raw list; without one, values stay as they are."""
    scalings = [each for each in lists.raw if isinstance(each, Normalisation) or (isinstance(each, ToTensor) and each.normalize)]
    if not scalings:
        return {"kind": "fixed"}
    if len(scalings) > 1:
        notes.add(_RAW, f"only the first of {', '.join(each.name for each in scalings)} is converted.")
    if any(isinstance(each, RandomIntensity) for each in lists.raw[: lists.raw.index(scalings[0])]):
        notes.add(_RAW, f"{scalings[0].name} is applied before all random changes of intensity.")
    return _scale(scalings[0], notes, whole=whole)


def _scale(each: Transform, notes: _Notes, *, whole: bool) -> Section:
    channelwise = isinstance(each, Standardize | PercentileNormalizer) and each.channelwise and not whole
    share = {"per": "image" if whole else "patch", "channels": "each" if channelwise else "together"}
    if isinstance(each, Normalisation) and each.eps != 1e-10:
        notes.add(_RAW, f"eps of {each.name} is 1e-10.")
    match each:
        case Standardize(mean=None):
            return {"kind": "zscore", **share}
        case Standardize():
            return {"kind": "fixed", "offset": each.mean, "scale": max(float(each.std or 0), each.eps)}
        case PercentileNormalizer():
            return {"kind": "percentile", "low": each.pmin, "high": each.pmax, **share}
        case Normalize(min_value=float(low), max_value=float(high)):
            # scale to 0 ... 1 or to -1 ... 1 by fixed numbers
            middle, half = (low, high - low) if each.norm01 else ((low + high) / 2, (high - low) / 2)
            return {"kind": "fixed", "offset": middle, "scale": half, "clip": [0, 1] if each.norm01 else [-1, 1]}
        case Normalize():
            if each.min_value is not None or each.max_value is not None:
                notes.add(_RAW, "Normalize with one limit uses the extremes of the patch.")
            return {"kind": "minmax", "range": [0, 1] if each.norm01 else [-1, 1], **share, "per": "patch"}
    return {"kind": "minmax", **share, "per": "patch"}


def _augmentations(lists: Lists) -> list[Value]:
    """The augmentations that the dialect itself uses, which are native ones."""
    made = [native for each in lists.raw if (native := each.augmentation()) is not None]
    return [{native.name: native.options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})} for native in made]


# --- training ----------------------------------------------------------------------------------------------------------------------------


def _training(job: Job, learning: Learning, notes: _Notes) -> Section:
    trainer, optimiser, schedule = learning.trainer, optimiser_of(learning.optimizer), native_schedule(job.config.get("lr_scheduler"))
    settings = schedule.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    if settings.get("name") == "ReduceLROnPlateau":
        notes.add("lr_scheduler.name", "ReduceLROnPlateau follows the validation score of the native job, not eval_metric.")
    notes.of(trainer, "trainer")
    return {
        "epochs": trainer.max_num_epochs,
        "steps": trainer.max_num_iterations,
        **_steps_per_epoch(job.loaders, learning.train),
        "optimiser": {"kind": optimiser.kind, **optimiser.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})},
        "schedule": {"kind": schedule.kind, **settings} if settings else schedule.kind,
        "validate_every": f"{trainer.validate_after_iters} steps",
        "checkpoint_every": f"{trainer.validate_after_iters} steps",
        "seed": job.plain.manual_seed or 0,
        "workers": job.loaders.num_workers,
        **({} if trainer.precision == "auto" else {"precision": trainer.precision}),
        **({} if job.plain.device is None else {"device": job.plain.device}),
    }


def _steps_per_epoch(loaders: LoadersOptions, phase: PhaseOptions) -> dict[str, int]:
    """Native epochs leave out a last smaller batch unless their number of steps is given."""
    batch, builder = loaders.batch_size, phase.slice_builder
    if batch == 1 or builder is None:
        return {}
    try:
        volumes = [_opened(loaders, place, labels=True) for place in find_files(phase, loaders)]
    except MissingFileError:
        return {}
    patches = sum(len(build_slices(volume, builder)) for volume in volumes if volume is not None)
    return {"steps_per_epoch": math.ceil(patches / batch)} if patches % batch and None not in volumes else {}


def _validation_notes(learning: Learning, notes: _Notes) -> None:
    """Differences of the validation, which decides which weights are best and sets the learning rate of ReduceLROnPlateau."""
    name = learning.metric.name
    notes.add("eval_metric", f"the best weights are those with the best native score of whole validation images, not the best {name}.")
    builder, lists = learning.val.slice_builder, parse_lists(learning.val.transformer)
    if builder is not None and builder.stride_shape != builder.patch_shape:
        notes.add("loaders.val.slice_builder", "validation patches cover each image once.")
    if any(each.augmentation() is not None or isinstance(each, CropToFixed) for each in lists.raw):
        notes.add("loaders.val.transformer.raw", "random transforms are left out.")
