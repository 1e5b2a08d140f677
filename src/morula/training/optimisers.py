"""Optimisers and learning-rate schedules from their options.

Schedules are closed-form factors of the learning rate per step (`LambdaLR`), so a resumed training continues with exactly the same
numbers, and any length and warm-up works. Their curves are those of torch's `OneCycleLR`, `LinearLR` and `CosineAnnealingLR`, which are not
used for them: see docs/decisions/0013-training-libraries.md. Any class of torch can be chosen by its name (kind ``torch``).
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from morula.core.errors import OptionError
from morula.core.family import did_you_mean
from morula.training.options import SGD, AdamW, Constant, Cosine, OneCycle, Optimiser, Schedule, TorchOptimiser, TorchSchedule

CANNOT_TRAIN = {
    "LBFGS": "evaluates the loss several times per step, which the training loop does not do",
    "SparseAdam": "needs sparse gradients, which these networks do not have",
}
"""Optimisers of torch that the training loop cannot use, each with the reason."""
_NOT_OF_PLAIN_VALUES = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")

Group: TypeAlias = dict[str, list[nn.Parameter] | float]
"""Weights that share a learning rate and a weight decay, as torch's optimisers take them."""


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude weights from training; frozen batch normalisations keep their running statistics.

    Args:
        network: the network, changed in place.
        patterns: patterns of weight names as in shells, for example ``encoder.*``.

    Returns:
        Names of the frozen weights.

    Raises:
        OptionError: for a pattern that matches no weight.

    Examples:
        >>> freeze(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), ["0.*"])
        ['0.weight', '0.bias']
    """
    named = dict(network.named_parameters())
    check_patterns("training.freeze", patterns, named)
    frozen = [name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for name in frozen:
        named[name].requires_grad_(False)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.weight is not None and not part.weight.requires_grad:
            part.momentum = 0.0  # running statistics are updated by a share of 0
    return frozen


def check_patterns(key: str, patterns: Iterable[str], named: Iterable[str]) -> None:
    """Check that every pattern matches a weight name.

    Raises:
        OptionError: naming the first that matches none, and the parts of the network.
    """
    named = list(named)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            parts = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in named))
            raise OptionError(
                "training.pattern_without_weights",
                "does not match the name of any weight of the network",
                key=key,
                value=pattern,
                remedy=f"Parts of the network are {parts}.",
            )


def build_optimiser(
    network: nn.Module, options: Optimiser, rates: Mapping[str, float] | None = None, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of all weights that are not frozen; biases and normalisations (at most one dimension) have no weight decay.

    Args:
        network: the network to train.
        options: kind of the optimiser and its settings.
        rates: factors of the learning rate by patterns of weight names; the first pattern that matches decides.
        fused: compute a step in one pass over the weights, on CPUs and CUDA: equal except for rounding, and several times as fast.

    Raises:
        OptionError: when every weight is frozen, or a pattern matches none.
    """
    named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not named:
        raise OptionError(
            "training.all_frozen", "every weight of the network is frozen", key="training.freeze", remedy="Freeze fewer parts."
        )
    factors = dict(rates or {})
    check_patterns("training.rates", factors, [name for name, _ in network.named_parameters()])
    parts: dict[float, list[nn.Parameter]] = {1.0: []}  # the plain rate first: the rate of the first group is reported
    for name, weight in named.items():
        factor = next((factor for pattern, factor in factors.items() if fnmatchcase(name, pattern)), 1.0)
        parts.setdefault(factor, []).append(weight)
    groups: list[Group] = []
    for factor, weights in parts.items():
        lr = options.lr * factor
        # weight decay of biases and normalisations would shift means without limiting complexity
        if options.decay_all:
            groups.append({"params": weights, "weight_decay": options.weight_decay, "lr": lr})
            continue
        groups.append({"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": options.weight_decay, "lr": lr})
        groups.append({"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0, "lr": lr})
    groups = [group for group in groups if group["params"]]
    if isinstance(options, SGD):
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov, fused=fused)
    if isinstance(options, TorchOptimiser):
        return _torch_optimiser(groups, options)
    kind = torch.optim.AdamW if isinstance(options, AdamW) else torch.optim.Adam
    return kind(groups, lr=options.lr, betas=options.betas, fused=fused)


def _torch_optimiser(groups: list[Group], options: TorchOptimiser) -> torch.optim.Optimizer:
    """An optimiser of torch by its name; some have no weight decay.

    Raises:
        OptionError: for a name or arguments that torch does not take.
    """
    known = optimiser_names()
    if options.name not in known:
        rule = CANNOT_TRAIN.get(options.name, f"must be one of {', '.join(known)}")
        remedy = did_you_mean(options.name, known).strip()
        raise OptionError("optimiser.unknown", rule, key="training.optimiser.name", value=options.name, remedy=remedy)
    build: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, options.name)
    if "weight_decay" not in inspect.signature(build).parameters:
        groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
    try:
        return build(groups, lr=options.lr, **options.options)
    except (TypeError, ValueError) as error:
        rule = f"{options.name} does not take these arguments ({error})"
        raise OptionError("optimiser.arguments", rule, key="training.optimiser.options", value=options.options) from error


def optimiser_names() -> list[str]:
    """Names of the optimisers of torch that can train here."""
    kinds = {name: kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)}
    return sorted(set(kinds) - {"Optimizer", *CANNOT_TRAIN})


def schedule_names() -> list[str]:
    """Names of the learning-rate schedules of torch that are built from plain values."""
    kinds = {name: kind for name, kind in vars(lr_scheduler).items() if inspect.isclass(kind) and issubclass(kind, LRScheduler)}
    return sorted(name for name in kinds if not name.startswith("_") and name not in _NOT_OF_PLAIN_VALUES)


def schedule_problems(name: object, given: Collection[str]) -> list[tuple[str, str]]:
    """Problems of the name and the arguments of a schedule of torch: pairs of the key and the rule.

    Examples:
        >>> schedule_problems("StepLR", ["step_sise"])[1]
        ('step_size', 'is missing; StepLR needs it')
    """
    known = schedule_names()
    if name not in known:
        rule = "is missing" if name is None else f"{name!r} is not a schedule of the installed torch"
        return [("name", f"{rule}; must be one of {', '.join(known)}.{did_you_mean(str(name), known) if name else ''}")]
    parameters = inspect.signature(getattr(lr_scheduler, str(name))).parameters
    arguments = {key: parameter for key, parameter in parameters.items() if key not in ("self", "optimizer")}
    listed = ", ".join(arguments)
    problems = [
        (key, f"is not an argument of {name}; there are {listed}.{did_you_mean(key, list(arguments))}")
        for key in given
        if key not in arguments
    ]
    needed = [key for key, parameter in arguments.items() if parameter.default is inspect.Parameter.empty and key not in given]
    return problems + [(key, f"is missing; {name} needs it") for key in needed]


def _torch_schedule(optimiser: torch.optim.Optimizer, options: TorchSchedule, mode: Literal["min", "max"]) -> LRSchedule:
    """A schedule of torch by its name.

    Raises:
        OptionError: for a name or arguments that torch does not take.
    """
    for key, rule in schedule_problems(options.name, options.options):
        if key == "name":
            raise OptionError("schedule.unknown", rule, key="training.schedule.name", value=options.name)
        raise OptionError("schedule.arguments", rule, key=f"training.schedule.options.{key}", value=options.options.get(key))
    if options.name == "ReduceLROnPlateau" and options.unit != "validations":
        remedy = "Write unit: validations."
        rule = "ReduceLROnPlateau follows the figure of each validation"
        raise OptionError("schedule.unit", rule, key="training.schedule.unit", value=options.unit, remedy=remedy)
    try:
        given = {"mode": mode} if options.name == "ReduceLROnPlateau" else {}
        scheduler = getattr(lr_scheduler, options.name)(optimiser, **{**given, **options.options})
    except (TypeError, ValueError) as error:
        rule = f"{options.name} does not take these arguments ({error})"
        raise OptionError("schedule.arguments", rule, key="training.schedule.options", value=options.options) from error
    above = optimiser.param_groups[0]["lr"] >= options.stop_below
    return LRSchedule(scheduler, options.unit, options.stop_below if above else 0.0)


@dataclass
class LRSchedule:
    """A running learning-rate schedule.

    Attributes:
        scheduler: any scheduler of torch.
        unit: what advances the scheduler.
        least: learning rate below which the training ends.
    """

    scheduler: LRScheduler | ReduceLROnPlateau
    unit: Literal["steps", "epochs", "validations"] = "steps"
    least: float = 0.0

    def after(self, unit: Literal["steps", "epochs", "validations"], figure: float | None = None) -> None:
        """Advance the schedule, if `unit` (a step, an epoch, a validation that measured `figure`) is its unit."""
        if unit != self.unit:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(math.inf if figure is None else figure)
            return
        with warnings.catch_warnings():
            # with fp16 the first steps of the optimiser are skipped until the gradient scale is found, which torch reports as a wrong order
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.scheduler.step()

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self.scheduler.optimizer.param_groups[0]["lr"])

    @property
    def exhausted(self) -> bool:
        """Whether the learning rate is so low that the training ends."""
        return self.lr < self.least


def _eased(start: float, stop: float, done: float) -> float:
    """Value at the share `done` of half a cosine from start to stop."""
    return stop + (start - stop) * 0.5 * (1 + math.cos(math.pi * done))


def _one_cycle(total: int, warmup: float) -> Callable[[int], float]:
    """Half a cosine up, half a cosine down. Start and end are those of the paper's reference implementation."""
    rising = total * warmup
    start, stop = 1 / 25, 1 / 250_000

    def factor(step: int) -> float:
        if step < rising:
            return _eased(start, 1.0, step / rising)
        return _eased(1.0, stop, min(1.0, (step - rising) / max(1.0, total - 1 - rising)))

    return factor


def _cosine(total: int, warmup: float, floor: float) -> Callable[[int], float]:
    """A line up, half a cosine down to `floor`."""
    rising = round(total * warmup)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return _eased(1.0, floor, min(1.0, (step - rising) / max(1, total - 1 - rising)))

    return factor


def _ramp(warmup: int) -> Callable[[int], float]:
    """A line up, then 1."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def build_schedule(optimiser: torch.optim.Optimizer, options: Schedule, *, total: int, mode: Literal["min", "max"] = "min") -> LRSchedule:
    """The schedule of a training of `total` steps of the optimiser; with the mode `max`, the figure that it follows improves by rising.

    Examples:
        >>> optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        >>> build_schedule(optimiser, Constant(warmup=1), total=10).lr
        0.25
    """
    if isinstance(options, OneCycle):
        return LRSchedule(LambdaLR(optimiser, _one_cycle(total, options.warmup)))
    if isinstance(options, Cosine):
        return LRSchedule(LambdaLR(optimiser, _cosine(total, options.warmup, options.floor)))
    if isinstance(options, Constant):
        return LRSchedule(LambdaLR(optimiser, _ramp(options.warmup)))
    if isinstance(options, TorchSchedule):
        return _torch_schedule(optimiser, options, mode)
    factor, patience, threshold = options.factor, options.patience, options.threshold
    plateau = ReduceLROnPlateau(optimiser, mode, factor=factor, patience=patience, threshold=threshold, min_lr=options.floor)
    return LRSchedule(plateau, "validations")
