"""Voxel weights against a majority of background, of foreground, or of one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from morula.losses.sums import at_least_float32, broadcastable_weight

RAREST = 0.05  # shares below count as this one, so that a lone voxel does not outweigh the patch
CLASS_WEIGHTED = ("ce", "bce", "bce_dice")
"""Losses that weigh voxels by their class."""


def rebalance_weights(
    target: Tensor, weight: Tensor | None = None, *, ignore_value: float | None = None, upweighted: Literal["rarer", "background"] = "rarer"
) -> Tensor:
    """Weights, shaped like the target, under which foreground and background of each channel count alike.

    With f the share of non-zero voxels among those that count, over the batch and kept within [0.05, 0.95], the rarer side of a
    channel weighs max(f, 1 - f) / min(f, 1 - f) and the other 1. A channel that is all foreground or all background weighs 1.

    Args:
        target: NC(Z)YX; above zero is foreground.
        weight: broadcastable to the target; the result is multiplied with it, and voxels of weight 0 do not count.
        ignore_value: target value that does not count and gets weight 0.
        upweighted: side that may weigh more than 1: the rarer one, or `background`, where that is the rarer one.

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
    constant = (share <= 0) | (share >= 1)
    kept = share.clamp(RAREST, 1 - RAREST)
    ratio = torch.maximum(kept, 1 - kept) / torch.minimum(kept, 1 - kept)
    rare = (target > 0) == (share <= 0.5)
    if upweighted == "background":
        rare &= target <= 0
    return torch.where(rare & ~constant, ratio, torch.ones_like(ratio)) * base


def class_weights(target: Tensor, weight: Tensor, wanted: Literal["balanced"] | Sequence[float]) -> Tensor:
    """Weights under which each class counts as wanted, of the weight's shape.

    Args:
        target: one channel a class NC(Z)YX, 1 in the class and 0 elsewhere; a single channel is foreground against background.
        weight: NC(Z)YX, the same in all channels; the result is multiplied with it, and voxels of weight 0 do not count.
        wanted: weight of each class (background first where the target has one channel), or `balanced`: all classes that occur in the
            batch count alike, one whose share is below 0.05 as if it had that share.

    Examples:
        >>> target = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])
        >>> class_weights(target, torch.ones_like(target), "balanced").tolist()
        [[[[0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]]]]
        >>> class_weights(target, torch.ones_like(target), (1.0, 5.0)).tolist()
        [[[[1.0, 1.0, 1.0, 5.0]]]]
    """
    target = at_least_float32(target)
    each = torch.cat([1 - target, target], dim=1) if target.shape[1] == 1 else target
    if wanted == "balanced":
        counts = (each * (weight[:, :1] > 0)).sum(dim=[axis for axis in range(each.ndim) if axis != 1])
        total, present = counts.sum(), (counts > 0).sum().clamp(min=1)
        factors = total / (present * counts.clamp(min=1).maximum(RAREST * total))
    else:
        factors = each.new_tensor(wanted)
    return weight * torch.einsum("nc...,c->n...", each, factors).unsqueeze(1)
