"""The laws of events: they nest, and a record gives the event back."""

import json
import math
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.core.events import (
    Artefact,
    Epoch,
    Event,
    Failed,
    FileWritten,
    Finished,
    Logged,
    Preview,
    Progress,
    Started,
    Warned,
    below,
    from_record,
    to_record,
)
from morula.testing.errors import raises

NAMES = st.text(max_size=8)
COUNTS = st.integers(0, 10**9)
FIGURES = st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
PLACES = {"run": NAMES, "task": st.lists(NAMES, max_size=3).map(tuple)}
EVENTS = st.one_of(
    st.builds(Started, st.none() | COUNTS, NAMES, NAMES, **PLACES),
    st.builds(Progress, COUNTS, st.none() | COUNTS, NAMES, NAMES, **PLACES),
    st.builds(Epoch, COUNTS, COUNTS, COUNTS, FIGURES, st.floats(0, 1e9), st.booleans(), **PLACES),
    st.builds(FileWritten, st.sampled_from([Path("runs/a/objects/b.tif"), Path("elsewhere/c.tif")]), st.sampled_from(Artefact), **PLACES),
    st.builds(Warned, NAMES, NAMES, **PLACES),
    st.builds(Logged, NAMES, **PLACES),
    st.builds(Finished, st.floats(0, 1e9), FIGURES, **PLACES),
    st.builds(Failed, NAMES, NAMES, **PLACES),
)


@given(EVENTS)
def test_record_gives_event_back(event: Event) -> None:
    assert from_record(json.loads(json.dumps(to_record(event), allow_nan=False))) == event


def test_paths_follow_a_moved_run() -> None:
    record = to_record(FileWritten(Path("runs/a/objects/b.tif"), Artefact.LABELS), Path("runs/a"))
    assert record["path"] == "objects/b.tif"
    assert from_record(record, Path("/moved")) == FileWritten(Path("/moved/objects/b.tif"), Artefact.LABELS)


def test_not_finite_is_null() -> None:
    record = to_record(Epoch(1, 2, 3, {"loss": math.nan, "f1": np.float32(0.5)}, math.inf))  # type: ignore[dict-item]
    assert (record["figures"], record["seconds"]) == ({"loss": None, "f1": 0.5}, None)
    event = from_record({**record, "seconds": 1.0})
    assert isinstance(event, Epoch)
    assert math.isnan(event.figures["loss"])


def test_no_record() -> None:
    with raises("events.no_record"):
        to_record(Preview("x", np.zeros((2, 2))))
    with raises("events.unknown_record", value="party"):
        from_record({"event": "party"})
    with raises("events.incomplete_record", value="progress"):
        from_record({"event": "progress"})


def test_below_nests_and_returns() -> None:
    def inner() -> Generator[Event, None, int]:
        yield Logged("x", run="own")
        yield Progress(1, 2, "tile")
        return 7

    def outer() -> Generator[Event, None, int]:
        return (yield from below("predict", below("a", inner()), run="runs/a")) + 1

    events = outer()
    assert next(events) == Logged("x", run="own", task=("predict", "a"))
    assert next(events) == Progress(1, 2, "tile", run="runs/a", task=("predict", "a"))
    with pytest.raises(StopIteration) as end:
        next(events)
    assert end.value.value == 8


def test_below_closes_inner() -> None:
    closed = []

    def inner() -> Generator[Event, None, None]:
        try:
            yield Logged("x")
            yield Logged("y")
        finally:
            closed.append(True)

    events = below("a", inner())
    next(events)
    events.close()
    assert closed == [True]
