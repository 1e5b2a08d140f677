"""`kill -9` in the middle of writing: the same command again gives the same results. `python -m bench trust` does this at random points."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from morula.core.events import Event
from morula.core.manifest import foreign_entries
from morula.dialects.verbs import train
from morula.workflows.predict import predict
from morula.workflows.segment import segment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TIMED = ("logs/log.txt", "events.jsonl", "manifest.jsonl", ".morula.jsonl", "provenance.json", "logs/training.csv")


def results(folder: Path) -> dict[str, bytes]:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if "tfevents" not in name and not name.endswith(TIMED)}


def killed_at(rename: int, command: Callable[[], Iterable[Event]]) -> None:
    """Run a command in a process that is killed before this rename of a finished file."""
    child = os.fork()
    if not child:
        try:
            os.replace = _killing(os.replace, rename)  # type: ignore[assignment]
            list(command())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _killing(replace: Callable[..., None], rename: int) -> Callable[..., None]:
    count = 0

    def killing(*args: object) -> None:
        nonlocal count
        count += 1
        if count == rename:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)

    return killing


@pytest.mark.parametrize("point", [4, 7])
def test_train(project: Path, finished: Path, point: int) -> None:
    run, job = project / "again", finished / "job.yaml"
    options = {"overrides": ["training.checkpoint_every=1 steps"], "device": "cpu"}
    list(train(job, output=project / "whole", **options))  # type: ignore[arg-type]
    killed_at(point, lambda: train(job, output=run, **options))  # type: ignore[arg-type]
    assert not list(foreign_entries(run))
    list(train(job, output=run, resume=True))
    whole, again = results(project / "whole"), results(run)
    assert whole.keys() == again.keys()
    assert all(whole[name] == again[name] for name in whole if "state.pt" not in name)


@pytest.mark.parametrize("point", [2, 5])
def test_predict_and_segment(project: Path, point: int) -> None:
    run, images = project / "run", project / "images"
    images.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(next((project / "data/test/images").glob("*.tif")), images / f"{name}.tif")
    list(predict(run, device="cpu"))
    whole = results(run)
    killed_at(point, lambda: predict(run, device="cpu"))
    list(predict(run, device="cpu"))
    assert results(run) == whole
    list(segment(images, model=run, output=project / "whole", device="cpu"))
    killed_at(point, lambda: segment(images, model=run, output=project / "again", device="cpu"))
    list(segment(images, model=run, output=project / "again", device="cpu"))
    assert results(project / "again") == results(project / "whole")
