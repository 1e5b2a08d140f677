"""The method of a converted job: what the network learns from the labels, its loss, and the label that is ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from morula.core.region import blocks
from morula.data.labelled_voxels import labelled_voxels
from morula.dialects.pytorch3dunet.conversion import LABEL, Section, Training, refuse
from morula.dialects.pytorch3dunet.losses import (
    ClassesLoss,
    CrossEntropyLoss,
    DiceLoss,
    LossOptions,
    PixelWiseCrossEntropyLoss,
    RegressionLoss,
)
from morula.dialects.pytorch3dunet.patches import grid_of
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
from morula.dialects.pytorch3dunet.transforms import RandomIntensity, native_scaling

Channel: TypeAlias = str | dict[str, Section]

_BLOCK = 2**22  # voxels of a label image that are read together
_NEGATIVE = "native label images have no negative labels; give voxels to be ignored a positive value, such as 255."


@dataclass(frozen=True)
class Method:
    """The method of the native job.

    Attributes:
        section: the section ``method``.
        ignored: value of ``images.ignore_label``.
        left_out: label whose voxels have no weight, in images or classes.
    """

    section: Section
    ignored: int | None = None
    left_out: int | None = None


def method_of(training: Training) -> Method:
    """The method that learns the targets of the label list with the loss of the job.

    Raises:
        JobError: for targets or losses without native counterpart.
    """
    loss, labels = training.learning.loss, training.lists.label
    if isinstance(loss, RegressionLoss) or not training.job.model.is_segmentation:
        raise refuse("loss.name", f"{loss.name} trains a regression", loss.name)
    for transform in labels:
        if native_scaling(transform) is not None or isinstance(transform, RandomIntensity):
            raise refuse(LABEL, f"{transform.name} changes the values of labels", transform.name)
    if spline_order(labels, 0):
        training.notes.add(LABEL, "labels that are moved take the value of the nearest voxel.")
    return _classes(training, loss) if isinstance(loss, ClassesLoss) else _masks(training, loss)


# --- classes -----------------------------------------------------------------------------------------------------------------------------


def _classes(training: Training, loss: ClassesLoss) -> Method:
    for transform in training.lists.label:
        if isinstance(transform, LabelTransform) and not isinstance(transform, LabelToTensor):
            raise refuse(LABEL, f"{transform.name} makes the classes of {loss.name}", transform.name)
    found: Section = {"kind": "semantic", "classes": training.job.model.out_channels, "losses": {loss.native: 1.0}}
    ignored, filtered = _value(training, loss.ignore_index), training.filtered
    # a label of the images counts as unlabelled for the filter of patches, too
    of_images = ignored if filtered is not None and ignored and filtered.ignore_index == ignored else None
    if ignored is not None and of_images is None:
        found["ignore"] = ignored
    if isinstance(loss, PixelWiseCrossEntropyLoss):
        training.notes.add("loss.name", "all voxels have the same weight; native jobs have no weights of voxels.")
    if isinstance(loss, CrossEntropyLoss) and loss.weight:
        found["class_weights"] = list(loss.weight)
    return Method(found, of_images, ignored)


def _value(training: Training, ignored: float | None) -> int | None:
    """A label that is ignored; `None` where no voxel has it."""
    label = training.occurring(ignored)
    if label is not None and label < 0:
        training.notes.add("loss.ignore_index", _NEGATIVE)
        return None
    return label


# --- masks -------------------------------------------------------------------------------------------------------------------------------


def _masks(training: Training, loss: LossOptions) -> Method:
    maker = _maker(training)
    ignored = _ignored(training, loss, maker)
    channels = _channels(training, maker, ignored)
    codes = [channel if isinstance(channel, str) else next(iter(channel)) for channel in channels]
    widths = [_width(channel) for channel in channels]
    if sum(widths) != training.job.model.out_channels:
        rule = f"is not the number of channels that the label list makes, {sum(widths)}"
        raise refuse("model.out_channels", rule, training.job.model.out_channels)
    found: Section = {"kind": "channels", "channels": channels, "losses": dict.fromkeys(codes, loss.native)}
    if options := _loss_options(training, loss, widths, ignored):
        found["loss_options"] = {loss.native: options}
    shares = _shares(loss, widths)
    if shares != [1.0]:
        found["weights"] = {code: round(share, 9) for code, share in zip(codes, shares, strict=True)}
    if len(codes) > 1 and loss.native == "generalized_dice":
        training.notes.add("loss.name", "each channel has a generalised Dice loss of its own.")
    if "A" in codes:
        found["rebalance"] = False
    if ignored is not None:
        found["extrapolate"] = False
    return Method(found, ignored, ignored)


def _shares(loss: LossOptions, widths: Sequence[int]) -> list[float]:
    """Weight of each representation: the native loss is the sum over these, the original's the mean over channels.

    The weights of `DiceLoss` are factors of the overlap, not of a mean, so they need not add up to 1.
    """
    weights = loss.weight if isinstance(loss, DiceLoss) and loss.weight else (1.0,) * sum(widths)
    if len(weights) != sum(widths):
        raise refuse("loss.weight", f"has {len(weights)} numbers for {sum(widths)} channels", list(weights))
    ends = np.cumsum(widths)
    return [sum(weights[end - width : end]) / sum(widths) for end, width in zip(ends, widths, strict=True)]


def _loss_options(training: Training, loss: LossOptions, widths: Sequence[int], ignored: int | None) -> Section:
    options: Section = {name: list(value) if isinstance(value, tuple) else value for name, value in loss.arguments.items()}
    options.pop("activation", None)
    if max(widths) == 1:  # of one channel, all means are the same
        options = {name: value for name, value in options.items() if name not in ("over_channels", "channel_weights")}
    for name, key in (("positive_weights", "pos_weight"), ("channel_weights", "weight")):
        if len(widths) > 1 and isinstance(options.get(name), list):
            raise refuse(f"loss.{key}", "channels of different kinds have weights of their own", options[name])
    if ignored is None and loss.ignore_index in (0, 1):
        options["ignore_value"] = float(loss.ignore_index)
        if sum(widths) > 1 and loss.native in ("bce", "bce_dice"):
            text = "the mean is over channels; the original's is over the voxels of all channels that are not ignored."
            training.notes.add("loss.ignore_index", text)
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
        if relabel.append_original:
            raise refuse(LABEL, "Relabel with append_original makes the targets", relabel.name)
        if ignored is not None:
            raise refuse(LABEL, f"Relabel changes the label {ignored} before it is ignored", relabel.name)
    if relabels and not _has_background(training):
        training.notes.add(LABEL, "Relabel makes an object the background of patches that have none; native objects stay objects.")
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
    if not any(max(map(abs, offset)) == 1 for offset in offsets):
        raise refuse(LABEL, f"{maker.name} compares no direct neighbours, which objects are made of", maker.name)
    far = any(max(map(abs, offset)) > 1 for offset in offsets)
    if far and not isinstance(maker, LabelToAffinities | LabelToZAffinities):
        raise refuse(LABEL, f"{maker.name} predicts affinities of distances above 1 with other channels", maker.name)
    distant = [relabel for relabel in training.lists.label if isinstance(relabel, Relabel) and relabel.run_cc]
    if far and distant:
        training.notes.add(LABEL, "parts of an object that are not connected in a patch are one object.")
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


def _has_background(training: Training) -> bool:
    """Whether each patch is known to hold background, however it is changed."""
    if not training.volumes or training.moves_voxels:
        return False
    grids = [(volume.labels[0], grid_of(volume.shape, training.learning.train.slice_builder)) for volume in training.volumes]
    return all(bool((labelled_voxels(labels, grid) < math.prod(grid.shape)).all()) for labels, grid in grids)
