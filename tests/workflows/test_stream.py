"""Workflows from Python: events in a loop, or the outcome at once; work that was never started is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.events import Artefact, Epoch, Event, FileWritten, Finished, Logged, Warned
from morula.testing.errors import raises
from morula.workflows.stream import Outcome, events_of, outcome_of


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("train", lambda: morula.train("nuclei.yaml")),
        ("iter_run", lambda: morula.iter_run("nuclei.yaml")),
        ("predict", lambda: morula.predict("runs/a")),
        ("segment", lambda: morula.segment("scan.tif", model="runs/a", output="out")),
        ("evaluate", lambda: morula.evaluate("runs/a")),
        ("tune", lambda: morula.tune("runs/a")),
        ("compare", lambda: morula.compare("job.yaml", ["F+C"], output="out")),
        ("replay", lambda: morula.replay("runs/a")),
    ],
)
def test_work_that_is_never_started_is_told(name: str, call: Callable[[], object]) -> None:
    events = [call()]
    assert repr(events[0]) == f"<events of morula.{name}, not started: loop over them, or call .result()>"
    with pytest.warns(RuntimeWarning) as caught:
        events.clear()
    assert [str(each.message).partition("(")[0] for each in caught] == [f"morula.{name}"]


def test_a_run_works_without_a_loop(tmp_path: Path) -> None:
    with raises("job.no_file"):
        morula.run(tmp_path / "nuclei.yaml")


def test_events_end_their_work_when_the_reader_stops() -> None:
    ended = []

    @events_of("morula.work")
    def work() -> object:
        try:
            yield Logged("one")
            yield Logged("two")
        finally:
            ended.append(True)

    events = work()
    assert next(events).message == "one"
    events.close()
    assert ended == [True]
    again = work()
    next(again)
    with pytest.raises(KeyError):
        again.throw(KeyError("a"))


def test_the_outcome_of_a_run(run2d: Path, data2d: Path) -> None:
    outcome = morula.run(data2d.parent / "job.yaml", output=run2d, resume=True)
    assert (outcome.folder, outcome.finished, outcome.report) == (run2d, True, run2d / "report.html")
    assert len(outcome.paths("labels")) == 2
    assert set(outcome.objects["image"]) == {"nuclei_000", "nuclei_001"}
    assert {"image", "threshold", "f1"} <= set(outcome.scores)
    labels = outcome.model.segment(morula.read(data2d / "test/images/nuclei_000.tif"))
    np.testing.assert_array_equal(labels, morula.read(run2d / "objects/nuclei_000.tif"))
    lines = repr(outcome).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith(f"Outcome of {str(run2d)!r}: finished")


def test_a_stopped_training_is_not_finished() -> None:
    told: list[Event] = [Finished(1.0, run="a"), Epoch(1, 2, 3, {}, 1.0, run="a"), Warned("a.b", "stopped", run="a")]
    outcome = outcome_of(iter(told))
    assert not outcome.finished
    assert outcome.warnings == ("stopped",)


def test_tables_that_were_not_made_are_errors(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, (FileWritten(tmp_path / "gone.csv", Artefact.SCORES),))
    with raises("outcome.no_table"):
        _ = outcome.scores
    with raises("model.missing"):
        _ = outcome.model
