"""The sections ``optimizer`` and ``lr_scheduler`` of pytorch-3dunet as options of the native training loop. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from morula.core.errors import OptionError
from morula.dialects.pytorch3dunet.keys import NotNegative, Pair, Positive, Section, Table, key
from morula.training.options import SGD, Adam, AdamW, Constant, Optimiser, Schedule, TorchOptimiser, TorchSchedule

LEAST_RATE = 1e-6
"""Learning rate below which `ReduceLROnPlateau` ends the training, as in the original."""


class OptimizerOptions(Section):
    """Keys of every optimiser: the arguments that the original reads from a job file, with its defaults."""

    native_form = "`training.optimiser`"
    dead: ClassVar = {
        "lr": "write learning_rate.",
        "eps": "the original never reads it from a job file.",
        "amsgrad": "the original never reads it from a job file.",
    }
    name: str = key("Adam", "Class of torch.optim.")
    learning_rate: Positive = key(0.001, "Learning rate.")
    weight_decay: NotNegative = key(0.0, "L2 penalty of the weights.")


class _Moments(OptimizerOptions):
    """Adam and its variants."""

    betas: Pair = key((0.9, 0.999), "Decay rates of the two moments.")


class _NAdam(_Moments):
    """Adam with Nesterov momentum."""

    momentum_decay: float = key(0.004, "Decay of the momentum.")


class _Adadelta(OptimizerOptions):
    """Adadelta."""

    rho: float = key(0.9, "Decay of the squared gradients.")


class _Adagrad(OptimizerOptions):
    """Adagrad."""

    lr_decay: float = key(0.0, "Decay of the learning rate.")


class _RMSprop(OptimizerOptions):
    """RMSprop."""

    alpha: float = key(0.99, "Decay of the squared gradients.")


class _Rprop(OptimizerOptions):
    """Resilient propagation."""

    etas: Pair = key((0.5, 1.2), "Factors that shorten and lengthen a step.")
    step_sizes: Pair = key((1e-06, 50.0), "Shortest and longest step.")


class _SGD(OptimizerOptions):
    """Stochastic gradient descent."""

    momentum: float = key(0.0, "Momentum.")
    dampening: float = key(0.0, "Dampening of the momentum.")
    nesterov: bool = key(False, "Whether the momentum is Nesterov's.")


OPTIMIZERS: Table[OptimizerOptions] = Table(
    Adam=_Moments,
    AdamW=_Moments,
    Adamax=_Moments,
    RAdam=_Moments,
    NAdam=_NAdam,
    Adadelta=_Adadelta,
    Adagrad=_Adagrad,
    RMSprop=_RMSprop,
    Rprop=_Rprop,
    SGD=_SGD,
)


def optimizer_options(config: Mapping[str, object]) -> type[OptimizerOptions]:
    """Options of the optimiser in the section ``optimizer``.

    Raises:
        OptionError: for one that does not exist; the original silently takes Adam then.
        OptionError: for one that cannot train.
    """
    from morula.training.optimisers import CANNOT_TRAIN

    name = str(config.get("name", "Adam"))
    if name in CANNOT_TRAIN:
        raise OptionError("optimiser.cannot_train", CANNOT_TRAIN[name], key="optimizer.name", value=name, remedy="Use Adam.")
    if name not in OPTIMIZERS:
        rule = f"must be one of {', '.join(OPTIMIZERS)} (the original would silently train with Adam)"
        raise OptionError("optimiser.unknown", rule, key="optimizer.name", value=name, remedy=OPTIMIZERS.nearest(name))
    return OPTIMIZERS[name]


def native_optimiser(config: Mapping[str, object]) -> Optimiser:
    """The native optimiser of the section ``optimizer``. Weight decay applies to all weights, biases and norms included.

    Raises:
        OptionError: for one that does not exist.
        OptionError: for a value that breaks a rule, or one that cannot train.

    Examples:
        >>> native_optimiser({"learning_rate": 2e-4, "weight_decay": 1e-5}).kind
        'adam'
    """
    return optimiser_of(optimizer_options(config).read(config, "optimizer"))


def optimiser_of(section: OptimizerOptions) -> Optimiser:
    """The native optimiser of a checked section, see `native_optimiser`."""
    rule: dict[str, Any] = {"lr": section.learning_rate, "weight_decay": section.weight_decay, "decay_all": True}
    given = section.model_dump(exclude={"name", "learning_rate", "weight_decay"})
    # the native classes of these three have options of their own; all others go through torch
    if section.name in ("Adam", "AdamW"):
        return (Adam if section.name == "Adam" else AdamW)(**rule, **given)
    if section.name == "SGD" and not given["dampening"]:
        return SGD(**rule, momentum=given["momentum"], nesterov=given["nesterov"])
    return TorchOptimiser(name=section.name, options=given, **rule)


def native_schedule(config: Mapping[str, object] | None) -> Schedule:
    """The native schedule of the section ``lr_scheduler``. It is stepped after each validation, as in the original.

    Raises:
        OptionError: for a name or argument that torch does not have.

    Examples:
        >>> native_schedule({"name": "StepLR", "step_size": 3}).unit
        'validations'
    """
    if not config:
        return Constant()
    wrong = schedule_problems(config)
    if wrong:
        key, rule = wrong[0]
        raise OptionError("schedule.arguments", rule, key=f"lr_scheduler.{key}", value=config.get(key))
    given = {key: value for key, value in config.items() if key not in ("name", "verbose")}
    least = LEAST_RATE if config["name"] == "ReduceLROnPlateau" else 0.0
    # options are immutable
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return TorchSchedule(name=config["name"], options=given, unit="validations", stop_below=least)


def schedule_problems(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """Keys of ``lr_scheduler`` and their problems."""
    from morula.training.optimisers import schedule_problems

    return schedule_problems(config.get("name"), {key for key in config if key not in ("name", "verbose")})
