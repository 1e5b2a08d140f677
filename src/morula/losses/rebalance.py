"""Voxel weights against a majority of background or foreground."""

from __future__ import annotations

import torch
from torch import Tensor

from morula.losses.sums import fitting, wide

RAREST = 0.05  # shares below count as this one, so that a lone voxel does not outweigh the patch


def rebalance_weights(target: Tensor, weight: Tensor | None = None, *, ignore_value: float | None = None) -> Tensor:
    """Weights, shaped like the target, under which foreground and background of each channel count alike.

    With f the share of non-zero voxels among those that count, over the batch and kept within [0.05, 0.95], the rarer side of a
    channel weighs max(f, 1 - f) / min(f, 1 - f) and the other 1. A channel that is all foreground or all background weighs 1.

    Args:
        target: NC(Z)YX; above zero is foreground.
        weight: broadcastable to the target; the result is multiplied with it, and voxels of weight 0 do not count.
        ignore_value: target value that does not count and gets weight 0.

    Examples:
        >>> rebalance_weights(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])).tolist()
        [[[[1.0, 1.0, 1.0, 3.0]]]]
    """
    target = wide(target)
    base = torch.ones_like(target) if weight is None else fitting(weight, target).expand_as(target)
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
    return torch.where(rare & ~constant, ratio, torch.ones_like(ratio)) * base
