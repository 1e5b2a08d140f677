"""`predict` and `evaluate` on a run: corrected labels stay, results of other images go, an interrupted prediction continues."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from morula.core.events import FileWritten, Progress, Warned
from morula.core.manifest import foreign_entries
from morula.dialects.verbs import iter_run, train
from morula.jobs.load import load_job, validate
from morula.jobs.run_folder import RunFolder
from morula.jobs.yaml_lines import Document
from morula.measurement.csv_table import read_table
from morula.report.build import write_report
from morula.testing.errors import raises
from morula.workflows.compare import compare
from morula.workflows.evaluate import evaluate
from morula.workflows.predict import predict
from morula.workflows.tune import tune


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(project: Path, finished: Path) -> RunFolder:
    """A run with two test images."""
    folder = RunFolder(project / "run")
    for kind in ("images", "labels"):
        source = next((project / "data/test" / kind).glob("*.tif"))
        shutil.copy(source, source.with_name("other.tif"))
    moved = load_job(folder.job_file).model_dump(mode="json", by_alias=True)
    text = json.dumps(moved).replace(str(finished), str(project))
    with folder.in_use():
        folder.write_job(validate(Document(json.loads(text), {}, None)))
    list(predict(folder.path, device="cpu"))
    return folder


def test_corrected_labels_are_not_replaced(place: RunFolder) -> None:
    labels = place.objects / "other.tif"
    labels.write_bytes(labels.read_bytes() + b"corrected")
    before = files(place.path)
    with raises("output.not_own", file=str(labels)):
        list(predict(place.path, device="cpu"))
    assert {**files(place.path), "logs/log.txt": b"", "events.jsonl": b""} == {**before, "logs/log.txt": b"", "events.jsonl": b""}


@pytest.mark.parametrize("changed", [False, True])
def test_results_of_images_that_are_no_more(place: RunFolder, project: Path, changed: bool) -> None:
    table = place.objects / "other.csv"
    for kind in ("images", "labels"):
        (project / "data/test" / kind / "other.tif").unlink()
    if changed:
        table.write_text(table.read_text() + "# mine\n")
    warned = [event.code for event in predict(place.path, device="cpu") if isinstance(event, Warned)]
    assert ("predict.stale_results" in warned) == table.exists() == changed
    assert not (place.objects / "other.tif").exists()
    assert {path.stem for path in place.objects.glob("*.tif")} == {"nuclei_000"}


def test_an_interrupted_prediction_continues(place: RunFolder) -> None:
    whole = files(place.path)
    events = predict(place.path, device="cpu")
    for event in events:
        if isinstance(event, Progress) and event.unit == "image":
            break
    events.close()  # type: ignore[attr-defined]
    done = place.objects / "nuclei_000.tif"
    stamp = done.stat().st_mtime_ns
    list(predict(place.path, device="cpu"))
    assert done.stat().st_mtime_ns == stamp
    again = files(place.path)
    grown = ("logs/log.txt", "events.jsonl", "manifest.jsonl", "provenance.json")
    assert {name: text for name, text in again.items() if name not in grown} == {
        name: text for name, text in whole.items() if name not in grown
    }
    assert not list(foreign_entries(place.path))
    list(predict(place.path, device="cpu"))  # a finished prediction is made again
    assert done.stat().st_mtime_ns != stamp


def test_evaluate_writes_the_report_again(place: RunFolder) -> None:
    write_report(place.path)
    written = {event.path for event in evaluate(place.path) if isinstance(event, FileWritten)}
    assert place.report_file in written
    place.report_file.unlink()
    list(evaluate(place.path))
    assert not place.report_file.exists()


def test_a_report_of_somebody_else_stays(place: RunFolder) -> None:
    place.report_file.write_text("mine")
    for command in (evaluate, predict):
        assert "report.not_own" in [event.code for event in command(place.path) if isinstance(event, Warned)]
    assert place.report_file.read_text() == "mine"


def test_a_finished_run_is_extended(project: Path) -> None:
    folder, more = project / "run", ["training.epochs=2"]
    before = files(folder)
    for command in (iter_run, train):
        with raises("resume.other_settings", key="training.epochs"):
            list(command(project / "job.yaml", output=folder, resume=True, overrides=more))
    assert files(folder) == before
    list(iter_run(project / "job.yaml", output=folder, resume=True, overrides=[*more, "training.schedule=constant"]))
    rows = (folder / "logs" / "training.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == ["1", "2"]
    assert load_job(folder / "job.yaml").training.epochs == 2
    assert files(folder)["model/weights.safetensors"] != before["model/weights.safetensors"]
    assert not list(foreign_entries(folder))


def test_a_tuned_run_says_that_its_objects_are_older(project: Path) -> None:
    folder = RunFolder(project / "run")
    with folder.in_use():
        assert folder.mark_stale("other settings")
    list(tune(folder.path))
    assert b"out of date" in folder.report_file.read_bytes()
    assert set(read_table(folder.scores_file)["out_of_date"]) == {"other settings"}
    assert not list(foreign_entries(folder.path))
    compared = compare(project / "job.yaml", (), output=project / "comparison", runs=[folder.path])
    assert any(isinstance(event, Warned) and event.code == "compare.out_of_date" for event in compared)
    list(predict(folder.path, device="cpu"))
    assert not folder.stale_file.exists()
    assert "out_of_date" not in read_table(folder.scores_file)
    assert b"out of date" not in folder.report_file.read_bytes()


def test_an_image_that_does_not_fit_as_a_whole_is_rejected(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morula.models.model.Model.block_problem", lambda _: "it must be whole")
    warned = [event.code for event in predict(project / "run", memory="100KB", device="cpu") if isinstance(event, Warned)]
    assert "prediction.memory_exceeded" in warned
    monkeypatch.setattr("morula.inference.memory.available_memory", lambda *_: 1000)
    with raises("memory.image_too_large") as caught:
        list(predict(project / "run", device="cpu"))
    assert "it must be whole" in caught.error.rule


def test_an_image_that_vanishes_is_said_to_be_gone(place: RunFolder, project: Path) -> None:
    events = predict(place.path, device="cpu")
    for event in events:
        if isinstance(event, Progress) and event.unit == "image":
            break
    (project / "data").rename(project / "gone")
    with raises("file.vanished", file=str(project / "data/test/images/other.tif")):
        list(events)
    (project / "gone").rename(project / "data")
    list(predict(place.path, device="cpu"))
