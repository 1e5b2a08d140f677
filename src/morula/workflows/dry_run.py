"""One real training step: what a job needs, measured instead of promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from morula.workflows.prepare import Prepared
from morula.workflows.train import build_with_seed


@dataclass(frozen=True)
class Proof:
    """Measured on one real step: weights of the network, peak bytes of the step beyond what was in use, seconds of a step."""

    weights: int
    peak_bytes: int
    seconds_per_step: float
    steps: int

    @property
    def minutes(self) -> float:
        """About how long the training will take."""
        return self.seconds_per_step * self.steps / 60


class _Peak:
    """The highest resident memory seen."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak_memory() -> Iterator[_Peak]:
    """Resident memory above that at the start, sampled every few milliseconds by a thread."""
    import psutil

    process, seen, done = psutil.Process(), _Peak(), threading.Event()
    before = process.memory_info().rss

    def look() -> None:
        while not done.wait(0.005):
            seen.bytes = max(seen.bytes, process.memory_info().rss - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        seen.bytes = max(seen.bytes, process.memory_info().rss - before)


def prove(prepared: Prepared) -> Proof:
    """Take three training steps with real patches, on the device and in the precision of the job; the faster of the last two counts.

    Raises:
        RuntimeError: torch's own, when the memory of the device is too small.
        OptionError: for a device or precision that this machine has not.
    """
    import torch

    from morula.data.loader import make_loader
    from morula.training.devices import open_fabric
    from morula.training.state import memory_format_of
    from morula.training.step import Learner

    job = prepared.job
    fabric = open_fabric(job.training.model_copy(update={"devices": 1, "nodes": 1, "strategy": "auto"}))
    dtype = torch.float64 if job.training.precision == "fp64" else torch.float32
    network: Any = build_with_seed(prepared).train()
    memory_format = memory_format_of(network)
    network.to(device=fabric.device, dtype=dtype, memory_format=memory_format)
    module, optimiser = fabric.setup(network, torch.optim.AdamW(network.parameters(), lr=1e-9))
    learner = Learner(fabric, network, module, prepared.method.loss, job.training.seed, dtype, memory_format)
    seconds = []
    with peak_memory() as peak:
        for number in range(3):
            began = time.perf_counter()
            batch = next(iter(make_loader(prepared.train, batch=job.sampling.batch_size, workers=0, epoch=0)))
            batch = {name: value.to(fabric.device) if hasattr(value, "to") else value for name, value in batch.items()}
            optimiser.zero_grad()
            learner.step([batch], number)
            optimiser.step()
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    taken = torch.cuda.max_memory_allocated() if fabric.device.type == "cuda" else peak.bytes
    per_epoch = job.training.steps_per_epoch or max(1, len(prepared.train) // job.sampling.batch_size)
    weights = sum(weight.numel() for weight in network.parameters())
    return Proof(weights, taken, min(seconds[1:]), per_epoch * job.training.epochs * job.training.restarts)
