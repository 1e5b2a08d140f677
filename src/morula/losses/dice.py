"""Dice loss, alone and with binary cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from morula.losses.bce import bce_sums
from morula.losses.sums import Activation, Sums, activate, channel_sums, checked_weights, plain_loss, prepare


def dice_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "sigmoid",
    squared: bool = False,
    smooth: float = 1.0,
) -> Sums:
    """Dice loss per channel over the whole batch, averaged over channels.

    With the prediction p after the activation and the weight w::

        1 - (2 Σ w p t + smooth) / (Σ w (p + t) + smooth)

    With `squared` the denominator is Σ w (p² + t²) + smooth (V-Net, Milletari et al. 2016, https://arxiv.org/abs/1606.04797).

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX in [0, 1].
        weight: broadcastable to the logits; voxels of weight 0 are left out.
        ignore_value: target value whose voxels are left out.
        channel_weights: weight of each channel in the average over channels.
        activation: applied to the logits first; ``softmax`` for classes that exclude each other.
        squared: whether the denominator holds squares.
        smooth: keeps the loss defined and its gradient bounded where a channel is empty.

    Returns:
        Parts (2, C): Σ w p t and Σ w (p + t), or Σ w (p² + t²). `dice` gives the value.

    Raises:
        DataError: when target or weight do not fit the logits.
        OptionError: when channel weights do not fit the channels, or for an unknown activation.

    Examples:
        >>> target = torch.tensor([[[[0.0, 1.0]]]])
        >>> float(dice(torch.zeros(1, 1, 1, 2), target, smooth=0))
        0.5
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    predicted = activate(logits, activation)
    size = predicted.square() + target.square() if squared else predicted + target
    parts = torch.stack([channel_sums(predicted * target, weight), channel_sums(size, weight)])
    return Sums(parts, partial(_dice, smooth=smooth, channel_weights=checked_weights(channel_weights, logits.shape[1])))


dice = plain_loss(dice_sums)
"""Dice loss as a scalar; arguments of `dice_sums`."""


def bce_dice_sums(  # noqa: PLR0913 - those of both losses
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    shares: tuple[float, float] = (1.0, 1.0),
    over_channels: bool = True,
    squared: bool = False,
    smooth: float = 1.0,
) -> Sums:
    """shares[0] x `bce` + shares[1] x `dice`. Other arguments and errors as in `bce_sums` and `dice_sums`.

    Returns:
        Parts (4, C): those of `bce_sums`, then those of `dice_sums`. `bce_dice` gives the value.

    Examples:
        >>> round(float(bce_dice(torch.full((1, 1, 4, 4), 50.0), torch.ones(1, 1, 4, 4))), 6)
        0.0
    """
    entropy = bce_sums(logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, over_channels=over_channels)
    overlap = dice_sums(logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, squared=squared, smooth=smooth)
    # sums are kept apart: over several devices both losses are computed from the sums of all of them
    parts = torch.cat([entropy.parts, overlap.parts])
    return Sums(parts, lambda parts: shares[0] * entropy.value(parts[:2]) + shares[1] * overlap.value(parts[2:]))


bce_dice = plain_loss(bce_dice_sums)
"""Binary cross-entropy plus Dice loss as a scalar; arguments of `bce_dice_sums`."""


def _dice(parts: Tensor, *, smooth: float, channel_weights: tuple[float, ...] | None) -> Tensor:
    overlap, size = parts
    denominator = size + smooth
    # 0 / 0 happens with smooth=0 only: an empty prediction of an empty channel is perfect
    empty = denominator <= 0
    score = torch.where(empty, torch.ones_like(size), (2 * overlap + smooth) / torch.where(empty, torch.ones_like(size), denominator))
    shares = torch.ones_like(size) if channel_weights is None else parts.new_tensor(channel_weights)
    return ((1 - score) * shares).sum() / shares.sum()
