"""Generalised Dice loss: rare classes count as much as frequent ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from morula.losses.sums import Activation, Sums, activate, channel_sums, checked_weights, plain_loss, prepare, weight_sums


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
    """Generalised Dice loss (Sudre et al. 2017, https://arxiv.org/abs/1707.03237) over the whole batch.

    With channels c of weight v_c = 1 / (Σ w t)²::

        1 - (2 Σ_c v_c Σ w p t + smooth) / (Σ_c v_c Σ w (p + t) + smooth)

    Differences from the paper: the v_c are scaled so that the rarest channel present has weight 1, and a channel that is absent
    from the target has weight 1 too, so that false positives in it are penalised. A single channel is complemented by its background.

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX in [0, 1].
        weight: broadcastable to the logits; voxels of weight 0 are left out.
        ignore_value: target value whose voxels are left out.
        channel_weights: additional factor of each v_c; without effect on a single channel.
        activation: applied to the logits first; ``softmax`` for classes that exclude each other.
        smooth: keeps the loss defined where all channels are empty, in voxels of the rarest channel.

    Returns:
        Parts (4, C): Σ w, Σ w p, Σ w t and Σ w p t. `generalized_dice` gives the value.

    Raises:
        DataError: when target or weight do not fit the logits.
        OptionError: when channel weights do not fit the channels, or for an unknown activation.

    Examples:
        >>> target = torch.tensor([[[[0.0, 1.0]]]])
        >>> float(generalized_dice(torch.zeros(1, 1, 1, 2), target, smooth=0))
        0.5
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    predicted = activate(logits, activation)
    parts = [weight_sums(logits, weight), *(channel_sums(values, weight) for values in (predicted, target, predicted * target))]
    return Sums(torch.stack(parts), partial(_generalized, smooth=smooth, channel_weights=checked_weights(channel_weights, logits.shape[1])))


generalized_dice = plain_loss(generalized_dice_sums)
"""Generalised Dice loss as a scalar; arguments of `generalized_dice_sums`."""


def _generalized(parts: Tensor, *, smooth: float, channel_weights: tuple[float, ...] | None) -> Tensor:
    counted, predicted, present, common = parts
    if parts.shape[1] == 1:
        # sums of the background (1 - p, 1 - t) follow from those of the foreground
        predicted, present = torch.cat([predicted, counted - predicted]), torch.cat([present, counted - present])
        common = torch.cat([common, counted - parts[1] - parts[2] + common])
        channel_weights = None
    occurs = present > 0
    rarest = torch.where(occurs, present, torch.full_like(present, torch.inf)).min()
    shares = torch.where(occurs, rarest / torch.where(occurs, present, torch.ones_like(present)), torch.ones_like(present)).square()
    shares = torch.where(rarest.isfinite(), shares, torch.ones_like(shares))
    if channel_weights is not None:
        shares = shares * parts.new_tensor(channel_weights)
    overlap, size = (shares * common).sum(), (shares * (predicted + present)).sum()
    # where all channels are empty the overlap is 0, and the gradient comes from the smoothing alone
    smoothed = torch.where(occurs.any(), smooth, max(smooth, 1.0))
    denominator = size + smoothed
    return 1 - (2 * overlap + smoothed) / denominator
