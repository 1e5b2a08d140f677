"""Losses of continuous channels: squared, absolute, and smooth absolute error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from morula.core.errors import OptionError
from morula.losses.sums import Activation, Sums, activate, mean_sums, plain_loss, prepare


def mse_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
    over_channels: bool = True,
    sides: tuple[float, float, float] | None = None,
) -> Sums:
    """Squared error, averaged over voxels with non-zero weight, then over channels.

    Per channel, with the prediction p after the activation: Σ w (p - t)² / Σ w.

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX.
        weight: broadcastable to the logits; voxels of weight 0 are left out.
        ignore_value: target value whose voxels are left out.
        channel_weights: weight of each channel in the average over channels.
        activation: applied to the logits first.
        over_channels: average the means of the channels; otherwise the mean is over the voxels of all channels together.
        sides: a value of the target, the factor of the error where the target is below it, and the factor where it is not. The mean still
            divides by Σ w.

    Returns:
        Parts (2, C): Σ w loss and Σ w. `mse` gives the value.

    Raises:
        DataError: when target or weight do not fit the logits.
        OptionError: when channel weights do not fit the channels, or for an unknown activation.

    Examples:
        >>> import torch
        >>> float(mse(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)))
        4.0
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    # per voxel: the weights of voxels and channels are applied in `mean_sums`, alike for all three losses
    loss = (activate(logits, activation) - target).square()
    return mean_sums(loss * _side(target, sides), weight, channel_weights, over_channels=over_channels)


mse = plain_loss(mse_sums)
"""Mean squared error as a scalar; arguments of `mse_sums`."""


def l1_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
    over_channels: bool = True,
    sides: tuple[float, float, float] | None = None,
) -> Sums:
    """Absolute error |p - t|; reduction, arguments, parts and errors as in `mse_sums`. `l1` gives the value.

    Examples:
        >>> import torch
        >>> float(l1(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), -2.0)))
        2.0
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    loss = (activate(logits, activation) - target).abs()
    return mean_sums(loss * _side(target, sides), weight, channel_weights, over_channels=over_channels)


l1 = plain_loss(l1_sums)
"""Mean absolute error as a scalar; arguments of `l1_sums`."""


def smooth_l1_sums(  # noqa: PLR0913 - those of the other losses, and beta
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
    beta: float = 1.0,
    over_channels: bool = True,
    sides: tuple[float, float, float] | None = None,
) -> Sums:
    """Smooth absolute error (Girshick 2015, https://arxiv.org/abs/1504.08083): with the difference d = |p - t|::

        d² / (2 beta)  where d < beta,    d - beta / 2  elsewhere

    Reduction, other arguments, parts and errors as in `mse_sums`. `smooth_l1` gives the value.

    Examples:
        >>> import torch
        >>> float(smooth_l1(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)))
        1.5
    """
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    # beta is the difference at which the parabola becomes a line: outliers then pull with a constant gradient
    loss = functional.smooth_l1_loss(activate(logits, activation), target, reduction="none", beta=beta)
    return mean_sums(loss * _side(target, sides), weight, channel_weights, over_channels=over_channels)


smooth_l1 = plain_loss(smooth_l1_sums)
"""Mean smooth absolute error as a scalar; arguments of `smooth_l1_sums`."""


def _side(target: Tensor, sides: Sequence[float] | None) -> Tensor | float:
    """Factor of each voxel by its target."""
    if sides is None:
        return 1.0
    if len(sides) != 3:
        raise OptionError("loss.sides", "must be a value of the target and two factors", key="sides", value=tuple(sides))
    return torch.where(target < sides[0], sides[1], sides[2])
