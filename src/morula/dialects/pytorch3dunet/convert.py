"""Conversion of a training job of pytorch-3dunet to a native job.

What becomes of each key stands in its row (`morula.dialects.pytorch3dunet.keys.key`): the native key that gets its value, or a note on the
difference. The functions here make what is no copy of a value. Both jobs train the same weights, unless a note says otherwise; a job that
has no native counterpart is rejected. No key is dropped silently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morula.core.errors import DataError, JobError, MissingFileError, Problem
from morula.core.location import split_location
from morula.core.variants import VariantOptions
from morula.data.augment.affine import Rotate
from morula.data.augment.base import AnyAugmentation
from morula.data.augment.blur import Blur
from morula.data.augment.orient import Rotate90
from morula.data.normalise import Fixed, MinMax
from morula.data.normalise import Options as Normalised
from morula.dialects.converted import Converted, nested
from morula.dialects.pytorch3dunet.conflicts import training_warnings
from morula.dialects.pytorch3dunet.conversion import RAW, Notes, Section, Training, refuse
from morula.dialects.pytorch3dunet.convert_method import Method, method_of
from morula.dialects.pytorch3dunet.job import Job
from morula.dialects.pytorch3dunet.losses import ClassesLoss
from morula.dialects.pytorch3dunet.metrics import DiceCoefficient, IgnoringMetric, MeanIoU
from morula.dialects.pytorch3dunet.networks import network_options
from morula.dialects.pytorch3dunet.optimisers import native_schedule, optimiser_of
from morula.dialects.pytorch3dunet.patches import build_slices
from morula.dialects.pytorch3dunet.sections import FileOptions, LoadersOptions, PhaseName
from morula.dialects.pytorch3dunet.transform_lists import parse_lists, spline_order
from morula.dialects.pytorch3dunet.transforms import CropToFixed, Normalisation, RandomIntensity, native_scaling
from morula.dialects.pytorch3dunet.volumes import Place, Volume, find_files, is_hdf5, open_volume
from morula.training.options import Argument, Optimiser, Schedule, TorchSchedule


def convert(job: Job) -> Converted:
    """The native job of a training job of pytorch-3dunet.

    Raises:
        JobError: for a job that only `morula train3dunet` can run, such as regression, at the key that has no counterpart.
    """
    learning = job.learning
    if learning is None:
        remedy = "Predict with `morula predict3dunet --config JOB`, or convert the job that trained the network."
        raise JobError([Problem("trainer", "is missing; a job that predicts cannot be converted", code="convert.predicts", remedy=remedy)])
    training = Training(job, learning, parse_lists(learning.train.transformer), Notes())
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
    images, method = _images(training), method_of(training)
    if method.ignored is not None:
        images["ignore_label"] = method.ignored
    augmentations = [native for transform in training.lists.raw if (native := transform.augmentation()) is not None]
    if _follows_edges(training, augmentations):
        images["voxel_size"] = {**dict.fromkeys("yx" if training.planar else "zyx", 1.0), "unit": "pixel"}
        notes.add(RAW, "voxels count as cubes, as in the original, so that sizes of objects are numbers of voxels.")
    document = {
        "images": images,
        "method": method.section,
        "network": _network(training),
        "sampling": {**table["sampling"], **_sampling(training, method.ignored)},
        "augment": [{native.name: _variant(native.options, kind=False)} for native in augmentations] or "none",
        "training": {**table["training"], **_optimisation(training, _monitor(training, method))},
    }
    _validation_notes(training)
    for problem in training_warnings(job.model, learning.loss):
        notes.add(problem.key, f"{problem.rule}; the native job uses the activation that the loss trains.")
    return Converted(document, tuple(notes.lines), job.remarks)


# --- images ------------------------------------------------------------------------------------------------------------------------------


def _images(training: Training) -> Section:
    loaders = training.loaders
    for key, names in (("raw_internal_path", loaders.raw_internal_path), ("label_internal_path", loaders.label_internal_path)):
        if not isinstance(names, str) and len(names) > 1:
            raise refuse(f"loaders.{key}", "several data sets become channels", list(names))
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
        raise refuse("loaders.label_internal_path", "labels of several channels are used as targets", label)
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


# --- network -----------------------------------------------------------------------------------------------------------------------------


def _network(training: Training) -> Section:
    model, pre_trained = training.job.model, training.learning.trainer.pre_trained
    if model.conv_padding not in (1, (1, 1, 1), (1, 1)):
        raise refuse("model.conv_padding", "convolutions change the size of the image", model.conv_padding)
    if training.planar and model.ndim == 3:
        raise refuse("model.name", f"{model.name} computes images of two dimensions as volumes of one plane", model.name)
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


def _sampling(training: Training, ignored: int | None) -> Section:
    builder, order = training.filtered, spline_order(training.lists.raw, 1)
    found = {**_patches(training), **({} if order == 1 else {"spline_order": order})}
    if builder is not None and found.get("kind") == "grid":
        found |= {"least_labelled": builder.threshold, "accept_unlabelled": builder.slack_acceptance}
        if _filtered_alike(training):
            found["least_labelled_validation"] = training.learning.val.slice_builder.threshold  # type: ignore[union-attr]
        unlabelled = training.occurring(builder.ignore_index)
        if unlabelled != ignored and (unlabelled, ignored) != (0, None):
            text = "counts as labelled." if ignored is None else f"the label that the loss ignores, {ignored}, counts as unlabelled."
            training.notes.add("loaders.train.slice_builder.ignore_index", text)
    if ignored is not None:
        found["only_annotated"] = False
    # the original makes targets of each patch alone, and scores what a patch shows beyond the image as well
    return {**found, "label_context": False, "score_padding": True, "normalise": _normalise(training)}


def _patches(training: Training) -> Section:
    """Shape and positions of the patches."""
    builder, first = training.learning.train.slice_builder, int(training.planar)
    once: Section = {"patches_per_epoch": "grid"} if builder is not None or training.volumes else {}
    crop = next((transform for transform in training.lists.raw if isinstance(transform, CropToFixed)), None)
    if crop is not None and builder is None:
        return {"patch": list(crop.size), "kind": "centre" if crop.centered else "random", "patches_per_epoch": "images"}
    if crop is not None and builder is not None:
        training.notes.add(RAW, "CropToFixed is a random patch of the whole image, not of a patch of the slice builder.")
        return {"patch": [*builder.patch_shape[:1], *crop.size][first:], "kind": "random", **once}
    if builder is not None:
        overlap = [patch - stride for patch, stride in zip(builder.patch_shape, builder.stride_shape, strict=True)]
        return {"patch": list(builder.patch_shape[first:]), "kind": "grid", "overlap": overlap[first:], **once}
    shapes = {volume.shape for volume in training.volumes}
    if len(shapes) == 1:
        return {"patch": list(shapes.pop()[first:]), "kind": "grid", **once}
    training.notes.add("loaders.dataset", "patches have one shape; the original takes whole images, whatever their shape.")
    return {}


def _normalise(training: Training) -> Section:
    """The normalisation of the raw list; without one, values stay as they are."""
    raw, notes, whole = training.lists.raw, training.notes, training.loaders.global_normalization
    scalings = [(transform, options) for transform in raw if (options := native_scaling(transform)) is not None]
    if not scalings:
        return {"kind": "fixed"}
    each, options = scalings[0]
    if len(scalings) > 1:
        notes.add(RAW, f"only the first of {', '.join(transform.name for transform, _ in scalings)} is converted.")
    if any(isinstance(earlier, RandomIntensity) for earlier in raw[: raw.index(each)]):
        notes.add(RAW, f"{each.name} is applied before all random changes of intensity.")
    if whole and isinstance(each, Normalisation) and each.eps != 1e-10:
        notes.add(RAW, f"eps of {each.name} has no effect on the scale of whole images.")
    found = _variant(options)
    if whole and not isinstance(options, MinMax | Fixed):
        return {**found, "per": "image", "channels": "together", "voxels": "all"}
    return found


def _follows_edges(training: Training, augmentations: Sequence[AnyAugmentation]) -> bool:
    """Whether an augmentation is another one for the voxel size of the files, whose edges differ, than for cubes."""
    for volume in training.volumes:
        edges = dict(zip("zyx", volume.spacing, strict=True))
        for augmentation in augmentations:
            about = augmentation.options.about if isinstance(augmentation, Rotate) and not training.planar else "z"
            planes = [edges.keys() - {axis} for axis in about] if isinstance(augmentation, Rotate | Rotate90) else []
            planes += [edges.keys() - ("z" if training.planar else "")] if isinstance(augmentation, Blur) else []
            if any(len({edges[axis] for axis in plane}) > 1 for plane in planes):
                return True
    return False


# --- training ----------------------------------------------------------------------------------------------------------------------------


def _optimisation(training: Training, monitor: str | None) -> Section:
    job, learning = training.job, training.learning
    optimiser, schedule = optimiser_of(learning.optimizer), native_schedule(job.config.get("lr_scheduler"))
    if isinstance(schedule, TorchSchedule) and schedule.name == "ReduceLROnPlateau":
        if monitor is None:
            text = "ReduceLROnPlateau follows the validation loss, which is to fall, not eval_metric."
            training.notes.add("lr_scheduler.name", text)
        mode: Argument = "min" if monitor is None else schedule.options.get("mode", "min")
        schedule = schedule.model_copy(update={"options": {**schedule.options, "mode": mode}})
    interval = f"{learning.trainer.validate_after_iters} steps"
    return {
        **_steps_per_epoch(training),
        "optimiser": _variant(optimiser),
        "schedule": _variant(schedule),
        **({} if monitor is None else {"monitor": monitor}),
        "validate_every": interval,
        "checkpoint_every": interval,
        "seed": job.plain.manual_seed or 0,
    }


def _variant(options: VariantOptions | Optimiser | Schedule | Normalised, *, kind: bool = True) -> Section:
    """The options that differ from the native defaults."""
    named: Section = {"kind": options.kind} if kind else {}
    return {**named, **options.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})}


def _steps_per_epoch(training: Training) -> dict[str, int]:
    """Native epochs leave out a last smaller batch unless their number of steps is given."""
    batch, builder = training.loaders.batch_size, training.learning.train.slice_builder
    if batch == 1 or not training.volumes:
        return {}
    patches = sum(len(build_slices(volume, builder)) for volume in training.volumes)
    return {"steps_per_epoch": math.ceil(patches / batch)} if patches % batch else {}


def _monitor(training: Training, method: Method) -> str | None:
    """The native figure that is the same as `eval_metric`; `None` where there is none."""
    metric, loss, model = training.learning.metric, training.learning.loss, training.job.model
    classes = isinstance(loss, ClassesLoss)
    # the class with the highest output is the same after either activation
    same_channels = classes or model.final_sigmoid
    same_voxels = isinstance(metric, IgnoringMetric) and training.occurring(metric.ignore_index) == method.left_out
    if same_channels and same_voxels and training.learning.trainer.eval_score_higher_is_better:
        if isinstance(metric, MeanIoU) and not metric.skip_channels and (metric.skip_background or not classes):
            return "iou"
        if isinstance(metric, DiceCoefficient) and metric.epsilon == 1e-6:
            return "dice"
    text = f"the best weights are those with the lowest validation loss, not the best {metric.name}."
    training.notes.add("eval_metric", text)
    return None


def _filtered_alike(training: Training) -> bool:
    """Whether the validation patches are chosen as those of the training, by another share at most."""
    train, val = training.filtered, training.learning.val.slice_builder
    same = ("name", "slack_acceptance", "ignore_index")
    return train is not None and val is not None and all(getattr(train, key) == getattr(val, key) for key in same)


def _validation_notes(training: Training) -> None:
    """Differences of the validation, which decides which weights are best and sets the learning rate of ReduceLROnPlateau."""
    notes, train, val = training.notes, training.learning.train, training.learning.val
    builder, lists = val.slice_builder, parse_lists(val.transformer)
    shapes = {loader.slice_builder.patch_shape for loader in (train, val) if loader.slice_builder is not None}
    if builder is not None and (
        builder.stride_shape != builder.patch_shape
        or len(shapes) > 1
        or (builder.name == "FilterSliceBuilder" and not _filtered_alike(training))
    ):
        notes.add("loaders.val.slice_builder", "validation patches are those of the training, and cover each image once.")
    if any(transform.augmentation() is not None or isinstance(transform, CropToFixed) for transform in lists.raw):
        notes.add("loaders.val.transformer.raw", "random transforms are left out.")
    if training.loaders.random_scale is not None:
        notes.add("loaders.random_scale", "validation patches keep their scale.")
    ours, theirs = (list(filter(None, map(native_scaling, raw))) for raw in (lists.raw, training.lists.raw))
    if ours != theirs:
        notes.add("loaders.val.transformer.raw", "values are normalised as those of the training.")
