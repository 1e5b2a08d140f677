"""Losses as sums that add over patches, accumulation steps and processes, and a value that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from morula.core.errors import DataError, OptionError

Activation: TypeAlias = Literal["linear", "sigmoid", "tanh", "softmax", "expected_class", "embedding"]

BANDWIDTH_STEPS = 24
"""Logits that make a difference of 1 to the bandwidths of embeddings, which are 1 where the logits are 0."""


@dataclass(frozen=True)
class Sums:
    """A loss before its last step.

    The law: adding the `parts` of pieces of a batch and calling `value` gives the loss of the whole, for ratios (Dice, masked
    means) too. `value` depends on nothing but the parts and is differentiable in them.

    Attributes:
        parts: sums over voxels or samples, of a shape that does not depend on the number of either.
        value: from parts to the loss, a scalar.

    Examples:
        >>> def mean(parts): return parts[0] / parts[1]
        >>> float((Sums(torch.tensor([2.0, 1.0]), mean) + Sums(torch.tensor([1.0, 5.0]), mean)).total)
        0.5
    """

    parts: Tensor
    value: Callable[[Tensor], Tensor]

    @property
    def total(self) -> Tensor:
        """The loss of these parts alone."""
        return self.value(self.parts)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.parts + other.parts, self.value)


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 at least: sums over a patch do not fit half precision."""
    return values if values.dtype == torch.float64 else values.float()


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Logits, NC(Z)YX, as values of the kind that the target has; `expected_class` is one channel, the mean class number under softmax."""
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
    raise OptionError(f"activation {activation!r} is not known; use linear, sigmoid, tanh, softmax, expected_class or embedding.")


def _embedding(logits: Tensor) -> Tensor:
    """Offsets (one an axis) through tanh, bandwidths as they are, seediness through the sigmoid.

    A network's first outputs are about 1. Divided by 512 (2 voxels, where the unit is 1023 voxels) they are offsets that are
    learned at the same pace as the other channels. Bandwidths must not be quicker than these: where offsets are not learned yet the loss
    falls with at_least_float32 ones that hold several objects, and from there offsets are not learned any more.
    """
    axes = logits.ndim - 2
    bandwidths = 1 + logits[:, axes:-1] / BANDWIDTH_STEPS
    return torch.cat([(logits[:, :axes] / 512).tanh(), bandwidths, logits[:, -1:].sigmoid()], dim=1)


def prepare(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_value: float | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, target and weight in the width to compute in; what is ignored has weight 0 and a harmless target.

    Raises:
        DataError: when target or weight do not fit the logits.
    """
    if target.shape != logits.shape:
        raise DataError(
            f"the target has shape {tuple(target.shape)} but the prediction {tuple(logits.shape)}; a loss compares equal shapes."
        )
    logits = at_least_float32(logits)
    target = target.to(logits.dtype)
    if weight is not None:
        weight = broadcastable_weight(weight, logits)
    if ignore_value is not None:
        counted = ~torch.isnan(target) if ignore_value != ignore_value else target != ignore_value
        weight = counted.to(logits.dtype) if weight is None else weight * counted
    if weight is not None:
        target = target.masked_fill(weight == 0, 0)
    return logits, target, weight


def broadcastable_weight(weight: Tensor, logits: Tensor) -> Tensor:
    """The weight in the logits' type, checked to broadcast to their shape.

    Raises:
        DataError: when it does not.
    """
    weight = weight.to(logits.dtype)
    try:
        weight.expand_as(logits)
    except RuntimeError:
        raise DataError(
            f"the weight has shape {tuple(weight.shape)} but the prediction {tuple(logits.shape)}; "
            "each of its axes is as long as the prediction's or 1."
        ) from None
    return weight


def channel_sums(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of values x weight over samples and voxels: NC(Z)YX to C."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    return (values if weight is None else values * weight).sum(dim=axes)


def weight_sums(logits: Tensor, weight: Tensor | None) -> Tensor:
    """Sum of the weights in each channel; the number of voxels where there are none: C."""
    if weight is None:
        return logits.new_full((logits.shape[1],), logits.numel() // logits.shape[1])
    return channel_sums(weight.expand_as(logits))


def mean_sums(loss: Tensor, weight: Tensor | None, channel_weights: Sequence[float] | None = None) -> Sums:
    """Loss of each voxel, NC(Z)YX, as the sums of its weighted mean: parts (2, C) are Σ weight x loss and Σ weight.

    The value is the mean of each channel, averaged over the channels by `channel_weights`; a channel of which nothing is counted
    is left out of the average, and where nothing is counted at all the loss is 0.
    """
    parts = torch.stack([channel_sums(loss, weight), weight_sums(loss, weight)])
    return Sums(parts, partial(channel_mean, channel_weights=checked_weights(channel_weights, loss.shape[1])))


def channel_mean(parts: Tensor, channel_weights: tuple[float, ...] | None) -> Tensor:
    """Weighted mean over channels of parts[0] / parts[1]."""
    total, counted = parts
    present = (counted > 0).to(parts.dtype)
    share = present if channel_weights is None else present * parts.new_tensor(channel_weights)
    means = total / torch.where(counted > 0, counted, torch.ones_like(counted))
    norm = share.sum()
    return (means * share).sum() / torch.where(norm > 0, norm, torch.ones_like(norm))


def checked_weights(channel_weights: Sequence[float] | None, channels: int) -> tuple[float, ...] | None:
    """The weights as a tuple.

    Raises:
        OptionError: for another number than there are channels, a negative one, or none above zero.
    """
    if channel_weights is None:
        return None
    weights = tuple(float(weight) for weight in channel_weights)
    if len(weights) != channels or min(weights) < 0 or sum(weights) == 0:
        raise OptionError(
            f"channel weights {list(weights)} do not fit {channels} channel(s); give one number a channel, none negative and not all zero."
        )
    return weights
