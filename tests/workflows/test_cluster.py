"""Blocks on the workers of a Dask cluster: the bytes of one process, lost workers, addresses."""

from __future__ import annotations

import functools
import operator
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
from tests.workflows.encoded_images import encoded_image, model_of

from morula.core.events import Event, Logged, Progress
from morula.inference.memory import parse_bytes
from morula.testing.errors import raises
from morula.workflows import cluster
from morula.workflows.batch import Batch
from morula.workflows.segment import segment

distributed = pytest.importorskip("distributed")
MEMORY = "24MB"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with two worker processes, which get the definitions of these tests from the client."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": ":0"}
    # a task that two workers were lost with is given up, not the fourth time
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), distributed.LocalCluster(2, **options) as started:
        yield started.scheduler_address
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def threads() -> Iterator[str]:
    """Address of a scheduler with two workers in this process, which need not import everything."""
    with distributed.LocalCluster(
        2, processes=False, protocol="tcp", threads_per_worker=1, memory_limit=0, dashboard_address=":0"
    ) as started:
        yield started.scheduler_address


def dies_once(folder: Path, number: int) -> None:
    """Ends its process where no other one has, else writes a file."""
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        (folder / str(number)).touch()
        return
    os._exit(1)


def test_tasks_of_a_lost_worker_are_computed_again(scheduler: str, tmp_path: Path) -> None:
    with cluster.opened(scheduler) as found:
        assert found.count == 2
        assert sorted(found.run(functools.partial(dies_once, tmp_path), range(40), tmp_path)) == list(range(40))
        assert {path.name for path in tmp_path.iterdir()} == {"died", *map(str, range(40))}
        assert list(found.run(operator.neg, [], tmp_path)) == []
        with raises("memory.size"):
            list(found.run(parse_bytes, ["stone"], tmp_path))
        with raises("workers.lost"):
            list(found.run(os._exit, [1], tmp_path))
    assert not list(tmp_path.glob("work*"))


def test_blocks_of_a_cluster_give_the_bytes_of_one_process(run2d: Path, threads: str, tmp_path: Path) -> None:
    image, model = encoded_image(tmp_path / "cells.ome.zarr", (300, 1100), 500), model_of(run2d)
    events: dict[str, list[Event]] = {}
    for name, address in (("one", None), ("cluster", threads)):
        events[name] = list(segment(image, model=model, output=tmp_path / f"{name}.tif", memory=MEMORY, cluster=address))
    for suffix in (".tif", ".csv"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"cluster{suffix}").read_bytes()
    assert any(isinstance(event, Logged) and "dashboard" in event.message for event in events["cluster"])
    done = {event.unit for event in events["cluster"] if isinstance(event, Progress)}
    assert {"part", "block", "object"} <= done
    assert not any("unfinished" in path.name for path in tmp_path.iterdir())
    with raises("cluster.array"):
        list(segment(np.zeros((3, 40, 40), np.float32), model=model, output=tmp_path / "a.tif", cluster=threads))


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "slurm.yaml"
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    for address, code in (
        ("local:0", "cluster.address"),
        ("scheduler", "cluster.address"),
        ("tcp://127.0.0.1:9", "cluster.unreachable"),
        (str(file), "cluster.file"),
    ):
        with raises(code), cluster.opened(address):
            pass
    texts = ("a: [", "slurm: {}", "{workers: 2, slurm: {}, pbs: {}}", "{workers: 0, slurm: {}}", "{workers: 2, slurm: {}, more: 1}", "3")
    for text in texts:
        file.write_text(text)
        with raises("cluster.file"), cluster.opened(str(file)):
            pass


def test_a_batch_system_is_asked_for_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Jobs(distributed.LocalCluster):  # type: ignore[misc]
        def __init__(self, **options: object) -> None:
            asked.append(options)
            super().__init__(0, processes=False, dashboard_address=":0")

    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=Jobs))
    file = tmp_path / "slurm.yaml"
    file.write_text("{workers: 2, slurm: {cores: 2, memory: 16GB}}")
    with cluster.opened(str(file)) as found:
        assert found.count == 2
        assert list(found.run(operator.neg, [3], tmp_path)) == [3]
    assert asked == [{"cores": 2, "memory": "16GB"}]


def test_work_is_divided_in_one_way(tmp_path: Path) -> None:
    for options in ({"workers": 2}, {"batch": Batch(shard="1/2")}):
        with raises("cluster.other_division"):
            list(segment(np.zeros((40, 40)), output=tmp_path / "a.tif", cluster="local:2", **options))  # type: ignore[arg-type]
