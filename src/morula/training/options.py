"""What a job file may say under `training:`. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from morula.core.options import Options


def interval(every: str | int) -> tuple[int, str]:
    """Count and unit of an interval: ``"500 steps"``, ``"2 epochs"``, ``"epoch"``, or a plain number of epochs.

    Raises:
        ValueError: for anything else.

    Examples:
        >>> interval("500 steps"), interval("1 epoch"), interval(3)
        ((500, 'steps'), (1, 'epochs'), (3, 'epochs'))
    """
    match = re.fullmatch(r"\s*(\d*)\s*(epoch|step)?s?\s*", str(every))
    count = int(match.group(1) or 1) if match and match.group(0).strip() else 0
    if match is None or count < 1:
        raise ValueError(f"{every!r} is not an interval; write for example '500 steps', '2 epochs' or a number of epochs from 1")
    return count, f"{match.group(2) or 'epoch'}s"


def _spelled(every: str | int) -> str:
    count, unit = interval(every)
    return f"{count} {unit}"


def _usually(kind: str) -> BeforeValidator:
    """A variant by its bare name, or by its options alone: then the usual kind is meant."""

    def spelt(value: Any) -> Any:
        if isinstance(value, Mapping) and "kind" not in value:
            return {"kind": kind, **value}
        return {"kind": value} if isinstance(value, str) else value

    return BeforeValidator(spelt)


Every = Annotated[str, BeforeValidator(_spelled, json_schema_input_type=str | int)]


Argument = bool | int | float | str | list[int | float] | None
"""Value of an argument of a class of torch."""


class _Rule(Options):
    decay_all: bool = False
    """Decay biases and norms too, as torch does by default."""


class AdamW(_Rule):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(1e-2, ge=0)
    """Pull of the weights to zero, in units of the rate; biases and norms are spared."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of the mean and of the mean square of the gradient."""


class Adam(_Rule):
    """Adam (Kingma and Ba 2015)."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; biases and norms are spared."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of the mean and of the mean square of the gradient."""


class SGD(_Rule):
    """Stochastic gradient descent with momentum."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(1e-2, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; biases and norms are spared."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Look ahead along the momentum (needs momentum above 0)."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov looks ahead along the momentum, but momentum is 0; raise momentum (0.9) or leave nesterov out")
        return self


class TorchOptimiser(_Rule):
    """Any optimiser of torch.optim by the name of its class."""

    kind: Literal["torch"] = "torch"
    name: str
    """Name of the class, for example `RMSprop`."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; biases and norms are spared."""
    options: dict[str, Argument] = Field({})
    """Further arguments of the class, for example `{momentum: 0.9}`."""


class OneCycle(Options):
    """Up to the full rate, then down to almost nothing, over all epochs (Smith and Topin 2018). Fits a fixed number of epochs."""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(0.3, ge=0, lt=1)
    """Share of all steps in which the rate rises."""


class Cosine(Options):
    """Linear warm-up, then half a cosine down, over all epochs (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the rate rises."""
    floor: float = Field(0.0, ge=0, lt=1)
    """Share of the rate that remains at the end."""


class Plateau(Options):
    """Lower the rate whenever the validation loss (the training loss where nothing is validated) stops falling."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)
    """The rate is multiplied by this."""
    patience: int = Field(10, ge=0)
    """Validations without a lower loss before that happens."""
    threshold: float = Field(1e-4, ge=0)
    """Relative fall that counts as lower."""
    floor: float = Field(0.0, ge=0)
    """Lowest rate."""


class Constant(Options):
    """The same rate throughout."""

    kind: Literal["constant"] = "constant"
    warmup: int = Field(0, ge=0)
    """Steps in which the rate rises at the start."""


class TorchSchedule(Options):
    """Any learning-rate schedule of torch.optim.lr_scheduler by the name of its class."""

    kind: Literal["torch"] = "torch"
    name: str
    """Name of the class, for example `StepLR`."""
    options: dict[str, Argument] = Field({})
    """Arguments of the class, for example `{step_size: 10, gamma: 0.5}`."""
    unit: Literal["steps", "epochs", "validations"] = "epochs"
    """What the schedule counts. `ReduceLROnPlateau` needs `validations`."""
    stop_below: float = Field(0.0, ge=0)
    """Learning rate below which the training ends."""


Optimiser = Annotated[AdamW | Adam | SGD | TorchOptimiser, Field(discriminator="kind"), _usually("adamw")]
Schedule = Annotated[OneCycle | Cosine | Plateau | Constant | TorchSchedule, Field(discriminator="kind"), _usually("one_cycle")]


class Training(Options):
    """How a network is trained.

    Examples:
        >>> options = Training(epochs=100, optimiser={"kind": "sgd", "lr": 0.01}, schedule="cosine", validate_every="500 steps")
        >>> options.optimiser.momentum, options.schedule.warmup, options.validate_every
        (0.9, 0.05, '500 steps')
    """

    earlier_names: ClassVar[Mapping[str, str]] = {"clip": "clip_norm", "average": "ema_decay", "starts": "restarts"}

    epochs: int = Field(100, ge=1)
    """Passes through the training patches."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """Batches an epoch, shared by all processes; one pass through all patches when left out."""
    steps: int | None = Field(None, ge=1)
    """Most steps in all; the epochs alone decide when left out."""
    optimiser: Optimiser = AdamW()
    """Rule that turns gradients into new weights: adamw, adam, sgd, or torch for any class of torch.optim."""
    schedule: Schedule = OneCycle()
    """Course of the learning rate: one_cycle, cosine, plateau, constant, or torch for any class of torch.optim.lr_scheduler."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many validations in a row without a better one; never when left out."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """Arithmetic: auto takes bf16, else fp16, on a CUDA GPU, bf16 on a CPU with AMX, else fp32. Losses are in fp32 (fp64)."""
    clip_norm: float | None = Field(None, gt=0)
    """Longest gradient (L2 norm over all weights); longer ones are shortened."""
    accumulate: int = Field(1, ge=1)
    """Batches joined to one step, for batches larger than the memory. Exact, at the price of one more forward pass a batch."""
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field({})
    """Factors of the rate for parts of the network, by patterns of weights' names: `{"encoder.*": 0.1}`; the first that fits counts."""
    freeze: tuple[str, ...] = ()
    """Patterns of the names of weights that stay as they are, for example `encoder.*`; norms among them keep their statistics."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights, for example 0.999, which is validated and kept in their place. Off when left out."""
    seed: int = Field(0, ge=0)
    """Of everything random: same seed, same weights (on a CPU, bit for bit)."""
    restarts: int = Field(1, ge=1)
    """Trainings in all, each with the next seed; the one that ends with the best score (without labels: the lowest loss) is kept. For
    losses that chance leads to unlike ends, as those without labels do."""
    workers: int = Field(0, ge=0)
    """Processes that prepare patches beside the training."""
    validate_every: Every = "1 epoch"
    """Interval between validations, in epochs or steps."""
    checkpoint_every: Every = "1 epoch"
    """Interval between saved states to resume from, in epochs or steps; one is saved at the end in any case."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of processor; auto takes the fastest one present."""
    devices: int | tuple[int, ...] | Literal["auto"] = 1
    """How many (or which) processors of this machine; each takes whole batches, so the effective batch grows with them."""
    nodes: int = Field(1, ge=1)
    """Machines of a cluster job."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several devices work together; auto takes ddp when there are several."""
