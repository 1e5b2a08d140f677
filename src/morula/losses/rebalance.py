"""Voxel weights that balance foreground against background, or classes against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from morula.losses.sums import at_least_float32, broadcastable_weight

RAREST = 0.05
"""Smallest share that is balanced: rarer sides are weighted as if they had it, so that one voxel cannot outweigh the patch."""

CLASS_WEIGHTED = ("ce", "bce", "bce_dice")
"""Losses that accept class weights."""


def rebalance_weights(
    target: Tensor, weight: Tensor | None = None, *, ignore_value: float | None = None, upweighted: Literal["rarer", "background"] = "rarer"
) -> Tensor:
    """Weights under which foreground and background have the same total weight, per channel over the batch.

    With f the share of non-zero voxels among voxels of non-zero weight, clipped to [0.05, 0.95], the rarer side of a channel gets the
    weight max(f, 1 - f) / min(f, 1 - f) and the other side 1. A channel that is all foreground or all background gets 1.

    Args:
        target: NC(Z)YX; values above zero are foreground.
        weight: broadcastable to the target; the result is multiplied with it.
        ignore_value: target value that gets weight 0.
        upweighted: side that may get a weight above 1: the rarer one, whichever it is, or `background` only where it is the rarer one.

    Returns:
        Weights of the target's shape and dtype (float32 at least).

    Raises:
        DataError: when the weight does not broadcast to the target.

    Examples:
        >>> target = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
        >>> rebalance_weights(target).tolist()
        [[[[1.0, 1.0, 1.0, 3.0]]]]
        >>> rebalance_weights(target, upweighted="background").tolist(), rebalance_weights(1 - target, upweighted="background").tolist()
        ([[[[1.0, 1.0, 1.0, 1.0]]]], [[[[1.0, 1.0, 1.0, 3.0]]]])
    """
    target = at_least_float32(target)
    base = torch.ones_like(target) if weight is None else broadcastable_weight(weight, target).expand_as(target)
    if ignore_value is not None:
        base = base * (target != ignore_value)
    counted = base > 0
    foreground = (target > 0) & counted
    axes = [axis for axis in range(target.ndim) if axis != 1]
    total = counted.sum(dim=axes, keepdim=True).to(target.dtype)
    share = foreground.sum(dim=axes, keepdim=True) / total.clamp(min=1)
    # one side is missing: there is nothing to balance
    constant = (share <= 0) | (share >= 1)
    kept = share.clamp(RAREST, 1 - RAREST)
    ratio = torch.maximum(kept, 1 - kept) / torch.minimum(kept, 1 - kept)
    rare = (target > 0) == (share <= 0.5)  # voxels of the rarer side
    if upweighted == "background":
        rare &= target <= 0
    return torch.where(rare & ~constant, ratio, torch.ones_like(ratio)) * base


def class_weights(target: Tensor, weight: Tensor, per_class: Literal["balanced"] | Sequence[float]) -> Tensor:
    """Voxel weights from class weights.

    Args:
        target: one channel per class NC(Z)YX, 1 in the class and 0 elsewhere; a single channel is foreground against background.
        weight: NC(Z)YX, the same in all channels; the result is multiplied with it, and voxels of weight 0 are not counted.
        per_class: weight of each class (background first where the target has one channel), or `balanced`: every class that occurs in the
            batch gets the same total weight, except that a class with a share below 0.05 is weighted as if it had that share.

    Returns:
        Weights of the shape of `weight`.

    Examples:
        >>> target = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
        >>> class_weights(target, torch.ones_like(target), "balanced").tolist()
        [[[[0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]]]]
        >>> class_weights(target, torch.ones_like(target), (1.0, 5.0)).tolist()
        [[[[1.0, 1.0, 1.0, 5.0]]]]
    """
    target = at_least_float32(target)
    one_hot = torch.cat([1 - target, target], dim=1) if target.shape[1] == 1 else target
    if per_class == "balanced":
        counts = (one_hot * (weight[:, :1] > 0)).sum(dim=[axis for axis in range(one_hot.ndim) if axis != 1])
        total, present = counts.sum(), (counts > 0).sum().clamp(min=1)
        factors = total / (present * counts.clamp(min=1).maximum(RAREST * total))
    else:
        factors = one_hot.new_tensor(per_class)
    return weight * torch.einsum("nc...,c->n...", one_hot, factors).unsqueeze(1)
