"""Work in several processes: its results, its errors, and what happens when a process dies."""

import signal
from pathlib import Path

from morula.inference.memory import parse_bytes
from morula.testing.errors import raises
from morula.workflows import workers
from morula.workflows.workers import Processes, check_workers


def test_processes_are_used_again_and_keep_the_code_of_errors(tmp_path: Path) -> None:
    touched, processes = [tmp_path / str(n) for n in range(9)], Processes(2)
    assert sorted(processes.run(Path.touch, touched, tmp_path)) == touched
    assert sorted(tmp_path.iterdir()) == touched
    first = processes._pool
    assert sorted(processes.run(Path.unlink, touched, tmp_path)) == touched
    assert processes._pool is first
    assert list(processes.run(Path.unlink, [], tmp_path)) == []
    with raises("memory.size"):
        list(processes.run(parse_bytes, ["1GB", "stone"], tmp_path))
    assert processes._pool is None
    assert not list(tmp_path.iterdir())


def test_a_killed_worker_is_named(tmp_path: Path) -> None:
    with raises("workers.lost"):
        list(Processes(2).run(signal.raise_signal, [signal.SIGKILL] * 2, tmp_path))
    assert not list(tmp_path.iterdir())


def test_changed_work_is_not_read(tmp_path: Path) -> None:
    file, digest = workers.stored(Path.touch, tmp_path)
    workers.applied(str(file), digest, tmp_path / "touched")
    assert (tmp_path / "touched").exists()
    file.write_bytes(b"other")
    workers._loaded.cache_clear()
    with raises("workers.changed_work"):
        workers.applied(str(file), digest, tmp_path)


def test_there_is_at_least_one() -> None:
    with raises("workers.number"):
        check_workers(0)
