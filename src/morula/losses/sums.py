"""Losses as sums that add over patches, accumulation steps and processes, and a value that follows from them.

The mean of the losses of two batches is not the loss of both: a ratio such as Dice, or a mean over annotated voxels, depends on
denominators that differ per batch. So a loss is computed in two steps::

    batch 1 -> parts 1 --+
                         +--> sum of the parts --> value (a scalar)
    batch 2 -> parts 2 --+

The parts are sums over voxels; only their total is turned into a value. See docs/decisions/0002-additive-losses.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, ParamSpec, TypeAlias

import torch
from torch import Tensor

from morula.core.errors import DataError, OptionError

Activation: TypeAlias = Literal["linear", "sigmoid", "tanh", "softmax", "expected_class", "embedding"]
Arguments = ParamSpec("Arguments")

BANDWIDTH_STEPS = 24
"""Difference in logits that changes the bandwidth of an embedding by 1; logits of 0 give bandwidth 1."""


@dataclass(frozen=True)
class Sums:
    """A loss before its last step.

    The law: adding the `parts` of pieces of a batch and calling `value` gives the loss of the whole batch, for ratios (Dice, masked
    means) too. `value` depends on nothing but the parts and is differentiable in them.

    Attributes:
        parts: sums over voxels or samples; their shape does not depend on the number of either.
        value: maps parts to the loss, a scalar.

    Examples:
        >>> def mean(parts): return parts[0] / parts[1]
        >>> float((Sums(torch.tensor([2.0, 1.0]), mean) + Sums(torch.tensor([1.0, 5.0]), mean)).total)
        0.5
    """

    parts: Tensor
    value: Callable[[Tensor], Tensor]

    @property
    def total(self) -> Tensor:
        """The loss of these parts alone, a scalar."""
        return self.value(self.parts)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.parts + other.parts, self.value)


def plain_loss(sums: Callable[Arguments, Sums]) -> Callable[Arguments, Tensor]:
    """The loss of one batch as a scalar, from the function that computes its sums; the arguments are the same.

    Examples:
        >>> def error_sums(prediction: Tensor, target: Tensor) -> Sums:
        ...     return Sums((prediction - target).abs().sum(), lambda parts: parts)
        >>> error = plain_loss(error_sums)
        >>> error.__name__, float(error(torch.ones(2), torch.zeros(2)))
        ('error', 2.0)
    """

    @functools.wraps(sums)
    def loss(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        return sums(*args, **kwargs).total

    # pickle and help() need the name under which the module holds the function
    loss.__name__ = sums.__name__.removesuffix("_sums")
    loss.__qualname__ = sums.__qualname__.removesuffix("_sums")
    loss.__signature__ = inspect.signature(sums).replace(return_annotation="Tensor")  # type: ignore[attr-defined]
    return loss


def joined(parts: Sequence[Tensor], axis: int = 1) -> Tensor:
    """Images NC(Z)YX with the channels of all parts in their order, or joined along another axis."""
    return torch.cat(list(parts), dim=axis)


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or float64 where they have it: sums over a patch overflow half precision."""
    return values if values.dtype == torch.float64 else values.float()


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Map logits NC(Z)YX to values on the scale of the target.

    `softmax` normalises over channels. `expected_class` gives one channel, the mean class number under the softmax. `embedding` is
    for the channels of the representation ``E``: one offset per axis (tanh), bandwidths, seediness (sigmoid).

    Raises:
        OptionError: for an unknown activation.
    """
    match activation:
        case "linear":
            return logits
        case "sigmoid":
            return logits.sigmoid()
        case "tanh":
            return logits.tanh()
        case "softmax":
            return logits.softmax(dim=1)
        case "expected_class":
            numbers = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
            return torch.einsum("nc...,c->n...", logits.softmax(dim=1), numbers).unsqueeze(1)
        case "embedding":
            return _embedding(logits)
    raise OptionError(
        "loss.unknown_activation",
        "must be linear, sigmoid, tanh, softmax, expected_class or embedding",
        key="activation",
        value=activation,
    )


def _embedding(logits: Tensor) -> Tensor:
    """Offsets (one per axis) through tanh, bandwidths affine, seediness through the sigmoid.

    A fresh network outputs values of about 1. Divided by 512 (2 voxels, where the unit is 1023 voxels) they are offsets that are
    learned at the same pace as the other channels. Bandwidths must not change faster: while offsets are not learned yet, the loss
    falls with bandwidths so wide that they cover several objects, and from there offsets are never learned.
    """
    axes = logits.ndim - 2
    bandwidths = 1 + logits[:, axes:-1] / BANDWIDTH_STEPS
    return torch.cat([(logits[:, :axes] / 512).tanh(), bandwidths, logits[:, -1:].sigmoid()], dim=1)


def prepare(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_value: float | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, target and weight in float32 or float64; ignored voxels get weight 0 and target 0.

    Raises:
        DataError: when target or weight do not fit the logits.
    """
    if target.shape != logits.shape:
        raise DataError(
            "loss.target_shape", f"the target must have the shape of the prediction, {tuple(logits.shape)}", value=tuple(target.shape)
        )
    logits = at_least_float32(logits)
    target = target.to(logits.dtype)
    if weight is not None:
        weight = broadcastable_weight(weight, logits)
    if ignore_value is not None:
        # NaN is unequal to itself
        counted = ~torch.isnan(target) if ignore_value != ignore_value else target != ignore_value
        weight = counted.to(logits.dtype) if weight is None else weight * counted
    if weight is not None:
        target = target.masked_fill(weight == 0, 0)  # 0 * NaN would be NaN
    return logits, target, weight


def broadcastable_weight(weight: Tensor, logits: Tensor) -> Tensor:
    """The weight in the logits' dtype, checked to broadcast to their shape.

    Raises:
        DataError: when it does not.
    """
    weight = weight.to(logits.dtype)
    try:
        weight.expand_as(logits)
    except RuntimeError:
        raise DataError(
            "loss.weight_shape",
            f"each axis of the weight must have length 1 or that of the prediction, {tuple(logits.shape)}",
            value=tuple(weight.shape),
        ) from None
    return weight


def channel_sums(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of values x weight over samples and voxels: NC(Z)YX to C."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    return (values if weight is None else values * weight).sum(dim=axes)


def weight_sums(logits: Tensor, weight: Tensor | None) -> Tensor:
    """Sum of the weights per channel, shape C; without weights the number of voxels."""
    if weight is None:
        return logits.new_full((logits.shape[1],), logits.numel() // logits.shape[1])
    return channel_sums(weight.expand_as(logits))


def mean_sums(loss: Tensor, weight: Tensor | None, channel_weights: Sequence[float] | None = None, *, over_channels: bool = True) -> Sums:
    """The weighted mean of a loss per voxel NC(Z)YX as sums: parts (2, C) are Σ weight x loss and Σ weight.

    The value is the mean per channel, averaged over the channels by `channel_weights`. A channel whose weights are all 0 is left out of
    the average; where all weights are 0 the loss is 0. Without `over_channels` it is the mean over the voxels of all channels together,
    so that a channel with few counted voxels counts little.
    """
    parts = torch.stack([channel_sums(loss, weight), weight_sums(loss, weight)])
    mean = channel_mean if over_channels else voxel_mean
    return Sums(parts, partial(mean, channel_weights=checked_weights(channel_weights, loss.shape[1])))


def channel_mean(parts: Tensor, channel_weights: tuple[float, ...] | None) -> Tensor:
    """Weighted mean over channels of parts[0] / parts[1]."""
    total, counted = parts
    present = (counted > 0).to(parts.dtype)
    share = present if channel_weights is None else present * parts.new_tensor(channel_weights)
    # torch.where on the denominator, not on the ratio: the gradient of 0 / 0 would be NaN in either branch
    means = total / torch.where(counted > 0, counted, torch.ones_like(counted))
    norm = share.sum()
    return (means * share).sum() / torch.where(norm > 0, norm, torch.ones_like(norm))


def voxel_mean(parts: Tensor, channel_weights: tuple[float, ...] | None) -> Tensor:
    """Weighted mean over the voxels of all channels: the sum of parts[0] / the sum of parts[1]."""
    total, counted = (parts if channel_weights is None else parts * parts.new_tensor(channel_weights)).sum(dim=1)
    return total / torch.where(counted > 0, counted, torch.ones_like(counted))


def checked_weights(channel_weights: Sequence[float] | None, channels: int) -> tuple[float, ...] | None:
    """The channel weights as a tuple.

    Raises:
        OptionError: unless there is one per channel, none is negative and their sum is above 0.
    """
    if channel_weights is None:
        return None
    weights = tuple(float(weight) for weight in channel_weights)
    if len(weights) != channels or min(weights) < 0 or sum(weights) == 0:
        raise OptionError(
            "loss.channel_weights",
            f"must be one number per channel ({channels}), none negative and not all zero",
            key="channel_weights",
            value=weights,
        )
    return weights
