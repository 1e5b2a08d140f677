"""Generalised Dice loss: rare classes count as much as frequent ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from morula.losses.sums import Activation, Sums, activate, channel_sums, checked_weights, prepare, weight_sums


def generalized_dice_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "sigmoid",
    smooth: float = 1.0,
) -> Sums:
    """Sums of `generalized_dice`; parts (4, C): Σ w, Σ w p, Σ w t and Σ w p t."""
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    predicted = activate(logits, activation)
    parts = [weight_sums(logits, weight), *(channel_sums(values, weight) for values in (predicted, target, predicted * target))]
    return Sums(torch.stack(parts), partial(_generalized, smooth=smooth, channel_weights=checked_weights(channel_weights, logits.shape[1])))


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "sigmoid",
    smooth: float = 1.0,
) -> Tensor:
    """1 - (2 Σ v Σ w p t + smooth) / (Σ v Σ w (p + t) + smooth), the outer sums over the channels of weight v = 1 / (Σ w t)².

    The weights v are scaled to 1 for the rarest channel there is, and a channel that the target does not hold has that weight too, so
    that what is wrongly predicted in it costs something. A single channel is joined by its background (Sudre et al. 2017,
    https://arxiv.org/abs/1707.03237).

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX in [0, 1].
        weight: broadcastable to the logits; 0 leaves a voxel out.
        ignore_value: target value that leaves a voxel out.
        channel_weights: factor of each channel's v; of a single channel without effect.
        activation: applied to the logits first; ``softmax`` for classes that exclude each other.
        smooth: keeps the loss defined and calm where nothing is there, in voxels of the rarest channel.

    Raises:
        DataError: for shapes that do not fit.
        OptionError: for channel weights that do not fit or an unknown activation.

    Examples:
        >>> target = torch.tensor([[[[0.0, 1.0]]]])
        >>> float(generalized_dice(torch.zeros(1, 1, 1, 2), target, smooth=0))
        0.5
    """
    return generalized_dice_sums(
        logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, activation=activation, smooth=smooth
    ).total


def _generalized(parts: Tensor, *, smooth: float, channel_weights: tuple[float, ...] | None) -> Tensor:
    counted, predicted, present, common = parts
    if parts.shape[1] == 1:
        predicted, present = torch.cat([predicted, counted - predicted]), torch.cat([present, counted - present])
        common = torch.cat([common, counted - parts[1] - parts[2] + common])
        channel_weights = None
    there = present > 0
    rarest = torch.where(there, present, torch.full_like(present, torch.inf)).min()
    shares = torch.where(there, rarest / torch.where(there, present, torch.ones_like(present)), torch.ones_like(present)).square()
    shares = torch.where(rarest.isfinite(), shares, torch.ones_like(shares))
    if channel_weights is not None:
        shares = shares * parts.new_tensor(channel_weights)
    overlap, size = (shares * common).sum(), (shares * (predicted + present)).sum()
    smoothed = torch.where(there.any(), smooth, max(smooth, 1.0))  # where nothing is there, only the smoothing has a gradient
    denominator = size + smoothed
    return 1 - (2 * overlap + smoothed) / denominator
