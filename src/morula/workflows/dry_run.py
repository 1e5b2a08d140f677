"""One real training step, by which the memory and the time of a job are measured instead of estimated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from morula.data.loader import PatchLoaders
from morula.training.devices import open_fabric
from morula.training.options import Training
from morula.training.state import memory_format_of
from morula.training.step import Learner, Loss
from morula.workflows.build import build_with_seed
from morula.workflows.prepare import Prepared


@dataclass(frozen=True)
class Proof:
    """Measured on one real step: weights of the network, peak bytes of the step beyond what was in use, seconds of a step."""

    weights: int
    peak_bytes: int
    seconds_per_step: float
    steps: int

    @property
    def minutes(self) -> float:
        """Expected duration of the training."""
        return self.seconds_per_step * self.steps / 60

    @property
    def cost(self) -> str:
        """Size, memory and time in words.

        Examples:
            >>> Proof(weights=1_900_000, peak_bytes=2_000_000_000, seconds_per_step=0.5, steps=1200).cost
            '1,900,000 weights, 2.0 GB, 0.50 s; 1200 steps take about 10 minutes'
            >>> Proof(weights=13_000, peak_bytes=200_000_000, seconds_per_step=0.5, steps=20).cost
            '13,000 weights, 0.2 GB, 0.50 s; 20 steps take less than a minute'
        """
        whole = round(self.minutes)
        duration = f"about {whole} minute{'s' * (whole > 1)}" if whole else "less than a minute"
        one_step = f"{self.weights:,} weights, {self.peak_bytes / 1e9:.1f} GB, {self.seconds_per_step:.2f} s"
        return f"{one_step}; {self.steps} steps take {duration}"


class _Peak:
    """The highest resident memory so far."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak_memory() -> Iterator[_Peak]:
    """Resident memory above that at the start, sampled every few milliseconds by a thread."""
    process, highest, done = psutil.Process(), _Peak(), threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not done.wait(0.005):
            highest.bytes = max(highest.bytes, process.memory_info().rss - before)

    # a thread, because the step cannot be interrupted: PyTorch releases the interpreter lock while it computes
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()
        # a step shorter than the interval was perhaps never sampled
        highest.bytes = max(highest.bytes, process.memory_info().rss - before)


def prove(prepared: Prepared) -> Proof:
    """Take three training steps with real patches, on the device and in the precision of the job; the faster of the last two counts.

    Raises:
        RuntimeError: torch's own, when the memory of the device is too small.
        OptionError: for a device or precision that this computer does not have.
    """
    job = prepared.job
    network = build_with_seed(prepared)
    loader = PatchLoaders(prepared.train, None, job.sampling.batch_size, 1)
    per_epoch = job.training.steps_per_epoch or max(1, len(prepared.train) // job.sampling.batch_size)
    return prove_steps(job.training, network, prepared.method.loss, loader, steps=per_epoch * job.training.epochs * job.training.restarts)


def prove_steps(training: Training, network: nn.Module, loss: Loss, loaders: PatchLoaders, *, steps: int) -> Proof:
    """Take three training steps, see `prove`. The weights change.

    Args:
        training: device and precision.
        network: the network.
        loss: of its outputs.
        loaders: whose first batch is used.
        steps: of the whole training.
    """
    # one process, whatever the job says: a step on one device has the memory and the time of a step on each of several
    fabric = open_fabric(training.model_copy(update={"devices": 1, "nodes": 1, "strategy": "auto"}))
    dtype = torch.float64 if training.precision == "fp64" else torch.float32
    memory_format = memory_format_of(network)
    network.train().to(device=fabric.device, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
    module, optimiser = fabric.setup(network, torch.optim.AdamW(network.parameters(), lr=1e-9))  # the weights are not kept
    learner = Learner(fabric, network, module, loss, training.seed, dtype, memory_format)
    # the first step compiles kernels and fills caches, the second one allocates the state of the optimiser
    seconds = []
    with peak_memory() as peak:
        for number in range(3):
            began = time.perf_counter()
            batch = next(iter(loaders.train(0, 0, 0, 1)))
            batch = {name: value.to(fabric.device) if hasattr(value, "to") else value for name, value in batch.items()}
            optimiser.zero_grad()
            learner.step([batch], number)
            optimiser.step()
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    taken = torch.cuda.max_memory_allocated() if fabric.device.type == "cuda" else peak.bytes
    weights = sum(weight.numel() for weight in network.parameters())
    return Proof(weights, taken, min(seconds[1:]), steps)
