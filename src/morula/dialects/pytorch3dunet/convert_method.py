"""The method of a converted job: what the network learns from the labels, its loss, and the label that is ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from morula.core.region import blocks
from morula.dialects.pytorch3dunet.conversion import LABEL, Section, Training, refuse
from morula.dialects.pytorch3dunet.losses import (
    ClassesLoss,
    CrossEntropyLoss,
    DiceLoss,
    LossOptions,
    OverlapLoss,
    PixelWiseCrossEntropyLoss,
    RegressionLoss,
)
from morula.dialects.pytorch3dunet.targets import (
    BlobsToMask,
    LabelToAffinities,
    LabelToBoundaryAndAffinities,
    LabelToMaskAndAffinities,
    LabelToTensor,
    LabelToZAffinities,
    LabelTransform,
    Relabel,
    StandardLabelToBoundary,
    Targets,
)
from morula.dialects.pytorch3dunet.transform_lists import spline_order
from morula.dialects.pytorch3dunet.transforms import RandomIntensity, ToTensor, native_scaling

Channel: TypeAlias = str | dict[str, Section]

_BLOCK = 2**22  # voxels of a label image that are read together
NEGATIVE = "native label images have no negative labels; give voxels to be ignored a positive value, such as 255."


@dataclass(frozen=True)
class Method:
    """The method of the native job.

    Attributes:
        section: the section ``method``.
        ignored: value of ``images.ignore_label``.
        left_out: label whose voxels have no weight, in images or classes.
        labels: channel of the original's targets that is the label image; `None` where none is.
        activation: of the predictions.
    """

    section: Section
    ignored: int | None = None
    left_out: int | None = None
    labels: int | None = 0
    activation: str = "sigmoid"


def method_of(training: Training) -> Method:
    """The method that learns the targets of the label list with the loss of the job.

    Raises:
        JobError: for targets or losses without native counterpart.
    """
    loss, labels, model = training.learning.loss, training.lists.label, training.job.model
    for transform in labels:
        if native_scaling(transform) is not None or isinstance(transform, RandomIntensity):
            raise refuse(LABEL, f"{transform.name} changes the values of labels", transform.name)
    several = any(sum(array.shape[0] for array in volume.labels) > 1 for volume in training.volumes)
    if isinstance(loss, ClassesLoss):
        if several or not model.is_segmentation:
            raise refuse("loss.name", f"{loss.name} of labels of several channels, or without softmax", loss.name)
        return _classes(training, loss)
    maker = _maker(training)
    values = isinstance(loss, RegressionLoss) or not model.is_segmentation
    if maker is not None and several:
        raise refuse("loaders.label_internal_path", f"{maker.name} changes labels of several channels", maker.name)
    if maker is not None and values:
        raise refuse("loss.name", f"{loss.name} trains a regression of the targets of {maker.name}", loss.name)
    if maker is None and (values or several or (bool(training.volumes) and not _binary(training, _ignored(training, loss, maker)))):
        return _regression(training, loss)
    return _masks(training, loss, maker)


def _activation(training: Training, loss: LossOptions, *, several: bool) -> str:
    """The activation that a loss trains; masks have a sigmoid, labels of several channels may have a softmax."""
    stated = loss.normalization if isinstance(loss, OverlapLoss) else "sigmoid"
    if stated == "softmax" and several:
        return stated
    if stated != "sigmoid":
        training.notes.add("loss.normalization", "native masks are trained through a sigmoid.")
    return "sigmoid" if loss.of_masks else "linear"


# --- values ------------------------------------------------------------------------------------------------------------------------------


def _check_values(training: Training) -> None:
    """Refuse labels that a regression would learn otherwise."""
    names, stored = training.loaders.label_internal_path, [array for volume in training.volumes for array in volume.labels]
    for transform in training.lists.label:
        if isinstance(transform, Relabel):
            raise refuse(LABEL, f"{transform.name} changes the targets", transform.name)
        truncates = isinstance(transform, LabelToTensor) or (isinstance(transform, ToTensor) and not transform.dtype.startswith("float"))
        if truncates and any(array.dtype.kind == "f" for array in stored):
            raise refuse(LABEL, f"{transform.name} truncates the labels", transform.name)
    if training.moves_voxels and len({array.dtype.kind == "f" for array in stored}) > 1:
        raise refuse("loaders.label_internal_path", "some data sets have values in between, others have not", names)
    if any(array.dtype.kind == "i" for array in stored):
        raise refuse("loaders.label_internal_path", "signed integers are values", names)


def _regression(training: Training, loss: LossOptions) -> Method:
    """Labels whose values are the targets: real numbers, several masks, or other values than 0 and 1."""
    labels, width = training.lists.label, training.job.model.out_channels
    stored = [array for volume in training.volumes for array in volume.labels]
    _check_values(training)
    for channels in (sum(array.shape[0] for array in volume.labels) for volume in training.volumes):
        if channels != width:
            raise refuse("model.out_channels", f"is not the number of channels of the labels, {channels}", width)
    if spline_order(labels, 1) != 1 and all(array.dtype.kind == "f" for array in stored):
        training.notes.add(LABEL, "values are interpolated linearly where they are moved.")
    activation = _activation(training, loss, several=width > 1)
    found: Section = {
        "kind": "regression",
        "channels": width,
        "activation": activation,
        "losses": {loss.native: round(_share(loss, width), 9)},
        **({"offset": 0.0, "scale": 1.0} if activation == "linear" else {}),
    }
    ignored = training.occurring(loss.ignore_index)
    counts = ignored is None or (loss.of_masks and ignored in (0, 1))
    if not counts and (width > 1 or ignored is None or ignored < 1):
        raise refuse("loss.ignore_index", "is a value of single channels, or not above 0", loss.ignore_index)
    left_out = None if counts else ignored
    if options := _loss_options(loss, width, left_out):
        found["loss_options"] = {loss.native: options}
    return Method(found, left_out, left_out, None, activation)


# --- classes -----------------------------------------------------------------------------------------------------------------------------


def _classes(training: Training, loss: ClassesLoss) -> Method:
    for transform in training.lists.label:
        if isinstance(transform, LabelTransform) and not isinstance(transform, LabelToTensor):
            raise refuse(LABEL, f"{transform.name} makes the classes of {loss.name}", transform.name)
    width = training.job.model.out_channels
    found: Section = {"kind": "semantic", "classes": width, "losses": {loss.native: 1.0}}
    ignored, filtered = _value(training, loss.ignore_index), training.filtered
    # a label of the images counts as unlabelled for the filter of patches, too
    of_images = ignored if filtered is not None and ignored and filtered.ignore_index == ignored else None
    if ignored is not None and of_images is None:
        found["ignore"] = ignored
    if isinstance(loss, PixelWiseCrossEntropyLoss):  # a mean over voxels and classes
        found |= {"losses": {loss.native: round(1 / width, 9)}, "loss_options": {loss.native: {"per_voxel": True}}}
    if isinstance(loss, CrossEntropyLoss) and loss.weight:
        found["class_weights"] = list(loss.weight)
    return Method(found, of_images, ignored, activation="softmax")


def _value(training: Training, ignored: float | None) -> int | None:
    """A label that is ignored; `None` where no voxel has it."""
    label = training.occurring(ignored)
    if label is not None and label < 0:
        training.notes.add("loss.ignore_index", NEGATIVE)
        return None
    return label


# --- masks -------------------------------------------------------------------------------------------------------------------------------


def _masks(training: Training, loss: LossOptions, maker: LabelTransform | None) -> Method:
    _activation(training, loss, several=False)
    ignored = _ignored(training, loss, maker)
    channels = _channels(training, maker, ignored)
    codes = [channel if isinstance(channel, str) else next(iter(channel)) for channel in channels]
    widths = [_width(channel) for channel in channels]
    if sum(widths) != training.job.model.out_channels:
        rule = f"is not the number of channels that the label list makes, {sum(widths)}"
        raise refuse("model.out_channels", rule, training.job.model.out_channels)
    found: Section = {"kind": "channels", "channels": channels, "losses": dict.fromkeys(codes, loss.native)}
    if options := _loss_options(loss, sum(widths), ignored):
        found["loss_options"] = {loss.native: options}
    share = _share(loss, sum(widths))
    if len(codes) > 1:
        found["joint_loss"] = True
    if share != 1:
        found["weights"] = dict.fromkeys(codes, round(share, 9))
    if "A" in codes:
        found["rebalance"] = False
    if ignored is not None:
        found["extrapolate"] = False
    appended = isinstance(maker, Targets) and maker.append_label
    return Method(found, ignored, ignored, 0 if maker is None else sum(widths) if appended else None)


def _share(loss: LossOptions, width: int) -> float:
    """Factor of the loss: the weights of `DiceLoss` are factors of the overlap, not of a mean, so they need not add up to 1."""
    weights = loss.weight if isinstance(loss, DiceLoss) and loss.weight else (1.0,)
    if len(weights) not in (1, width):
        raise refuse("loss.weight", f"has {len(weights)} numbers for {width} channels", list(weights))
    return sum(weights) / len(weights)


def _loss_options(loss: LossOptions, width: int, ignored: int | None) -> Section:
    options: Section = {name: list(value) if isinstance(value, tuple) else value for name, value in loss.arguments.items()}
    options.pop("activation", None)
    if width == 1:  # of one channel, all means are the same
        options = {name: value for name, value in options.items() if name not in ("over_channels", "channel_weights")}
    if ignored is None and loss.ignore_index in (0, 1):
        options["ignore_value"] = float(loss.ignore_index)
    return options


def _width(channel: Channel) -> int:
    return len(channel["A"]["offsets"]) if isinstance(channel, Mapping) and "A" in channel else 1  # type: ignore[arg-type]


def _maker(training: Training) -> LabelTransform | None:
    """The transform that makes the targets; `None` where these are the labels themselves."""
    labels, loss = training.lists.label, training.learning.loss
    makers = [
        transform for transform in labels if isinstance(transform, LabelTransform) and not isinstance(transform, LabelToTensor | Relabel)
    ]
    if len(makers) > 1:
        raise refuse(LABEL, f"{makers[1].name} changes the targets of {makers[0].name}", makers[1].name)
    appends = any(isinstance(maker, Targets) and maker.append_label for maker in makers)
    if appends != loss.skip_last_target and not any(isinstance(transform, Relabel) and transform.append_original for transform in labels):
        rule = f"is {str(loss.skip_last_target).lower()}, but labels are {'' if appends else 'not '}appended to the targets"
        raise refuse("loss.skip_last_target", rule, loss.skip_last_target)
    return makers[0] if makers else None


def _ignored(training: Training, loss: LossOptions, maker: LabelTransform | None) -> int | None:
    """The label that stays in the targets for the loss to ignore; `None` where there is none."""
    kept = loss.ignore_index if maker is None else maker.kept_label if isinstance(maker, Targets) else None
    # labels 0 and 1 that are the targets themselves are ignored by their value there
    if training.occurring(kept) is None or (maker is None and kept in (0, 1)):
        return None
    assert kept is not None
    if maker is not None and kept != loss.ignore_index:
        raise refuse(LABEL, f"{maker.name} leaves the label {int(kept)} in the targets, which the loss does not ignore", maker.name)
    if kept in (0, 1):
        raise refuse("loss.ignore_index", f"{int(kept)} is a value of the targets as well as the label to ignore", kept)
    return _value(training, kept)


def _channels(training: Training, maker: LabelTransform | None, ignored: int | None) -> list[Channel]:
    """Native channels for the targets of the label list."""
    relabels = [transform for transform in training.lists.label if isinstance(transform, Relabel)]
    for relabel in relabels:
        if relabel.append_original or relabel.ignore_label:
            key = "append_original" if relabel.append_original else "ignore_label"
            raise refuse(LABEL, f"Relabel with {key} makes the targets", relabel.name)
        if ignored is not None:
            raise refuse(LABEL, f"Relabel changes the label {ignored} before it is ignored", relabel.name)
    if maker is None:
        if any(relabel.run_cc for relabel in relabels) or not _binary(training, ignored):
            training.notes.add(LABEL, "all labels above 0 are foreground; the original takes the labels themselves as targets.")
        return ["F"]
    return _channels_of(maker, training)


def _channels_of(maker: LabelTransform, training: Training) -> list[Channel]:
    match maker:
        case StandardLabelToBoundary() if maker.name == "StandardLabelToBoundary":
            return [*(["F"] if maker.foreground else []), {"C": {"mode": maker.mode, "connectivity": 2}}]
        case BlobsToMask(cross_entropy=False):
            return ["F", {"C": {"mode": "outer", "connectivity": 2}}] if maker.boundary else ["F"]
        case LabelToAffinities(aggregate_affinities=False):
            return [_affinities(maker, maker.offsets, maker.z_offsets or maker.offsets, training)]
        case LabelToZAffinities():
            return [_affinities(maker, (), maker.offsets, training)]
        case LabelToBoundaryAndAffinities():
            contour: Channel = {"C": {"mode": maker.mode, "connectivity": 2}}
            pairs = _affinities(maker, maker.xy_offsets, maker.z_offsets, training)
            return [*(["F"] if maker.foreground else []), contour, pairs]
        case LabelToMaskAndAffinities(background=0, ignore_index=None):
            return ["F", _affinities(maker, maker.xy_offsets, maker.z_offsets, training)]
    raise refuse(LABEL, f"{maker.name}{_reasons(maker)} makes the targets", maker.name)


def _reasons(maker: LabelTransform) -> str:
    """The keys that leave a transform without counterpart, where others of its kind have one."""
    keys = ("cross_entropy", "aggregate_affinities", "background", "ignore_index")
    return "".join(f" with {key}" for key in keys if getattr(maker, key, None))


def _affinities(maker: LabelTransform, plane: Sequence[int], depth: Sequence[int], training: Training) -> Channel:
    """The channel of an affinity along x, y and z for each distance; along z alone where there are none in the plane."""
    offsets = [offset for i, z in enumerate(depth) for offset in (*([(0, 0, -plane[i]), (0, -plane[i], 0)] if plane else []), (-z, 0, 0))]
    if len(set(offsets)) < len(offsets):
        raise refuse(LABEL, f"{maker.name} makes two channels of one offset along z", maker.name)
    if training.planar:
        raise refuse(LABEL, f"{maker.name} compares the planes of images of one plane", maker.name)
    alone = isinstance(maker, LabelToAffinities | LabelToZAffinities)
    if alone and not any(max(map(abs, offset)) == 1 for offset in offsets):
        raise refuse(LABEL, f"{maker.name} compares no direct neighbours, which objects are made of", maker.name)
    return {"A": {"offsets": list(map(list, offsets)), "mode": "different"}}


# --- labels ------------------------------------------------------------------------------------------------------------------------------


def _binary(training: Training, ignored: int | None) -> bool:
    """Whether the labels are known to be 0 and 1, apart from the ignored one."""
    moved = training.moves_voxels and any(volume.labels[0].dtype.kind == "f" for volume in training.volumes)  # moved in between values
    return (
        bool(training.volumes)
        and not moved
        and all(
            bool(((values == 0) | (values == 1) | (values == ignored)).all())
            for volume in training.volumes
            for box in blocks(volume.shape, (max(1, _BLOCK // math.prod(volume.shape[1:])), *volume.shape[1:]))
            for values in [np.asarray(volume.labels[0][(slice(None), *box.slices)])]
        )
    )
