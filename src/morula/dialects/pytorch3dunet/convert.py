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

import numpy as np

from morula.core.errors import DataError, JobError, MissingFileError, Problem
from morula.core.location import split_location
from morula.core.variants import VariantOptions
from morula.data.augment.affine import Rotate
from morula.data.augment.base import AnyAugmentation
from morula.data.augment.blur import Blur
from morula.data.augment.orient import Rotate90
from morula.data.normalise import MinMax, Percentile, ZScore
from morula.data.normalise import Options as Normalised
from morula.dialects.converted import Converted, nested
from morula.dialects.pytorch3dunet.conflicts import training_warnings
from morula.dialects.pytorch3dunet.conversion import RAW, WEIGHT, Notes, Section, Training, refuse
from morula.dialects.pytorch3dunet.convert_method import NEGATIVE, Method, method_of
from morula.dialects.pytorch3dunet.job import Job
from morula.dialects.pytorch3dunet.losses import ClassesLoss
from morula.dialects.pytorch3dunet.metrics import IgnoringMetric, MeanIoU, ObjectMetric
from morula.dialects.pytorch3dunet.networks import network_options
from morula.dialects.pytorch3dunet.optimisers import native_schedule, optimiser_of
from morula.dialects.pytorch3dunet.patches import build_slices
from morula.dialects.pytorch3dunet.sections import FileOptions, LoadersOptions, PhaseName, PhaseOptions, SliceBuilderOptions
from morula.dialects.pytorch3dunet.targets import LabelTransform, Relabel
from morula.dialects.pytorch3dunet.transform_lists import Lists, parse_lists, spline_order, without_chance
from morula.dialects.pytorch3dunet.transforms import RandomIntensity, native_scaling
from morula.dialects.pytorch3dunet.volumes import Part, Place, Volume, data_sets, find_files, where
from morula.io.blocks import iterate_blocks
from morula.training.monitors import AnyMonitor
from morula.training.options import Argument, Optimiser, Schedule, TorchSchedule


def convert(job: Job) -> Converted:
    """The native job of a training job of pytorch-3dunet.

    Raises:
        JobError: for a job that only `morula train3dunet` can run, at the key that has no counterpart.
    """
    learning = job.learning
    if learning is None:
        remedy = "Predict with `morula predict3dunet --config JOB`, or convert the job that trained the network."
        raise JobError([Problem("trainer", "is missing; a job that predicts cannot be converted", code="convert.predicts", remedy=remedy)])
    if learning.trainer.resume is not None:
        remedy = "Write trainer.pre_trained to start a new training from its weights."
        raise refuse("trainer.resume", "continues a training with the state of its optimiser", learning.trainer.resume, remedy)
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
    _check_weights(training)
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

_KEYS: dict[Part, str] = {"raw": "raw", "label": "labels", "weight": "weights"}


def _images(training: Training) -> Section:
    loaders = training.loaders
    labels = data_sets("label", loaders)
    if len(labels) > 1 and any(phase.slice_builder and phase.slice_builder.name == "FilterSliceBuilder" for phase in training.phases):
        raise refuse("loaders.label_internal_path", "FilterSliceBuilder counts the labels of the first data set", list(labels))
    phases: tuple[tuple[str, PhaseName], ...] = (("train", "train"), ("validate", "val"), ("test", "test"))
    parts: tuple[Part, ...] = ("raw", "label", "weight") if training.job.weighted else ("raw", "label")
    return {
        native: _source(loaders, name, parts if name != "test" else parts[:1]) for native, name in phases if loaders.phase(name) is not None
    }


def _source(loaders: LoadersOptions, name: PhaseName, parts: Sequence[Part]) -> Section:
    """Files of a phase; folders are replaced by the files that the original reads from them."""
    phase = loaders.phase(name)
    assert phase is not None
    if loaders.dataset == "DSB2018Dataset":
        folders = [Path(str(path)).expanduser().absolute() for path in phase.file_paths]
        raw, masks = ([str(folder / inner) for folder in folders] for inner in ("images", "masks"))
        return {"raw": _one_or_all(raw), **({"labels": _one_or_all(masks)} if "label" in parts else {})}
    try:
        places = find_files(phase, loaders)
    except MissingFileError:  # a job may be converted where its data are not
        places = list(phase.file_paths)
    files = [_file(loaders, place, parts) for place in places]
    return {_KEYS[part]: _one_or_all([file[part] for file in files]) for part in parts if all(part in file for file in files)}


def _check_weights(training: Training) -> None:
    """Refuse what changes the weights of voxels, and note what makes them count otherwise."""
    volumes, lists = [*training.volumes, *training.held_volumes], training.lists
    weights = [volume.weight for volume in volumes if volume.weight is not None]
    if not weights:
        return
    for transform in lists.weight:
        if native_scaling(transform) is not None or isinstance(transform, RandomIntensity | LabelTransform):
            raise refuse(WEIGHT, f"{transform.name} changes the weights of voxels", transform.name)
    if any(array.shape[0] > 1 for array in weights):
        raise refuse("loaders.weight_internal_path", "voxels have several weights", training.loaders.weight_internal_path)
    if training.moves_voxels and spline_order(lists.weight, 1) != spline_order(lists.raw, 1):
        training.notes.add(WEIGHT, "weights are interpolated as the raw data are.")
    if any(not np.all(block) for array in weights for block in iterate_blocks(array)):
        text = "voxels of weight 0 count nowhere, neither in the mean of the loss nor in eval_metric."
        training.notes.add("loaders.weight_internal_path", text)


def _one_or_all(paths: Sequence[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else list(paths)


def _file(loaders: LoadersOptions, place: Place, parts: Sequence[Part]) -> dict[Part, str]:
    """Native locations of the parts of one volume; several data sets have names with commas between them."""
    path, found = Path(place.raw if isinstance(place, FileOptions) else place).expanduser().absolute(), {}
    for part in parts:
        names = data_sets(part, loaders)
        try:
            places = [where(place, path, part, name, loaders) for name in names]
        except MissingFileError:  # a job may be converted where its data are not
            places = [(path.parent.parent / name, None) for name in names]
        except DataError:  # not named
            continue
        located = [(*split_location(file.expanduser().absolute()), inner) for file, inner in places]
        within = [(inner or stated or "").strip("/") for _, stated, inner in located]
        if len(names) > 1 and not all(within):
            raise refuse(f"loaders.{part}_internal_path", "several data sets of a file that has no data sets", list(names))
        found[part] = str(located[0][0]) + (f":/{','.join(within)}" if all(within) else "")
    return found


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
    learning, order = training.learning, spline_order(training.lists.raw, 1)
    patches = _patches(training, learning.train, training.lists, training.volumes)
    held = _patches(training, learning.val, without_chance(parse_lists(learning.val.transformer)), training.held_volumes)
    if held.get("patch") == patches.get("patch"):
        held.pop("patch", None)
    used, held_used = (_filter(training, phase.slice_builder, ignored) for phase in (learning.train, learning.val))
    if held_used and "ignored_label" in used:
        held_used.setdefault("ignored_label", ignored or 0)
    found = {**patches, **used, **({} if order == 1 else {"spline_order": order})}
    if learning.train.slice_builder is not None or training.volumes:
        found["patches_per_epoch"] = "grid"
    if training.lists.crop is not None and learning.train.slice_builder is None:
        found["patches_per_epoch"] = "images"
    validation = {name: value for name, value in {**held, **held_used}.items() if (name, value) != ("kind", "grid")}
    if ignored is not None:
        found["only_annotated"] = False
    if any(isinstance(transform, Relabel) and transform.run_cc for transform in training.lists.label):
        found["separate_parts"] = True
    # the original makes targets of each patch alone, and scores what a patch shows beyond the image as well
    found |= {"label_context": False, "score_padding": True, **_normalise(training)}
    return found | ({"validation": validation} if validation else {})


def _filter(training: Training, builder: SliceBuilderOptions | None, ignored: int | None) -> Section:
    """Which patches are used."""
    if builder is None or builder.name != "FilterSliceBuilder":
        return {}
    found: Section = {"least_labelled": builder.threshold, "accept_unlabelled": builder.slack_acceptance}
    unlabelled = training.occurring(builder.ignore_index)
    if unlabelled is not None and unlabelled < 0:
        training.notes.add("loaders.train.slice_builder.ignore_index", NEGATIVE)
    elif unlabelled != ignored and (unlabelled, ignored) != (0, None):
        found["ignored_label"] = unlabelled or 0
    return found


def _patches(training: Training, phase: PhaseOptions, lists: Lists, volumes: Sequence[Volume]) -> Section:
    """Shape and positions of the patches of a phase."""
    builder, first, crop = phase.slice_builder, int(training.planar), lists.crop
    if crop is None and builder is None:
        shapes = {volume.shape for volume in volumes}
        if len(shapes) == 1:
            return {"patch": list(shapes.pop()[first:]), "kind": "grid"}
        training.notes.add("loaders.dataset", "patches have one shape; the original takes whole images, whatever their shape.")
        return {}
    if builder is None:
        assert crop is not None
        return {"patch": list(crop.size), "kind": "centre" if crop.centered else "random"}
    found: Section = {"patch": list(builder.patch_shape[first:]), "kind": "grid"}
    if crop is not None:
        found = {
            "cell": found["patch"],
            "patch": [*builder.patch_shape[:1], *crop.size][first:],
            "kind": "centre" if crop.centered else "grid",
        }
    overlap = [patch - stride for patch, stride in zip(builder.patch_shape, builder.stride_shape, strict=True)][first:]
    return found | ({"overlap": overlap} if any(overlap) else {})


def _normalise(training: Training) -> Section:
    """The normalisations of the raw list: one before, and one after all random changes of intensity."""
    whole = training.loaders.global_normalization
    steps = [native_scaling(each) for each in training.lists.raw if isinstance(each, RandomIntensity) or native_scaling(each) is not None]
    first, last = steps[0] if steps else None, steps[-1] if len(steps) > 1 else None
    again = last if isinstance(last, MinMax) or (isinstance(last, ZScore | Percentile) and not whole) else None
    scalings = [step for step in steps if step is not None]
    if sum(step is not None for step in (first, again)) < len(scalings):
        text = "of several normalisations, one comes before and one after all random changes of intensity; others are left out."
        training.notes.add(RAW, text)
        first = first or (None if again else scalings[0])
    found = {"kind": "fixed"} if first is None else _variant(first)
    if whole and isinstance(first, ZScore | Percentile):
        found |= {"per": "image", "channels": "together", "voxels": "all"}
    return {"normalise": found, **({} if again is None else {"renormalise": _variant(again)})}


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


def _optimisation(training: Training, monitor: AnyMonitor | None) -> Section:
    job, learning = training.job, training.learning
    optimiser, schedule = optimiser_of(learning.optimizer), native_schedule(job.config.get("lr_scheduler"))
    if isinstance(schedule, TorchSchedule) and schedule.name == "ReduceLROnPlateau":
        if monitor is None:
            text = "ReduceLROnPlateau follows the validation loss, which is to fall, not eval_metric."
            training.notes.add("lr_scheduler.name", text)
        mode: Argument = "min" if monitor is None else schedule.options.get("mode", "min")
        schedule = schedule.model_copy(update={"options": {**schedule.options, "mode": mode}})
    every, done = learning.trainer.validate_after_iters, learning.trainer.num_iterations - 1
    if done % every:
        text = f"steps are counted from 1, so that validations come {done % every} steps later."
        training.notes.add("trainer.num_iterations", text)
    interval = f"{every} steps"
    return {
        **_steps_per_epoch(training),
        "steps": learning.trainer.max_num_iterations - done,
        "optimiser": _variant(optimiser),
        "schedule": _variant(schedule),
        **({} if monitor is None else {"monitor": _variant(monitor)}),
        "validate_every": interval,
        "checkpoint_every": interval,
        "seed": job.plain.manual_seed or 0,
    }


def _variant(options: VariantOptions | Optimiser | Schedule | Normalised | AnyMonitor, *, kind: bool = True) -> Section:
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


def _monitor(training: Training, method: Method) -> AnyMonitor | None:
    """The native figure that is `eval_metric`; `None` where there is none."""
    metric, loss, model = training.learning.metric, training.learning.loss, training.job.model
    classes = isinstance(loss, ClassesLoss)
    ignored = training.occurring(getattr(metric, "ignore_index", None))
    activation = "linear" if not model.is_segmentation else "sigmoid" if model.final_sigmoid else "softmax"
    # the class with the highest output is the same after either activation
    same = activation == method.activation or (classes and isinstance(metric, MeanIoU))
    probable = activation != "linear" or not isinstance(metric, IgnoringMetric)
    if not same or not probable or ignored not in (None, method.left_out):
        text = f"the best weights are those with the lowest validation loss, not the best {metric.name}."
        training.notes.add("eval_metric", text)
        return None
    figure = metric.native(model.out_channels, exclusive=classes)
    if isinstance(metric, ObjectMetric):
        last = model.out_channels - 1 if method.labels is None else method.labels
        truth = last if metric.use_last_target else 0
        figure = figure.model_copy(update={"truth": None if truth == method.labels else truth})
    higher = training.learning.trainer.eval_score_higher_is_better
    return figure if figure.monitor.higher_is_better == higher else figure.model_copy(update={"better": "higher" if higher else "lower"})


def _validation_notes(training: Training) -> None:
    """Differences of the validation, which decides which weights are best and sets the learning rate of ReduceLROnPlateau."""
    notes, lists = training.notes, parse_lists(training.learning.val.transformer)
    ours, theirs = (list(filter(None, map(native_scaling, raw))) for raw in (lists.raw, training.lists.raw))
    if ours != theirs:
        notes.add("loaders.val.transformer.raw", "values are normalised as those of the training.")
    made, learned = ([each for each in labels if isinstance(each, LabelTransform)] for labels in (lists.label, training.lists.label))
    if made != learned:
        notes.add("loaders.val.transformer.label", "targets are made as those of the training.")
