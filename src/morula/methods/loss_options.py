"""Checks of the names, arguments and class weights of losses that a job states; needs no torch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.losses import LOSSES

ClassWeights = Literal["balanced"] | tuple[Annotated[float, Field(gt=0)], ...]
"""Weight of each class in the loss, or `balanced`: rare classes count as much as common ones, batch by batch."""

LossArguments = dict[str, bool | float | tuple[float, ...]]
"""Arguments of a loss by name, for example ``{"squared": True, "smooth": 0}``."""

OF_CLASSES = ("ce", "weighted_ce")
"""Losses of classes that exclude each other, whose targets are class numbers."""

OF_PROBABILITIES = ("bce", "bce_dice", "dice", "generalized_dice")
"""Losses of values between 0 and 1 that come from a sigmoid."""


def check_losses(names: Iterable[str], *, without: Container[str] = (), more: Sequence[str] = ()) -> None:
    """Reject a loss that does not exist, or that this method cannot use; `more` are losses that only this method has.

    Raises:
        OptionError: with the losses to choose from.

    Examples:
        >>> check_losses(["bec"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        morula.core.errors.OptionError: losses = 'bec': is not a loss; there are bce, dice, ... Did you mean 'bce'?
    """
    known = [*(name for name in LOSSES.names if name not in without), *more]
    for name in names:
        if name not in known:
            raise unknown_loss(name, known)


def check_loss_options(options: Mapping[str, LossArguments]) -> None:
    """Reject options of losses that do not exist.

    Raises:
        OptionError: with the losses to choose from.

    Examples:
        >>> check_loss_options({"dice": {"squared": True, "smooth": 0}})
    """
    for name in options:
        if name not in LOSSES.names:
            rule = f"is not a loss; there are {', '.join(LOSSES.names)}"
            remedy = did_you_mean(name, list(LOSSES.names)).strip()
            raise OptionError("loss.unknown", rule, key="loss_options", value=name, remedy=remedy)


def unknown_loss(name: str, known: Sequence[str]) -> OptionError:
    """The error for a loss that is not among the known ones."""
    # the search for similar names would suggest mse
    hint = "l1 is the mean absolute error." if name.lower() == "mae" else did_you_mean(name, list(known)).strip()
    return OptionError("loss.unknown", f"is not a loss; there are {', '.join(known)}", key="losses", value=name, remedy=hint)


def check_class_weights(weights: ClassWeights | None, number: int) -> None:
    """Reject weights of another number of classes.

    Raises:
        OptionError: with both numbers.
    """
    # "balanced" is computed from each batch, so it fits any number of classes
    if weights not in (None, "balanced") and len(weights) != number:
        raise OptionError(
            "class_weights.length",
            f"has {len(weights)} entries but there are {number} classes",
            key="class_weights",
            value=weights,
            remedy="Give one weight per class.",
        )
