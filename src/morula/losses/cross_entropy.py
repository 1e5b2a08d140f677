"""Cross-entropy over classes that exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from morula.core.errors import DataError
from morula.losses.sums import Sums, at_least_float32, broadcastable_weight, channel_mean, channel_sums, checked_weights, plain_loss


def ce_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    per_voxel: bool = False,
) -> Sums:
    """Cross-entropy after a softmax over channels, averaged over voxels with non-zero weight.

    With the probability p of a voxel's true class and w = weight x weight of that class::

        Σ -w log p / Σ w

    Args:
        logits: NC(Z)YX, one channel per class, before the softmax.
        target: class numbers from 0, N(Z)YX or N1(Z)YX; floats that hold whole numbers are accepted.
        weight: broadcastable to N(Z)YX or N1(Z)YX; voxels of weight 0 are left out.
        ignore_value: class number whose voxels are left out.
        channel_weights: weight of each class.
        per_voxel: divide by the number of voxels with non-zero weight, not by the sum of their weights: voxels of twice the weight then
            count twice as much even where all have the same weight.

    Returns:
        Parts (2, 1): Σ w loss and Σ w, or the number of voxels. `ce` gives the value.

    Raises:
        DataError: when target or weight do not fit the logits, or a class number has no channel.
        OptionError: when class weights do not fit the channels.

    Examples:
        >>> float(ce(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 3]]])))  # doctest: +ELLIPSIS
        1.386...
    """
    logits = at_least_float32(logits)
    classes, counted = class_indices(target, logits, weight, ignore_value)
    class_weights = checked_weights(channel_weights, logits.shape[1])
    # in numerator and denominator, as in torch: class weights change the shares of classes, not the scale of the loss
    if class_weights is not None:
        counted = counted * logits.new_tensor(class_weights)[classes]
    loss = functional.cross_entropy(logits, classes, reduction="none")
    divisor = (counted != 0).sum().to(loss.dtype) if per_voxel else counted.sum()
    return Sums(torch.stack([(loss * counted).sum()[None], divisor[None]]), partial(channel_mean, channel_weights=None))


ce = plain_loss(ce_sums)
"""Cross-entropy as a scalar; arguments of `ce_sums`."""


def weighted_ce_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
) -> Sums:
    """Cross-entropy with class weights Σ (1 - p) / Σ p from the prediction itself (Sudre et al. 2017, https://arxiv.org/abs/1707.03237).

    The class weights are computed over all voxels, ignored ones included, and carry no gradient. Arguments and errors as in `ce_sums`.

    Returns:
        Parts (4, C): Σ weight x loss and Σ weight over the voxels of each class, then Σ (1 - p) and Σ p. `weighted_ce` gives the value.

    Examples:
        >>> logits, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
        >>> round(float(weighted_ce(logits, target)), 4)
        0.6931
    """
    logits = at_least_float32(logits)
    classes, counted = class_indices(target, logits, weight, ignore_value)
    loss = functional.cross_entropy(logits, classes, reduction="none") * counted
    empty = logits.new_zeros(logits.shape[1])
    by_class = [empty.index_add(0, classes.flatten(), values.flatten()) for values in (loss, counted)]
    # detached: else the network could lower the loss by changing the weights
    predicted = logits.detach().softmax(dim=1)
    parts = torch.stack([*by_class, channel_sums(1 - predicted), channel_sums(predicted)])
    return Sums(parts, partial(_weighted_by_prediction, channel_weights=checked_weights(channel_weights, logits.shape[1])))


weighted_ce = plain_loss(weighted_ce_sums)
"""Cross-entropy weighted by the prediction as a scalar; arguments of `weighted_ce_sums`."""


def _weighted_by_prediction(parts: Tensor, *, channel_weights: tuple[float, ...] | None) -> Tensor:
    loss, counted, absent, present = parts
    weights = (absent / present.clamp(min=torch.finfo(parts.dtype).tiny)).detach()
    if channel_weights is not None:
        weights = weights * parts.new_tensor(channel_weights)
    # a batch in which every voxel is ignored has the loss 0, not NaN
    norm = (weights * counted).sum()
    return (weights * loss).sum() / torch.where(norm > 0, norm, torch.ones_like(norm))


def class_indices(target: Tensor, logits: Tensor, weight: Tensor | None, ignore_value: float | None) -> tuple[Tensor, Tensor]:
    """Class of each voxel, N(Z)YX int64, and its weight, N(Z)YX in the logits' dtype; ignored voxels have class 0 and weight 0.

    Raises:
        DataError: when target or weight do not fit the logits, or a class number has no channel.
    """
    shape = (logits.shape[0], *logits.shape[2:])
    if target.ndim == logits.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != shape:
        raise DataError(
            "loss.target_shape",
            f"the target must hold one class number per voxel, shape {shape}, for the prediction {tuple(logits.shape)}",
            value=tuple(target.shape),
        )
    one = logits[:, :1]
    counted = torch.ones_like(target, dtype=logits.dtype)
    if weight is not None:
        weight = weight if weight.ndim == logits.ndim else weight.unsqueeze(-logits.ndim + 1)
        counted = broadcastable_weight(weight, one).expand_as(one)[:, 0]
    if ignore_value is not None:
        counted = counted * (target != ignore_value)
    # ignored voxels may hold any value, also NaN or -1: they must not be checked, nor used as an index
    classes = target.masked_fill(counted == 0, 0).long()
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= logits.shape[1]:
        raise DataError(
            "loss.class_out_of_range",
            f"class numbers must be from 0 to {logits.shape[1] - 1}, one per channel of the prediction",
            key="target",
            value=low if low < 0 else high,
            remedy="Correct the labels or the number of classes, or state the value to ignore.",
        )
    return classes, counted
