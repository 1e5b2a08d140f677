"""What an image is computed with."""

from __future__ import annotations

from dataclasses import dataclass, field

from morula.workflows.workers import Executor, Processes


@dataclass(frozen=True)
class Hardware:
    """Device of the network, limit of the memory, and where blocks are computed.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for the process with its workers, for example ``"8GB"``.
        executor: where the blocks of an image that is larger than the memory are decoded and measured.
    """

    device: str = "auto"
    memory: str | None = None
    executor: Executor = field(default_factory=Processes)
