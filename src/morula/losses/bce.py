"""Binary cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from morula.losses.sums import Sums, checked_weights, mean_sums, prepare


def bce_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    positive_weights: Sequence[float] | float | None = None,
) -> Sums:
    """Sums of `bce`; parts (2, C)."""
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    positive = _per_channel(positive_weights, logits)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=positive)
    return mean_sums(loss, weight, channel_weights)


def bce(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    positive_weights: Sequence[float] | float | None = None,
) -> Tensor:
    """Binary cross-entropy of each channel, meaned over the voxels that count, then over the channels.

    Args:
        logits: NC(Z)YX, before the sigmoid.
        target: NC(Z)YX in [0, 1].
        weight: broadcastable to the logits; 0 leaves a voxel out.
        ignore_value: target value that leaves a voxel out.
        channel_weights: weight of each channel in the mean.
        positive_weights: factor of the part of the loss where the target is 1, for all channels or each of them.

    Raises:
        DataError: for shapes that do not fit.
        OptionError: for weights of channels that do not fit.

    Examples:
        >>> import torch
        >>> float(bce(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))  # doctest: +ELLIPSIS
        0.693...
    """
    return bce_sums(
        logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, positive_weights=positive_weights
    ).total


def _per_channel(weights: Sequence[float] | float | None, logits: Tensor) -> Tensor | None:
    if weights is None:
        return None
    channels = logits.shape[1]
    checked = checked_weights([weights] * channels if isinstance(weights, int | float) else weights, channels)
    return logits.new_tensor(checked).reshape(channels, *[1] * (logits.ndim - 2))
