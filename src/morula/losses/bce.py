"""Binary cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from morula.losses.sums import Sums, checked_weights, mean_sums, plain_loss, prepare


def bce_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    positive_weights: Sequence[float] | float | None = None,
    over_channels: bool = True,
) -> Sums:
    """Binary cross-entropy, averaged over voxels with non-zero weight, then over channels.

    Per channel, with p = sigmoid(logit) and positive weight v::

        Σ w (-v t log p - (1 - t) log(1 - p)) / Σ w

    Args:
        logits: NC(Z)YX, before the sigmoid.
        target: NC(Z)YX in [0, 1].
        weight: broadcastable to the logits; voxels of weight 0 are left out.
        ignore_value: target value whose voxels are left out.
        channel_weights: weight of each channel in the average over channels.
        positive_weights: factor v of the term where the target is 1; one number, or one per channel.
        over_channels: average the means of the channels; otherwise the mean is over the voxels of all channels together.

    Returns:
        Parts (2, C): Σ w loss and Σ w. `bce` gives the value.

    Raises:
        DataError: when target or weight do not fit the logits.
        OptionError: when channel weights or positive weights do not fit the channels.

    Examples:
        >>> import torch
        >>> float(bce(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))  # doctest: +ELLIPSIS
        0.693...
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    positive = _per_channel(positive_weights, logits)
    # from logits: log(sigmoid(x)) computed in two steps overflows where the network is certain
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=positive)
    return mean_sums(loss, weight, channel_weights, over_channels=over_channels)


bce = plain_loss(bce_sums)
"""Binary cross-entropy as a scalar; arguments of `bce_sums`."""


def _per_channel(weights: Sequence[float] | float | None, logits: Tensor) -> Tensor | None:
    """Weights in a shape that broadcasts to NC(Z)YX: C, then one 1 per spatial axis."""
    if weights is None:
        return None
    channels = logits.shape[1]
    checked = checked_weights([weights] * channels if isinstance(weights, int | float) else weights, channels)
    return logits.new_tensor(checked).reshape(channels, *[1] * (logits.ndim - 2))
