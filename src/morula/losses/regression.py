"""Losses of continuous channels: squared, absolute, and smooth absolute difference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from morula.losses.sums import Activation, Sums, activate, mean_sums, prepare


def mse_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
) -> Sums:
    """Sums of `mse`; parts (2, C)."""
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    return mean_sums((activate(logits, activation) - target).square(), weight, channel_weights)


def mse(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
) -> Tensor:
    """Squared difference, meaned over the voxels that count, then over the channels.

    Args:
        logits: NC(Z)YX, before the activation.
        target: NC(Z)YX.
        weight: broadcastable to the logits; 0 leaves a voxel out.
        ignore_value: target value that leaves a voxel out.
        channel_weights: weight of each channel in the mean.
        activation: applied to the logits first.

    Raises:
        DataError: for shapes that do not fit.
        OptionError: for channel weights that do not fit or an unknown activation.

    Examples:
        >>> import torch
        >>> float(mse(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)))
        4.0
    """
    return mse_sums(logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, activation=activation).total


def l1_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
) -> Sums:
    """Sums of `l1`; parts (2, C)."""
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    return mean_sums((activate(logits, activation) - target).abs(), weight, channel_weights)


def l1(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
) -> Tensor:
    """Absolute difference, meaned over the voxels that count, then over the channels. Arguments and errors as of `mse`.

    Examples:
        >>> import torch
        >>> float(l1(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), -2.0)))
        2.0
    """
    return l1_sums(logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, activation=activation).total


def smooth_l1_sums(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
    beta: float = 1.0,
) -> Sums:
    """Sums of `smooth_l1`; parts (2, C)."""
    logits, target, weight = prepare(logits, target, weight, ignore_value)
    loss = functional.smooth_l1_loss(activate(logits, activation), target, reduction="none", beta=beta)
    return mean_sums(loss, weight, channel_weights)


def smooth_l1(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_value: float | None = None,
    channel_weights: Sequence[float] | None = None,
    activation: Activation = "linear",
    beta: float = 1.0,
) -> Tensor:
    """d² / (2 beta) where the difference d is below `beta`, |d| - beta / 2 beyond (Girshick 2015, https://arxiv.org/abs/1504.08083).

    Meaned over the voxels that count, then over the channels. Other arguments and errors as of `mse`.

    Examples:
        >>> import torch
        >>> float(smooth_l1(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)))
        1.5
    """
    return smooth_l1_sums(
        logits, target, weight, ignore_value=ignore_value, channel_weights=channel_weights, activation=activation, beta=beta
    ).total
