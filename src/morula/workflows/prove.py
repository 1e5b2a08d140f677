"""One real training step: what a job needs, measured instead of promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from morula.workflows.prepare import Prepared
from morula.workflows.train import built


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
def _watched() -> Iterator[_Peak]:
    """Resident memory above that at the start, looked at every few milliseconds by a thread."""
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
    """Take two training steps with real patches, on the device that the job will use, and measure the second.

    Raises:
        RuntimeError: torch's own, when the memory of the device is too small.
    """
    import torch

    from morula.data.loader import make_loader
    from morula.training.devices import pick_device
    from morula.training.step import further_inputs

    job = prepared.job
    device = pick_device(job.training.device)
    network: Any = built(prepared).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-9)
    with _watched() as peak:
        for _ in range(2):
            began = time.perf_counter()
            batch = next(iter(make_loader(prepared.train, batch=job.sampling.batch, workers=0, epoch=0)))
            batch = {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}
            optimiser.zero_grad()
            parts = prepared.method.loss(network(batch["image"], **further_inputs(network, batch)), batch)
            torch.stack([sums.value(sums.parts) for sums in parts.values()]).sum().backward()
            optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
    taken = torch.cuda.max_memory_allocated() if device == "cuda" else peak.bytes
    per_epoch = job.training.steps_per_epoch or max(1, len(prepared.train) // job.sampling.batch)
    return Proof(sum(weight.numel() for weight in network.parameters()), taken, seconds, per_epoch * job.training.epochs)
