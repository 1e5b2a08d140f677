"""Block tasks on a Dask cluster (https://distributed.dask.org): on this computer, at an address, or in jobs of a batch system.

Workers and client read and write the same folder, so a task is the name of a file with the work and a number: no array travels through
the scheduler. Results are on the disk before a task ends, so the tasks of a lost worker are computed again by another one.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from morula.core.errors import DataError, MissingExtraError, OptionError
from morula.core.remedy import Remedy
from morula.workflows.workers import applied, stored

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
_LOCAL = re.compile(r"local:(\d{1,4})")
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss|inproc)://\S+")
_JOBS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "htcondor": "HTCondorCluster"}
"""Class of dask-jobqueue for each batch system."""
_AHEAD = 64  # tasks per worker that the scheduler knows: it stays small for any number of blocks, and they are sent many at a time
_PATIENCE = 30  # seconds until a scheduler has to answer


@dataclass(frozen=True)
class Cluster:
    """Tasks on the workers of a Dask cluster; see `morula.workflows.workers.Executor`.

    Attributes:
        client: of the cluster.
        count: number of workers.
    """

    client: Client
    count: int
    remote: bool = True

    @property
    def dashboard(self) -> str:
        """Address of the page that shows what the workers do."""
        return str(self.client.dashboard_link)

    def run(self, work: Callable[[Item], object], items: Sequence[Item], folder: Path) -> Iterator[Item]:
        """Run a task for each item, see `morula.workflows.workers.Executor`.

        Raises:
            DataError: ``workers.lost`` when several workers were lost with the same task.
        """
        distributed = importlib.import_module("distributed")
        file, digest = stored(work, folder)
        task, waiting = functools.partial(applied, str(file), digest), iter(items)
        known, free = _AHEAD * self.count, 0
        running: dict[Any, Item] = {}

        def submitted(number: int) -> list[Any]:
            some = list(itertools.islice(waiting, number))
            futures = self.client.map(task, some, pure=False, key="block", retries=0) if some else []
            running.update(zip(futures, some, strict=True))
            return futures

        finished = distributed.as_completed(submitted(known))
        try:
            for future in finished:
                if future.status != "finished":
                    future.result()
                free += 1
                if free >= known // 2:
                    finished.update(submitted(free))
                    free = 0
                yield running.pop(future)
        except distributed.KilledWorker as error:
            remedy = "Give the same command again, which continues; if they were killed for lack of memory, with a smaller --memory."
            raise DataError("workers.lost", "several workers were killed while they computed the same block", remedy=remedy) from error
        finally:
            self.client.cancel(list(running))
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing: the cluster is for all images of a command."""


@contextmanager
def opened(address: str) -> Iterator[Cluster]:
    """A cluster by its address; what was started for it ends with the context.

    Args:
        address: ``local:4`` for four processes of this computer, the address of a scheduler (``tcp://scheduler:8786``), or a YAML file
            with the arguments of a class of dask-jobqueue under the name of the batch system, and the number of workers.

    Raises:
        OptionError: ``cluster.address``, ``cluster.file`` or ``cluster.unreachable``.
        MissingExtraError: when Dask is not installed.
    """
    start = _starter(address)
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        remedy = "Install it with: pip install 'morula[cluster]'"
        raise MissingExtraError(
            "extra.cluster", "needs Dask, which is not installed", key="cluster", value=address, remedy=remedy
        ) from error
    with ExitStack() as held:
        try:
            scheduler, workers = start(held)
            client = held.enter_context(distributed.Client(scheduler, timeout=_PATIENCE))
            client.wait_for_workers(1, timeout=None if address.endswith((".yaml", ".yml")) else _PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            remedy = Remedy("check the address", "use --cluster local:4")
            raise OptionError("cluster.unreachable", f"does not answer ({error})", key="cluster", value=address, remedy=remedy) from error
        yield Cluster(client, workers or len(client.scheduler_info(n_workers=-1)["workers"]))


def _starter(address: str) -> Callable[[ExitStack], tuple[Any, int]]:
    """A function that starts the cluster of an address; it returns what a client takes, and the number of workers, 0 where unknown."""
    local = _LOCAL.fullmatch(address)
    if local is not None and int(local[1]):
        return functools.partial(_local, int(local[1]))
    if _ADDRESS.fullmatch(address):
        return lambda _: (address, 0)
    if address.endswith((".yaml", ".yml")):
        return functools.partial(_jobs, *_described(Path(address)))
    remedy = "Write local:4, the address of a scheduler such as tcp://host:8786, or a YAML file."
    raise OptionError("cluster.address", "is no cluster", key="cluster", value=address, remedy=remedy)


def _local(workers: int, held: ExitStack) -> tuple[Any, int]:
    distributed = importlib.import_module("distributed")
    # each worker is one process with one thread; the limit of the memory is that of the command
    return held.enter_context(distributed.LocalCluster(workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0")), workers


def _jobs(system: str, options: Mapping[str, Any], workers: int, held: ExitStack) -> tuple[Any, int]:
    try:
        jobqueue = importlib.import_module("dask_jobqueue")
    except ImportError as error:
        remedy = "Install the package dask-jobqueue."
        raise MissingExtraError("extra.jobqueue", "needs dask-jobqueue", key="cluster", value=system, remedy=remedy) from error
    cluster = held.enter_context(getattr(jobqueue, _JOBS[system])(**options))
    cluster.scale(workers)
    return cluster, workers


def _described(file: Path) -> tuple[str, Mapping[str, Any], int]:
    """Batch system, arguments and number of workers of a YAML file."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OptionError(
            "cluster.file", f"cannot be read ({error})", key="cluster", value=str(file), remedy="Name a YAML file."
        ) from error
    systems = [name for name in _JOBS if isinstance(found, dict) and isinstance(found.get(name), dict)]
    workers = found.get("workers") if isinstance(found, dict) else None
    if len(systems) != 1 or set(found) != {*systems, "workers"} or not isinstance(workers, int) or workers < 1:
        rule = f"must have the key workers, a number, and one of {', '.join(_JOBS)} with the arguments of dask-jobqueue"
        remedy = "Write for example {workers: 16, slurm: {cores: 2, memory: 16GB, walltime: '4:00:00'}}."
        raise OptionError("cluster.file", rule, key="cluster", file=file, remedy=remedy)
    return systems[0], found[systems[0]], workers
