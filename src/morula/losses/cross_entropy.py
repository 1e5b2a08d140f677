"""Cross-entropy over classes that exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from morula.core.errors import DataError
from morula.losses.sums import Sums, at_least_float32, broadcastable_weight, channel_mean, checked_weights


def ce_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
) -> Sums:
    """Sums of `ce`; parts (2, 1): Σ weight x loss and Σ weight, class weights included."""
    logits = at_least_float32(logits)
    classes, counted = class_indices(target, logits, weight, ignore_value)
    class_weights = checked_weights(channel_weights, logits.shape[1])
    if class_weights is not None:
        counted = counted * logits.new_tensor(class_weights)[classes]
    loss = functional.cross_entropy(logits, classes, reduction="none")
    return Sums(torch.stack([(loss * counted).sum()[None], counted.sum()[None]]), partial(channel_mean, channel_weights=None))


def ce(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
) -> Tensor:
    """Cross-entropy after softmax: Σ w loss / Σ w over the voxels that count, w = weight x weight of the voxel's class.

    Args:
        logits: NC(Z)YX, a channel a class, before the softmax.
        target: class numbers from 0, N(Z)YX or N1(Z)YX; floats that hold whole numbers are accepted.
        weight: broadcastable to N(Z)YX or N1(Z)YX; 0 leaves a voxel out.
        ignore_value: class number that leaves a voxel out.
        channel_weights: weight of each class.

    Raises:
        DataError: for shapes that do not fit, or a class number that the network does not have.
        OptionError: for class weights that do not fit.

    Examples:
        >>> float(ce(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 3]]])))  # doctest: +ELLIPSIS
        1.386...
    """
    return ce_sums(logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights).total


def class_indices(target: Tensor, logits: Tensor, weight: Tensor | None, ignore_value: float | None) -> tuple[Tensor, Tensor]:
    """Class of each voxel, N(Z)YX int64, and its weight, N(Z)YX in the logits' type; ignored voxels have class 0 and weight 0.

    Raises:
        DataError: for shapes that do not fit, or a class number that there is no channel for.
    """
    shape = (logits.shape[0], *logits.shape[2:])
    if target.ndim == logits.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != shape:
        raise DataError(
            f"the target has shape {tuple(target.shape)} but the prediction {tuple(logits.shape)}; "
            f"cross-entropy needs one class number a voxel, of shape {shape}."
        )
    one = logits[:, :1]
    counted = torch.ones_like(target, dtype=logits.dtype)
    if weight is not None:
        weight = weight if weight.ndim == logits.ndim else weight.unsqueeze(-logits.ndim + 1)
        counted = broadcastable_weight(weight, one).expand_as(one)[:, 0]
    if ignore_value is not None:
        counted = counted * (target != ignore_value)
    classes = target.masked_fill(counted == 0, 0).long()
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= logits.shape[1]:
        raise DataError(
            f"the target holds class {low if low < 0 else high} but the prediction has {logits.shape[1]} classes, numbered from 0. "
            "Correct the labels, the number of classes, or state the value to ignore."
        )
    return classes, counted
