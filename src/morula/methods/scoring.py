"""Losses by the name that a job gives them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from morula.core.family import nearest
from morula.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Activation, Sums

OWN_ACTIVATION = ("bce", "bce_dice")
"""Losses that hold their activation themselves, for the sake of numerical stability."""


def check_losses(names: Iterable[str], *, without: Container[str] = ()) -> None:
    """Refuse a loss that does not exist, or that this method cannot use.

    Raises:
        ValueError: with the losses to choose from; the job tells it at its line.

    Examples:
        >>> check_losses(["bec"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: unknown loss 'bec'; known are bce, dice, ... Did you mean 'bce'?
    """
    known = [name for name in LOSSES.names if name not in without]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown loss {name!r}; known are {', '.join(known)}.{nearest(name, known)}")


def loss_sums(
    name: str, logits: Tensor, target: Tensor, weight: Tensor | None, *, activation: Activation = "linear", share: float = 1.0
) -> Sums:
    """Sums of a loss by its name, multiplied by `share`.

    Args:
        name: member of `morula.losses.LOSSES`.
        logits: NC(Z)YX.
        target: of the same shape; for `ce` one channel a class.
        weight: broadcastable to it; 0 leaves a voxel out.
        activation: what turns logits into values of the target's kind; the one used in prediction.
        share: factor of the loss.

    Raises:
        UnknownNameError: for a loss that does not exist.

    Examples:
        >>> import torch
        >>> float(loss_sums("l1", torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), None, activation="sigmoid", share=2.0).total)
        1.0
    """
    from morula.losses.sums import Sums, activate

    if name == "ce":  # takes class numbers; our targets are one channel a class
        sums = LOSSES.load(name)(logits, target.argmax(dim=1, keepdim=True), None if weight is None else weight[:, :1])
    elif name in ("dice", "generalized_dice"):
        sums = LOSSES.load(name)(logits, target, weight, activation=activation)
    elif name in OWN_ACTIVATION:
        sums = LOSSES.load(name)(logits, target, weight)
    else:
        sums = LOSSES.load(name)(activate(logits, activation), target, weight)
    return Sums(sums.parts, lambda parts: share * sums.value(parts))
