"""Batches of tensors from patches, prepared by worker processes. The only file of this room that imports torch."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from morula.core.errors import OptionError

Batch = dict[str, torch.Tensor]


class Sampled(Protocol):
    """What a loader takes patches from, such as a `PatchDataset`."""

    @property
    def seed(self) -> int:
        """Of the order of the patches."""

    def __len__(self) -> int: ...

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """The patch of this number; the same whoever asks."""

    def preload(self) -> None:
        """Called before worker processes start."""


def order(seed: int, epoch: int, n: int, *, shuffle: bool = True) -> np.ndarray:
    """The order in which an epoch takes its patches."""
    return np.random.default_rng((seed, epoch, n, 2)).permutation(n) if shuffle else np.arange(n)


def batches(indices: Sequence[int] | np.ndarray, batch: int, *, rank: int = 0, world: int = 1) -> list[list[int]]:
    """The batches of one of several processes: its share of each batch of ``batch * world`` patches.

    Process r takes the patches r, r + world, ... of it, so all processes together see the batches of one process with a batch
    `world` times as large. A last batch with fewer patches than processes is filled up from the start.

    Examples:
        >>> batches(range(7), 2, rank=0, world=2), batches(range(7), 2, rank=1, world=2)
        ([[0, 2], [4, 6]], [[1, 3], [5]])
    """
    wide = batch * world
    whole = [list(map(int, indices[start : start + wide])) for start in range(0, len(indices), wide)]
    if whole and len(whole[-1]) < world:
        missing = world - len(whole[-1])
        whole[-1] += [int(indices[i % len(indices)]) for i in range(missing)]
    return [items[rank::world] for items in whole]


@dataclass(frozen=True, eq=False)
class _Epoch(Dataset[dict[str, np.ndarray]]):
    dataset: Sampled
    epoch: int

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.dataset.sample(self.epoch, index)


def collate(samples: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Stack samples to tensors N...; unsigned labels become int64, which torch computes with."""
    return {name: torch.from_numpy(np.stack([_signed(sample[name]) for sample in samples])) for name in samples[0]}


def _signed(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if array.dtype.kind == "u" and array.dtype != np.uint8 else array


def _one_thread(worker: int) -> None:
    import numba

    numba.set_num_threads(1)
    torch.set_num_threads(1)


@dataclass(frozen=True, eq=False)
class Loader:
    """The batches of one epoch, from `start` on; may be iterated again and gives the same."""

    dataset: Sampled
    batches: list[list[int]]
    epoch: int
    workers: int

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if not self.batches:
            return
        self.dataset.preload()
        # its own generator: the loader's seed must not be drawn from torch's global one, which an exact resume restores
        loader: DataLoader[dict[str, np.ndarray]] = DataLoader(
            _Epoch(self.dataset, self.epoch),
            batch_sampler=self.batches,
            num_workers=self.workers,
            collate_fn=collate,
            worker_init_fn=_one_thread,
            generator=torch.Generator().manual_seed(0),
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=torch.cuda.is_available(),
        )
        with warnings.catch_warnings():
            # from Python 3.12 on; forking shares the decoded images, and the workers use neither torch's nor numba's threads
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            iterator = iter(loader)
        yield from iterator


def make_loader(
    dataset: Sampled,
    *,
    batch: int,
    workers: int = 0,
    epoch: int = 0,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    shuffle: bool = True,
) -> Loader:
    """The batches of an epoch in a seeded order: mappings from name to tensor N....

    The order and every patch are functions of (seed, epoch, index) alone: the number of workers, a restart at batch `start` and the
    number of processes change nothing. Process `rank` of `world` gets its share of each global batch, see `batches`.

    Raises:
        OptionError: for a batch below 1, negative workers, or a start beyond the epoch.
    """
    for name, value, least in (("batch", batch, 1), ("workers", workers, 0), ("start", start, 0)):
        if value < least:
            raise OptionError(f"{name} is {value}; it is at least {least}.")
    if not 0 <= rank < world:
        raise OptionError(f"rank is {rank}; with {world} processes it lies between 0 and {world - 1}.")
    planned = batches(order(dataset.seed, epoch, len(dataset), shuffle=shuffle), batch, rank=rank, world=world)
    if start > len(planned):
        raise OptionError(f"start is {start} but the epoch has {len(planned)} batches; start counts the batches already taken.")
    return Loader(dataset, planned[start:], epoch, workers)
