"""The state of a training between two steps, how it moves, and how it is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from morula.core.errors import TrainingError
from morula.core.events import Artefact, FileWritten
from morula.training.checkpoint import find_checkpoint, load_state_of, load_weights_of, save_checkpoint
from morula.training.devices import open_fabric, pick_precision
from morula.training.ema import MovingAverage
from morula.training.optimisers import LRSchedule, build_optimiser, build_schedule, freeze
from morula.training.options import Training, interval
from morula.training.step import Batch, Learner, Loss, Totals, drawing, summed

Previewer = Callable[[Batch, dict[str, Tensor]], Mapping[str, np.ndarray]]

# what may differ between a run and its continuation without changing the steps that are taken
_FREE = {
    *("patience", "workers", "validate_every", "checkpoint_every", "device", "devices", "nodes", "strategy"),
    *("epochs", "steps", "steps_per_epoch"),
}
Recipe = Callable[[nn.Module], tuple[torch.optim.Optimizer, LRSchedule]]
Scores = Callable[[Batch, dict[str, Tensor]], Mapping[str, float]]


@dataclass(frozen=True)
class Monitor:
    """The validation's figure that decides which weights are best, and which way it is better."""

    figure: str
    higher_is_better: bool = True


class Loaders(Protocol):
    """Where batches come from. A batch is a dict with ``image`` NC(Z)YX and whatever the loss needs; ``name`` lists its samples."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; several processes share them."""

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterable[Batch]:
        """Batches of an epoch (from 0) for process `rank` of `world`, from its own number `start` on; a function of these numbers.

        At least ``max(1, steps_per_epoch // world)`` of them less `start`.
        """

    def validation(self, rank: int, world: int) -> Iterable[Batch]:
        """This process's share of the validation batches, always the same; nothing when there are none."""


@dataclass
class Position:
    """How far a training is."""

    epoch: int = 0
    """Epochs ended."""
    batch: int = 0
    """Batches used of the present epoch, each process."""
    step: int = 0
    """Steps taken."""
    reported: int = 0
    """Step of the last report."""
    best: float | None = None
    """Lowest criterion so far."""
    waited: int = 0
    """Validations since then."""


class TrainingState:
    """A network in training: everything that a step changes, and everything that a checkpoint holds."""

    def __init__(
        self, network: nn.Module, loss: Loss, loaders: Loaders, options: Training, *, folder: Path, recipe: Recipe | None = None
    ) -> None:
        self.network, self.loaders, self.options, self.folder = network, loaders, options, folder / "checkpoints"
        self.fabric = fabric = open_fabric(options)
        self.length = max(1, loaders.steps_per_epoch // fabric.world_size)
        if loaders.steps_per_epoch < 1:
            raise TrainingError("there is no batch to train on: an epoch has 0 steps. Give more images, or a smaller batch or patch.")
        self.total = options.epochs * math.ceil(self.length / options.accumulate)
        self.total = self.total if options.steps is None else min(self.total, options.steps)
        self.precision = pick_precision(options.precision, fabric.device.type)
        dtype = torch.float64 if self.precision == "fp64" else torch.float32
        memory_format = memory_format_of(network)
        network.to(device=fabric.device, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
        if recipe is None:
            freeze(network, options.freeze)
            scaled = getattr(fabric.strategy.precision, "scaler", None) is not None  # clipping needs the gradients before the step
            fused = fabric.device.type in ("cpu", "cuda") and not scaled
            optimiser = build_optimiser(network, options.optimiser, options.rates, fused=fused)
            self.schedule = build_schedule(optimiser, options.schedule, total=self.total)
        else:
            optimiser, self.schedule = recipe(network)
        self.module, self.optimiser = fabric.setup(network, optimiser)
        self.average = MovingAverage(network, options.average) if options.average else None
        self.learner = Learner(fabric, self.module, loss, options.seed, dtype, memory_format)
        self.position, self.totals = Position(), Totals()
        self.unsaved, self.began = True, time.perf_counter()
        self._feed: Iterator[Batch] | None = None

    # where it stands

    @property
    def epoch_ended(self) -> bool:
        """Whether all batches of the present epoch were used."""
        return self.position.batch >= self.length

    @property
    def validation_due(self) -> bool:
        """Whether this is a step after which to validate; the last step always is."""
        count, unit = interval(self.options.validate_every)
        if self.steps_taken or (unit == "steps" and self.position.step % count == 0):
            return True
        ending = self.position.epoch + 1
        return self.epoch_ended and (ending == self.options.epochs or (unit == "epochs" and ending % count == 0))

    @property
    def report_due(self) -> bool:
        """Whether figures are to be told for this step and were not yet."""
        return self.position.step > self.position.reported and (self.epoch_ended or self.validation_due)

    @property
    def save_due(self) -> bool:
        """Whether a checkpoint is to be written at this step and was not yet; the last step always is one."""
        here, (count, unit) = self.position, interval(self.options.checkpoint_every)
        if not self.unsaved or here.step == 0:
            return False
        return self.over or (here.step % count == 0 if unit == "steps" else here.batch == 0 and here.epoch % count == 0)

    @property
    def patience_lost(self) -> bool:
        """Whether the last validations brought nothing better for as long as is tolerated."""
        return self.options.patience is not None and self.position.waited >= self.options.patience

    @property
    def steps_taken(self) -> bool:
        """Whether the last of a limited number of steps was taken."""
        return self.options.steps is not None and self.position.step >= self.options.steps

    @property
    def over(self) -> bool:
        """Whether no step is left to take."""
        return self.position.epoch >= self.options.epochs or self.steps_taken or self.patience_lost or self.schedule.exhausted

    # how it moves

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
            raise TrainingError(f"the loader ended after {ended} batches of epoch {here.epoch + 1}; it promised {self.length}.")
        return batches

    def step(self, batches: list[Batch]) -> float:
        """Take one step and return its loss.

        Raises:
            TrainingError: when the loss is not finite.
        """
        here = self.position
        self.module.train()
        self.optimiser.zero_grad()
        parts, sums = self.learner.step(batches, here.step)
        if self.options.clip is not None:
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=self.options.clip, error_if_nonfinite=False)
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
        """Go to the next epoch."""
        self.began = time.perf_counter()
        self.schedule.after("epochs")
        self.position.epoch += 1
        self.position.batch = 0
        self.totals = Totals()
        self._feed = None

    def weighted(self) -> AbstractContextManager[None]:
        """While inside, the network carries the weights to judge and to keep: the moving average where there is one."""
        return nullcontext() if self.average is None else self.average.inside(self.network)

    @torch.no_grad()
    def outputs(self, batch: Batch, index: int = 0) -> dict[str, Tensor]:
        """What the network says in evaluation; what it draws depends on the seed and `index` only."""
        self.module.eval()
        with drawing(self.fabric.device, self.options.seed, 2**32 - 1, index):
            return self.learner.outputs(batch)

    @torch.no_grad()
    def validate(
        self, leaving: Callable[[], bool], see: Callable[[Batch, dict[str, Tensor]], None], scores: Scores | None = None
    ) -> dict[str, float] | None:
        """Losses over all validation batches of all processes; empty without any, `None` when it was left before its end.

        `see` is shown the first batch. `scores` are measured on every batch; their mean over all patches is told with the losses.
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
                see(batch, outputs)
        if self.agreed(leaving()):
            return None
        totals.parts = summed(self.fabric, totals.parts)
        values = {name: value(totals.parts[name]) for name, value in totals.values.items()}
        self.learner.check_finite(values, f"in the validation after step {self.position.step}", suspects)
        means = {name: float(total / count) for name, (total, count) in summed(self.fabric, measured).items()}
        return {**totals.figures(), **means}

    def showcase(self) -> tuple[Batch, dict[str, Tensor]]:
        """The first validation batch (without any the first training batch) and what the network says to it."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        feed = chain(self.loaders.validation(rank, world), self.loaders.train(0, 0, rank, world))
        batch: Batch = self.fabric.to_device(next(iter(feed)))
        return batch, self.outputs(batch)

    def scored(self, score: Callable[[nn.Module], float]) -> float:
        """The score of the network, measured in the first process."""
        self.module.eval()
        own = float(score(self.network)) if self.fabric.is_global_zero else 0.0
        return self.fabric.broadcast(own)

    def judge(self, criterion: float) -> bool:
        """Note a validation (lower is better); whether it is the best so far, whose weights are then kept."""
        criterion = math.inf if math.isnan(criterion) else criterion
        better = self.position.best is None or criterion < self.position.best
        self.position.waited = 0 if better else self.position.waited + 1
        if better:
            self.position.best = criterion
            if self.fabric.is_global_zero:
                save_checkpoint(self.folder / "best", self.network.state_dict())
        return better

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.fabric.world_size == 1:
            return flag
        return bool(summed(self.fabric, {"flag": torch.tensor(float(flag), device=self.fabric.device)})["flag"] > 0)

    # how it is stored

    def save(self) -> FileWritten:
        """Write everything that is needed to continue exactly.

        Raises:
            TrainingError: when a weight is not finite; the checkpoint before stays.
        """
        weights = self.network.state_dict()
        bad = [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        if bad:
            raise TrainingError(
                f"weights became NaN or infinite by step {self.position.step} ({bad[0]} and {len(bad) - 1} more) "
                "although the loss was finite. "
                "Start again with a lower optimiser.rate or with clip: 1.0. The checkpoints written before are still good."
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
        if place is None:
            return False
        state, weights = load_state_of(place), load_weights_of(place)
        self._check_same(state)
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise TrainingError(f"the network differs from the one in {place}, so its training cannot be resumed: {error}") from error
        self.position, self.unsaved = Position(**state["position"]), False
        self.totals = Totals.of(state["totals"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.scheduler.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        return True

    def _check_same(self, state: dict[str, Any]) -> None:
        now, then = self.options.model_dump(mode="json"), state["options"]
        free = _FREE if self.options.schedule.kind in ("constant", "plateau", "torch") else _FREE - {"epochs"}
        changed = [f"{key} was {then.get(key)} and is {now[key]}" for key in now if key not in free and then.get(key) != now[key]]
        if state["length"] != self.length:
            changed.append(f"an epoch had {state['length']} batches and has {self.length}")
        if state["world"] != self.fabric.world_size:
            changed.append(f"it ran in {state['world']} process(es) and runs in {self.fabric.world_size}")
        if changed:
            raise TrainingError(
                f"the run in {self.folder.parent} cannot be resumed exactly because {'; '.join(changed)}. "
                "Set this back, or start a new run from its weights (network.from)."
            )


def _until(leaving: Callable[[], bool], batches: Iterable[Batch]) -> Iterator[Batch]:
    try:
        for batch in batches:
            if leaving():
                return
            yield batch
    except RuntimeError:
        if not leaving():  # Ctrl-C ends the loader's processes too
            raise


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """Channels last where the network convolves: the layout that convolutions are fastest in."""
    ndims = {weight.ndim for weight in network.parameters()}
    return torch.channels_last_3d if 5 in ndims else torch.channels_last if 4 in ndims else torch.contiguous_format
