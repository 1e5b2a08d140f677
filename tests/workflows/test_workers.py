"""Work in several processes: its results, its errors, and what happens when a process dies."""

import math
import os

from morula.inference.memory import parse_bytes
from morula.testing.errors import raises
from morula.workflows.workers import check_workers, results


def test_results_are_those_of_one_process() -> None:
    items = [float(n) for n in range(9)]
    assert sorted(results(math.sqrt, items, 2)) == list(results(math.sqrt, items, 1))
    assert list(results(math.sqrt, [], 2)) == []


def test_errors_keep_their_code() -> None:
    with raises("memory.size"):
        list(results(parse_bytes, ["1GB", "stone"], 2))


def test_a_killed_worker_is_named() -> None:
    with raises("workers.lost"):
        list(results(os._exit, [1, 1], 2))


def test_there_is_at_least_one() -> None:
    with raises("workers.number"):
        check_workers(0)
