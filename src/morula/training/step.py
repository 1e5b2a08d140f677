"""One exact optimisation step: the loss of all batches of all processes together, also where it is a ratio.

With the parts S_b of batch b (sums over voxels) and the loss L = value(Σ_b S_b), the gradient is::

    dL/dw = Σ_b (dL/dS)(Σ S) · dS_b/dw

so each batch contributes its own term as soon as the total Σ S is known. With one batch in one process it is known after the forward
pass; with several batches a first pass without gradients finds it; several processes add their parts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn

from morula.core.errors import TrainingError
from morula.losses.sums import Sums
from morula.nn.network import Network
from morula.training.checkpoint import State

Batch: TypeAlias = dict[str, Any]
"""Tensors N... by name, ``image`` among them, and lists of texts (the names of the samples)."""

Loss: TypeAlias = Callable[[dict[str, Tensor], Batch], Mapping[str, Sums]]
"""Maps outputs of the network and a batch to named sums."""


@dataclass
class Totals:
    """Parts of named losses, added in double precision, and the figures computed from them.

    Attributes:
        parts: sums by loss name.
        values: functions from sums to the loss.
        stored: figures from before a resume, until the first `add`: the functions cannot be stored.
    """

    parts: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)

    def add(self, parts: Mapping[str, Tensor], sums: Mapping[str, Sums]) -> None:
        """Add parts; `sums` holds the functions that turn them into losses."""
        for name, part in parts.items():
            part = part.detach()
            part = part if part.device.type == "mps" else part.double()  # Apple's GPUs have no float64
            self.parts[name] = self.parts[name].to(part.device) + part if name in self.parts else part
            self.values[name] = sums[name].value

    def figures(self) -> dict[str, float]:
        """``loss`` (the sum) and ``loss_NAME`` per loss; empty before the first `add`."""
        if self.values:
            losses = {name: float(value(self.parts[name])) for name, value in self.values.items()}
            self.stored = {"loss": math.fsum(losses.values()), **{f"loss_{name}": value for name, value in losses.items()}}
        return self.stored

    def state_dict(self) -> State:
        """The state to resume from."""
        return {"parts": {name: part.cpu() for name, part in self.parts.items()}, "known": self.figures()}

    @classmethod
    def of(cls, state: State) -> Totals:
        """Totals that continue from a stored state."""
        return cls(parts=state["parts"], stored=state["known"])


def sum_over_processes(fabric: Fabric, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum of the parts over all processes, without gradient. Every process must call it with the same names."""
    own = {name: part.detach() for name, part in parts.items()}
    if fabric.world_size == 1 or not own:
        return own
    # one message for all parts: communication is slow per message, not per number
    flat = fabric.all_reduce(torch.cat([part.reshape(-1) for part in own.values()]), reduce_op="sum")
    assert isinstance(flat, Tensor)
    pieces = flat.split([part.numel() for part in own.values()])
    return {name: piece.reshape(part.shape).to(part.dtype) for (name, part), piece in zip(own.items(), pieces, strict=True)}


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Inside the context torch's random numbers (dropout, masks) depend on the key only; afterwards its generators are as before.

    A step that is repeated after an interruption draws the same numbers, so that no generator state needs to be stored.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed unused devices, later
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


def names_of(batch: Batch) -> str:
    """Names of the samples of a batch, for messages."""
    given = batch.get("name", [])
    names = [given] if isinstance(given, str) else [str(name) for name in given]
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:8]) + (f" and {len(unique) - 8} more" if len(unique) > 8 else "")


def extra_inputs(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Entries of a batch that a network takes by name in addition to the image, see `morula.nn.network.Network.batch_inputs`."""
    names = network.batch_inputs if isinstance(network, Network) else ()
    return {name: batch[name] for name in names if name in batch}


@dataclass(frozen=True)
class Learner:
    """A network with its loss on a device: all that one optimisation step needs.

    Attributes:
        fabric: device and processes.
        network: the network itself.
        module: the network as Fabric wraps it.
        loss: maps outputs and batch to named sums.
        seed: of the random numbers that the network draws.
        dtype: of the image.
        memory_format: of the image.
    """

    fabric: Fabric
    network: nn.Module
    module: _FabricModule
    loss: Loss
    seed: int
    dtype: torch.dtype
    memory_format: torch.memory_format

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the network by head, NK(Z)YX, for ``batch["image"]`` NC(Z)YX and its `extra_inputs`."""
        image = batch["image"].to(self.dtype)
        if {torch.channels_last: 4, torch.channels_last_3d: 5}.get(self.memory_format) == image.ndim:
            image = image.to(memory_format=self.memory_format)
        outputs: dict[str, Tensor] = self.module(image, **extra_inputs(self.network, batch))
        return outputs

    def step(self, batches: Sequence[Batch], number: int) -> tuple[dict[str, Tensor], Mapping[str, Sums]]:
        """Compute the gradients of the loss of all batches of all processes, as if they were one batch.

        Args:
            batches: the batches of this process.
            number: number of the step, for the random numbers and for messages.

        Returns:
            The parts summed over batches and processes, and the sums of the last batch.

        Raises:
            TrainingError: when a loss is not finite.
        """
        fabric, last = self.fabric, len(batches) - 1
        whole = self._first_pass(batches, number) if last else None
        for index, batch in enumerate(batches):
            with self._seeded(number, index), fabric.no_backward_sync(self.module, enabled=index < last):
                sums = self.loss(self.outputs(batch), batch)
                if whole is None:
                    whole = sum_over_processes(fabric, {name: part.parts for name, part in sums.items()})
                # the value is that of the total, the gradient that of this batch's own parts
                values = {name: s.value(whole[name] + (s.parts - s.parts.detach())) for name, s in sums.items()}
                self.check_finite(values, f"at step {number + 1}", batches)
                # DistributedDataParallel averages gradients over processes, but these are to be added
                fabric.backward(functools.reduce(torch.add, values.values()) * fabric.world_size)
        assert whole is not None
        return whole, sums

    def _seeded(self, number: int, index: int) -> AbstractContextManager[None]:
        return seeded(self.fabric.device, self.seed, self.fabric.global_rank, number, index)

    @torch.no_grad()
    def _first_pass(self, batches: Sequence[Batch], number: int) -> dict[str, Tensor]:
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        own: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            with self._seeded(number, index):
                for name, s in self.loss(self.outputs(batch), batch).items():
                    own[name] = own[name] + s.parts if name in own else s.parts
        for buffer, before in buffers:
            buffer.copy_(before)  # running statistics of normalisations: every batch is counted once
        return sum_over_processes(self.fabric, own)

    def check_finite(self, values: Mapping[str, Tensor], where: str, batches: Sequence[Batch]) -> None:
        """Check that all losses are finite.

        Args:
            values: losses by name.
            where: step or validation, for the message.
            batches: their samples are named in the message.

        Raises:
            TrainingError: naming the loss, the step and the samples.
        """
        for name, value in values.items():
            if not math.isfinite(number := float(value.detach())):
                samples = "; ".join(filter(None, map(names_of, batches)))
                raise TrainingError(
                    "loss.not_finite",
                    f"the loss is {number} {where}{f' (images {samples})' if samples else ''}; it must be finite",
                    key=name,
                    value=number,
                    remedy="Look for NaN or extreme values in these images; otherwise start again with a lower training.optimiser.lr, "
                    "with training.clip_norm: 1.0 or with training.precision: fp32. The checkpoints written before are valid.",
                )
