"""Batches of tensors from patches, prepared by worker processes. The only module of this package that imports torch."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from morula.core.errors import MorulaError, OptionError

Batch = dict[str, Any]
"""Tensors N... by name; texts (the names of the samples) are lists."""


class Sampled(Protocol):
    """A source of patches for a loader, such as a `PatchDataset`."""

    @property
    def seed(self) -> int:
        """Seed of the order of the patches."""

    def __len__(self) -> int: ...

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """The patch of this number; the same in every process."""

    def preload(self) -> None:
        """Called before worker processes start."""


def order(seed: int, epoch: int, n: int, *, shuffle: bool = True) -> np.ndarray:
    """The order in which an epoch takes its patches."""
    return np.random.default_rng((seed, epoch, n, 2)).permutation(n) if shuffle else np.arange(n)


def batches(indices: Sequence[int] | np.ndarray, batch: int, *, rank: int = 0, world: int = 1) -> list[list[int]]:
    """The batches of process `rank` of `world`: its share of each global batch of ``batch * world`` patches.

    Process r takes the patches r, r + world, ... of it, so all processes together see the batches of one process with a batch
    `world` times as large. A last global batch with fewer patches than processes is filled with patches from the start.

    Examples:
        >>> batches(range(7), 2, rank=0, world=2), batches(range(7), 2, rank=1, world=2)
        ([[0, 2], [4, 6]], [[1, 3], [5]])
    """
    size = batch * world
    whole = [list(map(int, indices[start : start + size])) for start in range(0, len(indices), size)]
    if whole and len(whole[-1]) < world:
        missing = world - len(whole[-1])
        # every process needs a batch, or the others would wait for it
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
            return error  # raised in the main process: torch would turn it into the text of a traceback


def _batch_or_error(samples: Sequence[dict[str, np.ndarray] | MorulaError]) -> Batch | MorulaError:
    for sample in samples:
        if isinstance(sample, MorulaError):
            return sample
    return collate([sample for sample in samples if not isinstance(sample, MorulaError)])


def collate(samples: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Stack samples to tensors N...; texts become lists.

    Unsigned integers above 8 bits become int64, because torch computes with few of them.
    """
    return {name: _stacked([sample[name] for sample in samples]) for name in samples[0]}


def _stacked(arrays: list[np.ndarray]) -> torch.Tensor | list[str]:
    if arrays[0].dtype.kind == "U":
        return [str(array) for array in arrays]
    return torch.from_numpy(np.stack([_signed(array) for array in arrays]))


def _signed(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if array.dtype.kind == "u" and array.dtype != np.uint8 else array


def _start_worker(worker: int) -> None:
    """Initialise a worker process.

    Ctrl-C goes to all processes of a terminal, but only the main process may react: it ends its workers. Workers compute with one
    thread each, because there are as many workers as free cores.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def start_method() -> str:
    """How worker processes start: as `multiprocessing.set_start_method` says, else fork on Linux and spawn elsewhere.

    Fork shares decoded images; spawned processes receive a pickled dataset.
    """
    return multiprocessing.get_start_method(allow_none=True) or ("fork" if sys.platform == "linux" else "spawn")


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the file of the main module from processes that are started: they need nothing from it.

    A spawned process would run the script of the user again, and a script without ``if __name__ == "__main__":`` would train again.
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


@dataclass(frozen=True, eq=False)
class Loader:
    """The batches of one epoch; every iteration gives the same ones."""

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
        # a generator of its own: torch would draw the seed of the workers from the global generator and change the training
        loader: DataLoader[Any] = DataLoader(
            _Epoch(self.dataset, self.epoch),
            batch_sampler=self.batches,
            num_workers=self.workers,
            collate_fn=_batch_or_error,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),
            multiprocessing_context=start_method() if self.workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        with warnings.catch_warnings(), _without_main():
            # Python 3.12 warns of forks with threads; forking shares the decoded images, and workers use no threads of torch or numba
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
    """The batches of an epoch in a seeded order, as mappings from names to tensors N....

    The order and every patch are functions of (seed, epoch, index) alone: the number of workers, a restart at batch `start` and the
    number of processes change nothing. Process `rank` of `world` gets its share of each global batch, see `batches`.

    Raises:
        OptionError: for a batch below 1, negative workers, or a start beyond the epoch.
    """
    for name, value, least in (("batch", batch, 1), ("workers", workers, 0), ("start", start, 0)):
        if value < least:
            raise OptionError("loader.too_small", f"must be at least {least}", key=name, value=value)
    if not 0 <= rank < world:
        raise OptionError("loader.rank", f"must be from 0 to {world - 1} with {world} process(es)", key="rank", value=rank)
    planned = batches(order(dataset.seed, epoch, len(dataset), shuffle=shuffle), batch, rank=rank, world=world)
    if start > len(planned):
        raise OptionError("loader.start", f"must be at most the {len(planned)} batches of the epoch", key="start", value=start)
    return Loader(dataset, planned[start:], epoch, workers)


@dataclass(frozen=True, eq=False)
class PatchLoaders:
    """Batches for a training, see `morula.training.state.Loaders`: patches in a new order in every epoch, validation patches in theirs.

    Attributes:
        patches: to learn from.
        held_out: to validate on, where there are some.
        batch: patches per step.
        steps_per_epoch: steps of an epoch, all processes together.
        workers: processes that prepare training patches.
        validation_workers: processes that prepare validation patches.
        validation_batches: batches per validation; all when left out.
    """

    patches: Sampled
    held_out: Sampled | None
    batch: int
    steps_per_epoch: int
    workers: int = 0
    validation_workers: int = 0
    validation_batches: int | None = None

    def train(self, epoch: int, start: int, rank: int, world: int) -> Loader:
        """See `morula.training.state.Loaders`."""
        return make_loader(self.patches, batch=self.batch, workers=self.workers, epoch=epoch, start=start, rank=rank, world=world)

    def validation(self, rank: int, world: int) -> Loader | tuple[()]:
        """See `morula.training.state.Loaders`."""
        if self.held_out is None:
            return ()
        loader = make_loader(self.held_out, batch=self.batch, workers=self.validation_workers, rank=rank, world=world, shuffle=False)
        return replace(loader, batches=loader.batches[: self.validation_batches])
