"""The state of a training between two steps: how it advances and how it is stored.

Everything that a step changes is in a checkpoint: weights, optimiser, schedule, gradient scaler, moving average, position and the
sums of the epoch so far. Random numbers are functions of (seed, step) and batches functions of (epoch, number), so they need no
storage. A resumed training therefore takes the same steps as an uninterrupted one, on a CPU bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn

from morula.core.errors import TrainingError
from morula.core.events import Artefact, FileWritten
from morula.training.checkpoint import State, find_checkpoint, load_state_of, load_weights_of, save_checkpoint
from morula.training.devices import open_fabric, pick_precision
from morula.training.ema import MovingAverage
from morula.training.optimisers import build_optimiser, build_schedule, freeze
from morula.training.options import Training, interval
from morula.training.step import Batch, Learner, Loss, Totals, seeded, sum_over_processes

Previewer: TypeAlias = Callable[[Batch, dict[str, Tensor]], Mapping[str, np.ndarray]]
"""Draws pictures, by name, of a batch and its outputs."""

Scores: TypeAlias = Callable[[Batch, dict[str, Tensor]], Mapping[str, float]]
"""Measures figures, by name, of a validation batch and its outputs."""

_PREVIEW_RANK = 2**32 - 1
"""Takes the place of the process number in the random seed of evaluations, which do not depend on the process."""

_FREE = {
    *("patience", "workers", "validate_every", "checkpoint_every", "device", "devices", "nodes", "strategy"),
    *("epochs", "steps", "steps_per_epoch"),
}
"""Options that may differ between a run and its continuation, because they do not change the steps that are taken."""


_OTHERWISE = "Restore these settings, or start a new run from its weights (network.from)."
_LONGER = (
    "The learning rates of the schedule were planned for that number. To train longer, go on with a constant rate "
    f"(--set training.schedule=constant). {_OTHERWISE}"
)


class Loaders(Protocol):
    """Where batches come from. A batch is a dict with ``image`` NC(Z)YX and whatever the loss needs; ``name`` lists its samples."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, all processes together."""

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterable[Batch]:
        """Batches of an epoch (from 0) for process `rank` of `world`, from batch number `start` on; a function of these numbers.

        At least ``max(1, steps_per_epoch // world) - start`` batches.
        """

    def validation(self, rank: int, world: int) -> Iterable[Batch]:
        """The validation batches of this process, always the same; empty without validation."""


@dataclass
class Position:
    """How far a training is.

    Attributes:
        epoch: completed epochs.
        batch: batches used in the current epoch, per process.
        step: completed steps of the optimiser.
        reported: step of the last report.
        best: lowest criterion of all validations.
        waited: validations since then.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    reported: int = 0
    best: float | None = None
    waited: int = 0


class TrainingState:
    """A network in training: everything that a step changes and that a checkpoint holds.

    Arguments as in `morula.training.loop.fit`.

    Raises:
        TrainingError: when an epoch has no batch.
        OptionError: for a device or precision that is not available, or patterns that match no weight.
    """

    def __init__(self, network: nn.Module, loss: Loss, loaders: Loaders, options: Training, *, folder: Path) -> None:
        self.network, self.loaders, self.options, self.folder = network, loaders, options, folder / "checkpoints"
        self.fabric = fabric = open_fabric(options)
        # all processes take the same number of steps, or one would wait for the others
        self.length = max(1, loaders.steps_per_epoch // fabric.world_size)
        if loaders.steps_per_epoch < 1:
            raise TrainingError(
                "training.no_batch",
                "there is no batch to train on: an epoch has 0 steps",
                remedy="Give more images, or a smaller batch or patch.",
            )
        self.total = options.epochs * math.ceil(self.length / options.accumulate)
        self.total = self.total if options.steps is None else min(self.total, options.steps)
        self.precision = pick_precision(options.precision, fabric.device.type)
        dtype = torch.float64 if self.precision == "fp64" else torch.float32
        memory_format = memory_format_of(network)
        network.to(device=fabric.device, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
        freeze(network, options.freeze)
        # a gradient scaler (fp16) unscales gradients before clipping, which fused optimisers would repeat inside their step
        scaled = isinstance(fabric.strategy.precision, MixedPrecision) and fabric.strategy.precision.scaler is not None
        fused = fabric.device.type in ("cpu", "cuda") and not scaled
        optimiser = build_optimiser(network, options.optimiser, options.rates, fused=fused)
        mode: Literal["min", "max"] = "max" if options.monitor is not None and options.monitor.monitor.higher_is_better else "min"
        self.schedule = build_schedule(optimiser, options.schedule, total=self.total, mode=mode)
        self.module, self.optimiser = fabric.setup(network, optimiser)
        self.average = MovingAverage(network, options.ema_decay) if options.ema_decay else None
        self.learner = Learner(fabric, network, self.module, loss, options.seed, dtype, memory_format)
        self.position, self.totals = Position(), Totals()
        self.unsaved, self.began = True, time.perf_counter()
        self._feed: Iterator[Batch] | None = None

    # position

    @property
    def epoch_ended(self) -> bool:
        """Whether all batches of the current epoch were used."""
        return self.position.batch >= self.length

    @property
    def validation_due(self) -> bool:
        """Whether to validate after this step; always after the last one."""
        count, unit = interval(self.options.validate_every)
        if self.steps_taken or (unit == "steps" and self.position.step % count == 0):
            return True
        ending = self.position.epoch + 1
        return self.epoch_ended and (ending == self.options.epochs or (unit == "epochs" and ending % count == 0))

    @property
    def report_due(self) -> bool:
        """Whether the figures of this step are to be reported and were not yet."""
        return self.position.step > self.position.reported and (self.epoch_ended or self.validation_due)

    @property
    def save_due(self) -> bool:
        """Whether to write a checkpoint after this step, which was not done yet; always after the last one."""
        here, (count, unit) = self.position, interval(self.options.checkpoint_every)
        if not self.unsaved or here.step == 0:
            return False
        return self.over or (here.step % count == 0 if unit == "steps" else here.batch == 0 and here.epoch % count == 0)

    @property
    def patience_lost(self) -> bool:
        """Whether the last `patience` validations brought no improvement."""
        return self.options.patience is not None and self.position.waited >= self.options.patience

    @property
    def steps_taken(self) -> bool:
        """Whether the limit of steps is reached."""
        return self.options.steps is not None and self.position.step >= self.options.steps

    @property
    def over(self) -> bool:
        """Whether the training has ended."""
        return self.position.epoch >= self.options.epochs or self.steps_taken or self.patience_lost or self.schedule.exhausted

    # progress

    def fetch(self) -> list[Batch]:
        """The batches of the next step.

        Raises:
            TrainingError: when the loader ends early.
        """
        here, fabric = self.position, self.fabric
        if self._feed is None:
            self._feed = iter(self.loaders.train(here.epoch, here.batch, fabric.global_rank, fabric.world_size))
        wanted = min(self.options.accumulate, self.length - here.batch)
        batches: list[Batch] = [fabric.to_device(batch) for batch in islice(self._feed, wanted)]
        if len(batches) < wanted:
            ended = here.batch + len(batches)
            raise TrainingError(
                "loader.too_short",
                f"the loader ended after {ended} batches of epoch {here.epoch + 1}, but an epoch has {self.length}",
                value=ended,
            )
        return batches

    def step(self, batches: list[Batch]) -> float:
        """Take one step of the optimiser and return the loss.

        Raises:
            TrainingError: when the loss is not finite.
        """
        here = self.position
        self.module.train()
        self.optimiser.zero_grad()
        parts, sums = self.learner.step(batches, here.step)
        if self.options.clip_norm is not None:
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=self.options.clip_norm, error_if_nonfinite=False)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.network)
        self.totals.add(parts, sums)
        self.unsaved = True
        here.step += 1
        here.batch += len(batches)
        self.schedule.after("steps")
        return math.fsum(float(sums[name].value(part)) for name, part in parts.items())

    def end_epoch(self) -> None:
        """Advance to the next epoch."""
        self.began = time.perf_counter()
        self.schedule.after("epochs")
        self.position.epoch += 1
        self.position.batch = 0
        self.totals = Totals()
        self._feed = None

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the context the network has the weights to validate and to keep: the moving average where there is one."""
        return nullcontext() if self.average is None else self.average.swapped_in(self.network)

    @torch.no_grad()
    def outputs(self, batch: Batch, index: int = 0) -> dict[str, Tensor]:
        """Outputs of the network in evaluation mode; its random numbers depend on the seed and `index` only."""
        self.module.eval()
        with seeded(self.fabric.device, self.options.seed, _PREVIEW_RANK, index), of_patches(self.network):
            return self.learner.outputs(batch)

    @torch.no_grad()
    def validate(
        self, leaving: Callable[[], bool], show: Callable[[Batch, dict[str, Tensor]], None], scores: Scores | None = None
    ) -> dict[str, float] | None:
        """Losses over all validation batches of all processes.

        Args:
            leaving: asked before each batch; `True` ends the validation without a result.
            show: called with the first batch and its outputs.
            scores: measured on every batch; their averages over all patches are returned with the losses.

        Returns:
            Figures by name; empty without validation batches, `None` when the validation was left before its end.

        Raises:
            TrainingError: when a loss is not finite.
        """
        totals, suspects = Totals(), []
        measured: dict[str, Tensor] = {}
        share = self.loaders.validation(self.fabric.global_rank, self.fabric.world_size)
        for index, batch in enumerate(_until(leaving, share)):
            batch = self.fabric.to_device(batch)
            outputs = self.outputs(batch, index)
            sums = self.learner.loss(outputs, batch)
            totals.add({name: s.parts for name, s in sums.items()}, sums)
            if not all(bool(s.parts.isfinite().all()) for s in sums.values()):
                suspects.append({"name": batch.get("name", [])})
            for name, value in (scores(batch, outputs) if scores is not None else {}).items():
                weight = len(batch["image"])
                parts = torch.tensor([value * weight, weight], dtype=torch.float32, device=self.fabric.device)
                measured[name] = measured[name] + parts if name in measured else parts
            if index == 0:
                show(batch, outputs)
        if self.agreed(leaving()):
            return None
        totals.parts = sum_over_processes(self.fabric, totals.parts)
        values = {name: value(totals.parts[name]) for name, value in totals.values.items()}
        self.learner.check_finite(values, f"in the validation after step {self.position.step}", suspects)
        means = {name: float(total / count) for name, (total, count) in sum_over_processes(self.fabric, measured).items()}
        return {**totals.figures(), **means}

    def showcase(self) -> tuple[Batch, dict[str, Tensor]]:
        """The first validation batch (without validation the first training batch) and its outputs."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        feed = chain(self.loaders.validation(rank, world), self.loaders.train(0, 0, rank, world))
        batch: Batch = self.fabric.to_device(next(iter(feed)))
        return batch, self.outputs(batch)

    def measure_score(self, score: Callable[[nn.Module], float]) -> float:
        """The score of the network, measured in the first process."""
        self.module.eval()
        own = float(score(self.network)) if self.fabric.is_global_zero else 0.0
        return self.fabric.broadcast(own)

    def record_validation(self, criterion: float) -> bool:
        """Record the criterion of a validation (lower is better); the best weights so far are stored. Returns whether it is the best."""
        # NaN compares as neither better nor worse
        criterion = math.inf if math.isnan(criterion) else criterion
        better = self.position.best is None or criterion < self.position.best
        self.position.waited = 0 if better else self.position.waited + 1
        if better:
            self.position.best = criterion
            if self.fabric.is_global_zero:
                save_checkpoint(self.folder / "best", self.network.state_dict())
        return better

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.fabric.world_size == 1:
            return flag
        return bool(sum_over_processes(self.fabric, {"flag": torch.tensor(float(flag), device=self.fabric.device)})["flag"] > 0)

    # storage

    def save(self) -> FileWritten:
        """Write everything that is needed to continue exactly.

        Raises:
            TrainingError: when a weight is not finite; the earlier checkpoint stays.
            FileWriteError: when the checkpoint cannot be written.
        """
        weights = self.network.state_dict()
        bad = [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        if bad:
            raise TrainingError(
                "training.weights_not_finite",
                f"weights became NaN or infinite by step {self.position.step} ({len(bad)} tensors) although the loss was finite",
                key=bad[0],
                remedy="Start again with a lower training.optimiser.lr or with training.clip_norm: 1.0. "
                "The checkpoints written before are valid.",
            )
        self.unsaved = False
        if self.fabric.is_global_zero:
            state = {
                "options": self.options.model_dump(mode="json"),
                "world": self.fabric.world_size,
                "length": self.length,
                "position": asdict(self.position),
                "totals": self.totals.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.scheduler.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
            }
            save_checkpoint(self.folder / "last", weights, state)
        self.fabric.barrier()
        return FileWritten(self.folder / "last", Artefact.CHECKPOINT)

    def resume(self) -> bool:
        """Continue from the last checkpoint; `False` when there is none.

        Raises:
            TrainingError: when the run was made with other settings, data or network.
            ModelError: when the checkpoint is damaged.
        """
        place = find_checkpoint(self.folder / "last")
        if place is not None:
            self.restore(load_state_of(place), load_weights_of(place))
        return place is not None

    def restore(self, state: State, weights: Mapping[str, Tensor] | None = None) -> None:
        """Continue from a state that `save` stored. Of a training by another program, ``position`` is enough, and ``optimiser`` if known.

        Args:
            state: the state.
            weights: those that belong to it; left out where the network has them already.

        Raises:
            TrainingError: when the state was stored with other settings, data or network.
        """
        own = "options" in state
        if own:
            self._check_same(state)
        if weights is not None:
            try:
                self.network.load_state_dict(weights)
            except RuntimeError as error:
                rule = f"the weights do not fit the network, so the training cannot be resumed: {error}"
                raise TrainingError("resume.other_network", rule, file=self.folder / "last") from error
        self.position, self.unsaved = Position(**state["position"]), False
        planned = [group["lr"] for group in self.optimiser.param_groups]
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        if not own:
            return
        self.totals = Totals.of(state["totals"])
        if self._extended(state):  # with a constant rate from here on, in place of the schedule that has ended
            for group, rate in zip(self.optimiser.param_groups, planned, strict=True):
                group["lr"] = rate
        else:
            self.schedule.scheduler.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.restore(state["average"])

    def _extended(self, state: State) -> bool:
        """Whether the run goes on with a constant rate after another schedule."""
        before = Training.model_validate(state["options"]).schedule
        return self.options.schedule.kind == "constant" and before.kind != "constant"

    def _check_same(self, state: State) -> None:
        # parsed and dumped again: options stored by an earlier version get the present names and the defaults of newer options
        now, then = self.options.model_dump(mode="json"), Training.model_validate(state["options"]).model_dump(mode="json")
        free = _FREE if self.options.schedule.kind in ("constant", "plateau", "torch") else _FREE - {"epochs"}
        free = free | {"schedule"} if self._extended(state) else free
        changed = {
            f"training.{name}": f"{name} was {then.get(name)} and is {value}"
            for name, value in now.items()
            if name not in free and then.get(name) != value
        }
        if state["length"] != self.length:
            changed["data"] = f"an epoch had {state['length']} batches and has {self.length}"
        if state["world"] != self.fabric.world_size:
            changed["processes"] = f"it ran in {state['world']} process(es) and runs in {self.fabric.world_size}"
        if changed:
            raise TrainingError(
                "resume.other_settings",
                f"the run cannot be resumed exactly because {'; '.join(changed.values())}",
                key=", ".join(changed),
                file=self.folder.parent,
                remedy=_LONGER if changed.keys() == {"training.epochs"} else _OTHERWISE,
            )


@contextmanager
def of_patches(network: nn.Module) -> Iterator[None]:
    """Inside the context the network computes patches as in training: they need not fit each other, as tiles of an image do."""
    network.of_patches = True  # type: ignore[assignment]
    try:
        yield
    finally:
        network.of_patches = False  # type: ignore[assignment]


def _until(leaving: Callable[[], bool], batches: Iterable[Batch]) -> Iterator[Batch]:
    try:
        for batch in batches:
            if leaving():
                return
            yield batch
    except RuntimeError:
        if not leaving():  # Ctrl-C in a terminal ends the worker processes of the loader too
            raise


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """Memory layout of images in which the network is fastest: channels last for convolutional networks."""
    ndims = {weight.ndim for weight in network.parameters()}
    return torch.channels_last_3d if 5 in ndims else torch.channels_last if 4 in ndims else torch.contiguous_format
