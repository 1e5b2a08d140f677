"""Blocks of one image that several processes share: any order, at the same time, killed, missing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from tests.workflows.encoded_images import encoded_image, model_of

from morula.core.events import Event, Logged, Progress
from morula.io.read import read_labels
from morula.models.model import Model
from morula.testing.errors import raises
from morula.workflows.batch import Batch
from morula.workflows.segment import segment

MEMORY = "24MB"
"""Six blocks."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_image(tmp_path_factory.mktemp("image") / "cells.ome.zarr", (300, 1100), 500)


@pytest.fixture(scope="module")
def model(run2d: Path) -> Model:
    return model_of(run2d, filter=[["npixels > 400"]])


@pytest.fixture(scope="module")
def whole(image: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process."""
    folder = tmp_path_factory.mktemp("whole")
    list(segment(image, model=model, output=folder / "cells.tif", memory=MEMORY))
    return folder


def forked(command: Callable[[], Iterable[Event]], *, killed_at: int = 0) -> int:
    """A process with a command; it is killed before this rename of a finished file."""
    child = os.fork()
    if child:
        return child
    count, replace = 0, os.replace

    def counting(*args: object) -> None:
        nonlocal count
        count += 1
        if count == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)  # type: ignore[arg-type]

    try:
        os.replace = counting  # type: ignore[assignment]
        list(command())
        os._exit(0)
    finally:
        os._exit(1)


def ended(children: Iterable[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def same(folder: Path, whole: Path) -> None:
    names = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert names == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for name in sorted(names):
        if name.name == "cells.provenance.json":
            one, other = (json.loads((place / name).read_text()) for place in (folder, whole))
            assert {**one, "written": 0} == {**other, "written": 0}
        elif name.name != ".morula.jsonl":
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_tasks_in_any_order_give_the_bytes_of_one_process(image: Path, model: Model, whole: Path, tmp_path: Path) -> None:
    def task(batch: Batch) -> Iterable[Event]:
        return segment(image, model=model, output=tmp_path / "cells.tif", memory=MEMORY, batch=batch)

    with raises("batch.unfinished"):
        list(task(Batch(merge=True)))
    assert not list(tmp_path.iterdir())
    # at the same time, and one of them is killed
    codes = ended([forked(lambda: task(Batch(shard="3/3"))), forked(lambda: task(Batch(shard="1/3")), killed_at=6)])
    assert codes == [0, -signal.SIGKILL]
    with raises("shares.unfinished") as caught:
        list(task(Batch(merge=True)))
    assert caught.error.value == [1, 2]
    assert ended([forked(lambda: task(Batch(shard="2/3")))]) == [0]
    assert ended([forked(lambda: task(Batch(shard="1/3")))]) == [0]  # the last one has all predictions, and decodes
    store = tmp_path / ".cells.tif.unfinished"
    with raises("shares.unfinished") as caught:
        list(task(Batch(merge=True)))
    assert caught.error.value == [2, 3]
    stamps = {path: path.stat().st_mtime_ns for path in store.glob("*_*.json")}
    children = [forked(lambda n=n: task(Batch(shard=f"{n}/3")), killed_at=3 if n == 2 else 0) for n in (3, 2)]
    assert ended(children) == [0, -signal.SIGKILL]
    events = list(task(Batch(shard="2/3")))
    assert any(isinstance(event, Logged) and "all blocks are finished" in event.message for event in events)
    assert stamps == {path: path.stat().st_mtime_ns for path in store.glob("*_*.json")}  # nothing was predicted again
    events = list(task(Batch(merge=True)))
    assert not any(isinstance(event, Progress) and event.task[-1] == "tiles" for event in events)
    same(tmp_path, whole)
    assert np.asarray(read_labels(tmp_path / "cells.tif")).max() > 100


def test_the_share_of_another_process_is_refused(run2d: Path, image: Path, model: Model, tmp_path: Path) -> None:
    def task(**changes: object) -> Iterable[Event]:
        given = {"model": model, "output": tmp_path / "cells.tif", "memory": MEMORY, "batch": Batch(shard="1/2"), **changes}
        return segment(image, **given)  # type: ignore[arg-type]

    steps = task()
    next(event for event in steps if isinstance(event, Progress) and event.task[-1] == "tiles")
    for batch in (Batch(shard="1/2"), Batch(merge=True), Batch()):
        with raises("output.in_use" if not batch.merge else "shares.unfinished"):
            list(task(batch=batch))
    with raises("shares.count"):
        list(task(batch=Batch(shard="2/3")))
    with raises("shares.memory"):
        list(task(batch=Batch(shard="2/2"), memory="20MB"))
    with raises("resume.other_command"):
        list(task(batch=Batch(shard="2/2"), model=model_of(run2d, refine=["fill_holes"])))
    steps.close()  # type: ignore[attr-defined]


def test_images_that_fit_are_shared_one_by_one(image: Path, model: Model, whole: Path, tmp_path: Path) -> None:
    small = encoded_image(tmp_path / "small.ome.zarr", (60, 60), 12)
    images, out = [str(small), str(image)], tmp_path / "out"
    for shard in ("2/2", "1/2", "2/2"):
        list(segment(images, model=model, output=out, memory=MEMORY, batch=Batch(shard=shard, resume=True)))
    list(segment(images, model=model, output=out, memory=MEMORY, batch=Batch(merge=True)))
    assert (out / "cells.tif").read_bytes() == (whole / "cells.tif").read_bytes()
    assert (out / "cells.csv").read_bytes() == (whole / "cells.csv").read_bytes()
    assert len((out / "summary.csv").read_text().splitlines()) == 3
