"""One exact step: the loss of all batches of all processes together, whatever it is a ratio of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from morula.core.errors import TrainingError
from morula.losses.sums import Sums

Batch: TypeAlias = dict[str, Any]


Loss: TypeAlias = Callable[[dict[str, Tensor], Batch], Mapping[str, Sums]]


@dataclass
class Totals:
    """Parts of named losses, added up in double precision, and the values that they come to."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)

    def add(self, parts: Mapping[str, Tensor], sums: Mapping[str, Sums]) -> None:
        """Add parts; `sums` says how to turn them into values."""
        for name, part in parts.items():
            part = part.detach()
            part = part if part.device.type == "mps" else part.double()
            self.parts[name] = self.parts[name].to(part.device) + part if name in self.parts else part
            self.values[name] = sums[name].value

    def figures(self) -> dict[str, float]:
        """``loss`` and ``loss_NAME`` of each name; nothing before the first `add`."""
        if self.values:
            each = {name: float(value(self.parts[name])) for name, value in self.values.items()}
            self.known = {"loss": math.fsum(each.values()), **{f"loss_{name}": value for name, value in each.items()}}
        return self.known

    def state_dict(self) -> dict[str, Any]:
        """To continue from; the figures go along because the functions cannot."""
        return {"parts": {name: part.cpu() for name, part in self.parts.items()}, "known": self.figures()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Totals:
        """Continue."""
        return cls(parts=state["parts"], known=state["known"])


def summed(fabric: Fabric, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of all processes together, without gradient. Every process must call it with the same names."""
    own = {name: part.detach() for name, part in parts.items()}
    if fabric.world_size == 1 or not own:
        return own
    flat = fabric.all_reduce(torch.cat([part.reshape(-1) for part in own.values()]), reduce_op="sum")
    assert isinstance(flat, Tensor)
    pieces = flat.split([part.numel() for part in own.values()])
    return {name: piece.reshape(part.shape).to(part.dtype) for (name, part), piece in zip(own.items(), pieces, strict=True)}


@contextmanager
def drawing(device: torch.device, *key: int) -> Iterator[None]:
    """While inside, what torch draws (dropout, masks) depends on the key alone; afterwards its generators are as before.

    A step that was interrupted draws the same when it is repeated, so no state of a generator needs to be stored.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also queue the seed for devices that are not used
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


def names_of(batch: Batch) -> str:
    """The samples of a batch by name, for messages."""
    names = batch.get("name", [])
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:8]) + (f" and {len(unique) - 8} more" if len(unique) > 8 else "")


def extra_inputs(module: Any, batch: Batch) -> dict[str, Any]:
    """Entries of a batch that the network takes by name beside the image: those in its attribute `takes`."""
    return {name: batch[name] for name in getattr(module, "batch_inputs", ()) if name in batch}


@dataclass(frozen=True)
class Learner:
    """A network with its loss on a device: what one forward pass needs."""

    fabric: Fabric
    module: Any  # the network as Fabric wraps it
    loss: Loss
    seed: int
    dtype: torch.dtype
    memory_format: torch.memory_format

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the network by head for ``batch["image"]`` NC(Z)YX and what else it takes of a batch."""
        image = batch["image"].to(self.dtype)
        if {torch.channels_last: 4, torch.channels_last_3d: 5}.get(self.memory_format) == image.ndim:
            image = image.to(memory_format=self.memory_format)
        return self.module(image, **extra_inputs(self.module, batch))

    def step(self, batches: Sequence[Batch], number: int) -> tuple[dict[str, Tensor], Mapping[str, Sums]]:
        """Gradients of the loss of all `batches` of all processes, as if they were one batch. Returns the summed parts.

        The loss is a function of parts that add up, so each batch contributes d loss / d parts (at the sum over everything) times the
        gradient of its own parts. With several batches the sum is found in a first pass without gradients.
        """
        fabric, last = self.fabric, len(batches) - 1
        whole = self._first_pass(batches, number) if last else None
        for index, batch in enumerate(batches):
            with self._drawing(number, index), fabric.no_backward_sync(self.module, enabled=index < last):
                sums = self.loss(self.outputs(batch), batch)
                if whole is None:
                    whole = summed(fabric, {name: part.parts for name, part in sums.items()})
                values = {name: s.value(whole[name] + (s.parts - s.parts.detach())) for name, s in sums.items()}
                self.check_finite(values, f"at step {number + 1}", batches)
                # DistributedDataParallel takes the mean over the processes; the parts are already those of all of them
                fabric.backward(sum(values.values()) * fabric.world_size)  # type: ignore[arg-type]
        assert whole is not None
        return whole, sums

    def _drawing(self, number: int, index: int) -> Any:
        return drawing(self.fabric.device, self.seed, self.fabric.global_rank, number, index)

    @torch.no_grad()
    def _first_pass(self, batches: Sequence[Batch], number: int) -> dict[str, Tensor]:
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        own: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            with self._drawing(number, index):
                for name, s in self.loss(self.outputs(batch), batch).items():
                    own[name] = own[name] + s.parts if name in own else s.parts
        for buffer, before in buffers:
            buffer.copy_(before)  # running statistics of norms: each batch counts once
        return summed(self.fabric, own)

    def check_finite(self, values: Mapping[str, Tensor], where: str, batches: Sequence[Batch]) -> None:
        """Stop when a loss is not finite.

        Raises:
            TrainingError: naming the loss, the place and the samples.
        """
        for name, value in values.items():
            if not math.isfinite(number := float(value.detach())):
                samples = "; ".join(filter(None, map(names_of, batches)))
                raise TrainingError(
                    f"the loss {name!r} is {number} {where}{f', in a batch of {samples}' if samples else ''}; it must be finite. "
                    "Look for NaN or extreme values in these images; else start again with a lower optimiser.rate, with clip: 1.0 "
                    "or with precision: fp32. The checkpoints written before are still good."
                )
