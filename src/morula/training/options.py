"""Options under `training:` of a job file. Importable without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from morula.core.errors import OptionError
from morula.core.options import Options
from morula.training.monitors import AnyMonitor


def interval(every: str | int) -> tuple[int, str]:
    """Count and unit of an interval: ``"500 steps"``, ``"2 epochs"``, ``"epoch"``, or a plain number of epochs.

    Raises:
        OptionError: for anything else.

    Examples:
        >>> interval("500 steps"), interval("1 epoch"), interval(3)
        ((500, 'steps'), (1, 'epochs'), (3, 'epochs'))
    """
    match = re.fullmatch(r"\s*(\d*)\s*(epoch|step)?s?\s*", str(every))
    count = int(match.group(1) or 1) if match and match.group(0).strip() else 0
    if match is None or count < 1:
        raise OptionError("interval.form", "must be for example '500 steps', '2 epochs' or a number of epochs from 1", value=every)
    return count, f"{match.group(2) or 'epoch'}s"


def _normalised(every: str | int) -> str:
    count, unit = interval(every)
    return f"{count} {unit}"


def _default_kind(kind: str) -> BeforeValidator:
    """Accept a variant as its bare name, or as its options without a kind, which then have the default kind."""

    def expanded(value: object) -> object:
        if isinstance(value, Mapping) and "kind" not in value:
            return {"kind": kind, **value}
        return {"kind": value} if isinstance(value, str) else value

    return BeforeValidator(expanded)


Every = Annotated[str, BeforeValidator(_normalised, json_schema_input_type=str | int)]


Argument = bool | int | float | str | tuple[int | float, ...] | None
"""Value of an argument of a class of torch."""


class _Rule(Options):
    decay_all: bool = False
    """Apply weight decay to biases and normalisations too, as torch does by default."""


class AdamW(_Rule):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decay of the weights per step, as a multiple of the learning rate; except for biases and normalisations."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""


class Adam(_Rule):
    """Adam (Kingma and Ba 2015)."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; except for biases and normalisations."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""


class SGD(_Rule):
    """Stochastic gradient descent with momentum."""

    earlier_names: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(1e-2, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; except for biases and normalisations."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last update that is added to the next one."""
    nesterov: bool = False
    """Nesterov momentum (needs a momentum above 0)."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise OptionError(
                "optimiser.nesterov", "needs a momentum above 0", key="nesterov", value=True, remedy="Set momentum: 0.9, or leave it out."
            )
        return self


class TorchOptimiser(_Rule):
    """Any optimiser of torch.optim by the name of its class."""

    kind: Literal["torch"] = "torch"
    name: str
    """Name of the class, for example `RMSprop`."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate; the highest one of the schedule."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty added to the gradient; except for biases and normalisations."""
    options: dict[str, Argument] = Field({})
    """Further arguments of the class, for example `{momentum: 0.9}`."""


class OneCycle(Options):
    """Rise to the full rate, then fall to almost zero, over all epochs (Smith and Topin 2018). For a fixed number of epochs."""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(0.3, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""


class Cosine(Options):
    """Linear warm-up, then half a cosine down, over all epochs (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of all steps in which the learning rate rises."""
    floor: float = Field(0.0, ge=0, lt=1)
    """Learning rate at the end, as a share of the full one."""


class Plateau(Options):
    """Lower the learning rate whenever the figure of `training.monitor`, left out the validation loss (without validation: the training
    loss), stops improving."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)
    """Factor by which the learning rate is multiplied."""
    patience: int = Field(10, ge=0)
    """Validations without an improvement after which the learning rate is reduced."""
    threshold: float = Field(1e-4, ge=0)
    """Relative change of the figure that counts as an improvement."""
    floor: float = Field(0.0, ge=0)
    """Lowest learning rate."""


class Constant(Options):
    """A constant learning rate."""

    kind: Literal["constant"] = "constant"
    warmup: int = Field(0, ge=0)
    """Steps at the start in which the learning rate rises."""


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


Optimiser = Annotated[AdamW | Adam | SGD | TorchOptimiser, Field(discriminator="kind"), _default_kind("adamw")]
Schedule = Annotated[OneCycle | Cosine | Plateau | Constant | TorchSchedule, Field(discriminator="kind"), _default_kind("one_cycle")]
Monitored = Annotated[AnyMonitor, Field(discriminator="kind"), _default_kind("loss")]


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
    """Batches per epoch, of all processes together; one pass through all patches when left out."""
    steps: int | None = Field(None, ge=1)
    """Largest number of steps; determined by the epochs when left out."""
    optimiser: Optimiser = AdamW()
    """Rule that turns gradients into new weights: adamw, adam, sgd, or torch for any class of torch.optim."""
    schedule: Schedule = OneCycle()
    """Course of the learning rate: one_cycle, cosine, plateau, constant, or torch for any class of torch.optim.lr_scheduler."""
    monitor: Monitored | None = None
    """Figure of the validation that decides which weights are best and that schedules for a plateau follow: the `loss`; the `score` of
    methods without labels; patch by patch `iou` or `dice` of channels that are probabilities, or of classes, `objects` of a channel above
    thresholds, and `mse` or `psnr` of any channels. Left out: the weights with the best score, else with the lowest loss, are best, and
    schedules follow the loss."""
    patience: int | None = Field(None, ge=1)
    """Stop after this number of consecutive validations without an improvement; never when left out."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """Arithmetic: auto takes bf16, else fp16, on a CUDA GPU, bf16 on a CPU with AMX, else fp32. Losses are in fp32 (fp64)."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest L2 norm of the gradient over all weights; larger gradients are scaled down."""
    accumulate: int = Field(1, ge=1)
    """Batches per step, for batches that do not fit into memory. Exact, at the cost of one more forward pass per batch."""
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field({})
    """Factors of the learning rate for parts of the network, by patterns of weight names: `{"encoder.*": 0.1}`; the first match is used."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of weights that are not trained, for example `encoder.*`; frozen normalisations keep their statistics."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, for example 0.999, which is validated and stored. Off when left out."""
    seed: int = Field(0, ge=0)
    """Seed of all random numbers: same seed, same weights (on a CPU, bit for bit)."""
    restarts: int = Field(1, ge=1)
    """Number of trainings, each with the next seed; the one with the best score (without labels: the lowest loss) is kept. For losses whose
    result depends strongly on the seed, such as those without labels."""
    workers: int = Field(0, ge=0)
    """Worker processes that prepare patches."""
    validate_every: Every = "1 epoch"
    """Interval between validations, in epochs or steps."""
    validation_batches: int | None = Field(None, ge=1)
    """Batches per validation, the first ones; all when left out."""
    checkpoint_every: Every = "1 epoch"
    """Interval between checkpoints to resume from, in epochs or steps; one is always written at the end."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device; auto uses the fastest one present."""
    devices: int | tuple[int, ...] | Literal["auto"] = 1
    """Number (or indices) of devices of this machine; each computes whole batches, so the effective batch grows with them."""
    nodes: int = Field(1, ge=1)
    """Number of machines of a cluster job."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several devices work together; auto uses ddp with several devices."""
