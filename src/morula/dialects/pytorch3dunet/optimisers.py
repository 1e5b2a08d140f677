"""The optimisers and schedules of pytorch-3dunet by the names that its job files give them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.optim import lr_scheduler

from morula.core.errors import OptionError, UnknownNameError
from morula.core.family import did_you_mean
from morula.core.options import Options
from morula.dialects.pytorch3dunet.ignored_keys import read_section
from morula.training.optimisers import LRSchedule

LEAST_RATE = 1e-6
"""Rate below which `ReduceLROnPlateau` ends the training, as in the original."""


class OptimizerOptions(Options):
    """What may stand under ``optimizer`` whatever its name."""

    name: str = "Adam"
    """Class of torch.optim."""

    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate."""

    weight_decay: float = Field(0.0, ge=0)
    """Pull of the weights to zero."""


class BetasOptions(OptimizerOptions):
    """Options of the relatives of Adam."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of the mean and of the mean square of the gradient."""


class NAdamOptions(BetasOptions):
    """Options of ``NAdam``."""

    momentum_decay: float = 4e-3
    """Decay of the momentum."""


class AdadeltaOptions(OptimizerOptions):
    """Options of ``Adadelta``."""

    rho: float = 0.9
    """Memory of the mean square of the gradient."""


class AdagradOptions(OptimizerOptions):
    """Options of ``Adagrad``."""

    lr_decay: float = 0.0
    """Decay of the rate."""


class RMSpropOptions(OptimizerOptions):
    """Options of ``RMSprop``."""

    alpha: float = 0.99
    """Memory of the mean square of the gradient."""


class RpropOptions(OptimizerOptions):
    """Options of ``Rprop``."""

    etas: tuple[float, float] = (0.5, 1.2)
    """Factors of a step."""

    step_sizes: tuple[float, float] = (1e-6, 50.0)
    """Smallest and largest step."""


class SGDOptions(OptimizerOptions):
    """Options of ``SGD``."""

    momentum: float = 0.0
    """Share of the last update that is kept."""

    dampening: float = 0.0
    """Share of the gradient that the momentum leaves out."""

    nesterov: bool = False
    """Look ahead along the momentum."""


OPTIMIZERS: dict[str, type[OptimizerOptions]] = {
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "RAdam"), BetasOptions),
    "NAdam": NAdamOptions,
    "Adadelta": AdadeltaOptions,
    "Adagrad": AdagradOptions,
    "RMSprop": RMSpropOptions,
    "Rprop": RpropOptions,
    "SGD": SGDOptions,
}
_IMPOSSIBLE = {
    "LBFGS": "it evaluates the loss several times a step, which the original's training never lets it, so it fails there. Use Adam.",
    "SparseAdam": "it needs sparse gradients, which no U-Net has, so it fails there. Use Adam.",
}
DEAD = {
    "lr": "write learning_rate.",
    "eps": "the original never reads it from a job file.",
    "amsgrad": "the original never reads it from a job file.",
}


def optimizer_options(config: Mapping[str, Any]) -> type[OptimizerOptions]:
    """The options of the optimiser that stands under ``optimizer``.

    Raises:
        UnknownNameError: for one that does not exist; the original takes Adam then, without a word.
        OptionError: for one that cannot train.
    """
    name = str(config.get("name", "Adam"))
    if name in _IMPOSSIBLE:
        raise OptionError(f"{name!r} cannot train here: {_IMPOSSIBLE[name]}")
    if name not in OPTIMIZERS:
        raise UnknownNameError(
            f"{name!r} is not known, and the original would train with Adam without a word; it is one of {', '.join(OPTIMIZERS)}."
            f"{did_you_mean(name, list(OPTIMIZERS))}"
        )
    return OPTIMIZERS[name]


def build_optimizer(config: Mapping[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that stands under ``optimizer`` in a job file; all weights are decayed alike.

    Raises:
        UnknownNameError: for one that does not exist.
        OptionError: for a value that breaks a rule, or one that cannot train.

    Examples:
        >>> type(build_optimizer({"learning_rate": 2e-4, "weight_decay": 1e-5}, nn.Linear(1, 1))).__name__
        'Adam'
    """
    options = read_section(optimizer_options(config), config, "optimizer", DEAD)
    given = options.model_dump(exclude={"name", "learning_rate"})
    if options.name == "Rprop":
        given.pop("weight_decay")
    kind = getattr(torch.optim, options.name)
    optimizer: torch.optim.Optimizer = kind(network.parameters(), lr=options.learning_rate, **given)
    return optimizer


def schedule_problems(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of ``lr_scheduler`` and what is wrong with them."""
    name = config.get("name")
    known = schedules()
    if name not in known:
        said = "is missing" if name is None else f"{name!r} is no schedule of this torch"
        return [("name", f"{said}; it is one of {', '.join(known)}.{did_you_mean(str(name), known) if name else ''}")]
    parameters = inspect.signature(getattr(lr_scheduler, str(name))).parameters
    wanted = [key for key in parameters if key not in ("self", "optimizer")]
    found = [
        (key, f"is not known to {name}, so the original fails at it; known are {', '.join(wanted)}.{did_you_mean(key, wanted)}")
        for key in config
        if key not in (*wanted, "name", "verbose")
    ]
    needed = [key for key in wanted if parameters[key].default is inspect.Parameter.empty and key not in config]
    return found + [(key, f"is missing; {name} needs it.") for key in needed]


def schedules() -> list[str]:
    """Names of the schedules that can be built from plain values."""
    found = []
    for name in dir(lr_scheduler):
        kind = getattr(lr_scheduler, name)
        usable = inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and not name.startswith("_")
        if usable and name not in ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"):
            found.append(name)
    return found


def build_schedule(config: Mapping[str, Any] | None, optimizer: torch.optim.Optimizer) -> LRSchedule:
    """The schedule that stands under ``lr_scheduler``; it goes on after each validation, as in the original.

    Raises:
        OptionError: for a name or value that torch does not take.
    """
    if not config:
        return LRSchedule(lr_scheduler.LambdaLR(optimizer, lambda _: 1.0))
    problems = schedule_problems(config)
    if problems:
        raise OptionError("; ".join(f"lr_scheduler.{key} {said}" for key, said in problems))
    given = {key: value for key, value in config.items() if key not in ("name", "verbose")}
    kind = getattr(lr_scheduler, config["name"])
    try:
        scheduler = kind(optimizer, **given)
    except (TypeError, ValueError) as error:
        raise OptionError(f"lr_scheduler: {config['name']} does not take these values: {error}") from error
    plateau = kind is lr_scheduler.ReduceLROnPlateau and optimizer.param_groups[0]["lr"] >= LEAST_RATE
    return LRSchedule(scheduler, "validations", LEAST_RATE if plateau else 0.0)
