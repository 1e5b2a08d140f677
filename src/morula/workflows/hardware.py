"""What an image is computed with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """Device of the network, limit of the memory, and worker processes.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory: limit for the process with its workers, for example ``"8GB"``.
        workers: processes that decode and measure the blocks of an image that is larger than the memory.
    """

    device: str = "auto"
    memory: str | None = None
    workers: int = 1
