"""Batches of tensors from patches, prepared by worker processes. The only file of this room that imports torch."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from morula.core.errors import MorulaError, OptionError

Batch = dict[str, Any]
"""Tensors N... by name; texts (the samples' names) are lists."""


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
class _Epoch(Dataset[Any]):
    dataset: Sampled
    epoch: int

    def __getitem__(self, index: int) -> dict[str, np.ndarray] | MorulaError:
        try:
            return self.dataset.sample(self.epoch, index)
        except MorulaError as error:
            return error  # raised in the main process: torch would wrap it into the worker's traceback


def _batch_or_error(samples: Sequence[dict[str, np.ndarray] | MorulaError]) -> Batch | MorulaError:
    for sample in samples:
        if isinstance(sample, MorulaError):
            return sample
    return collate([sample for sample in samples if not isinstance(sample, MorulaError)])


def collate(samples: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Stack samples to tensors N...; unsigned labels become int64, which torch computes with. Texts become lists."""
    return {name: _stacked([sample[name] for sample in samples]) for name in samples[0]}


def _stacked(arrays: list[np.ndarray]) -> torch.Tensor | list[str]:
    if arrays[0].dtype.kind == "U":
        return [str(array) for array in arrays]
    return torch.from_numpy(np.stack([_signed(array) for array in arrays]))


def _signed(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if array.dtype.kind == "u" and array.dtype != np.uint8 else array


def _start_worker(worker: int) -> None:
    """Ctrl-C and a request to stop are the main process's business, which ends its workers; there are as many workers as cores to use."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
        loader: DataLoader[Any] = DataLoader(
            _Epoch(self.dataset, self.epoch),
            batch_sampler=self.batches,
            num_workers=self.workers,
            collate_fn=_batch_or_error,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=torch.cuda.is_available(),
        )
        with warnings.catch_warnings():
            # from Python 3.12 on; forking shares the decoded images, and the workers use neither torch's nor numba's threads
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            iterator = iter(loader)
        for batch in iterator:
            if isinstance(batch, MorulaError):
                raise batch
            yield batch


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
