"""The search of thresholds and operations on the validation images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import morula
from morula.core.events import Finished, Progress, Started
from morula.decoders.search_space import refinement_space
from morula.jobs.load import load_job
from morula.jobs.tuning import changed
from morula.measurement.csv_table import read_table
from morula.metrics.matching import match, pool
from morula.testing.errors import raises
from morula.workflows.prepare import prepare, validation_parts


@pytest.fixture
def run(run2d: Path, tmp_path: Path) -> Path:
    """A finished run of its own."""
    return Path(shutil.copytree(run2d, tmp_path / "run"))


def _objects(run: Path) -> dict[str, object]:
    return dict(yaml.safe_load((run / "job.yaml").read_text())["objects"])


def test_best_setting_is_recorded(run: Path, data2d: Path) -> None:
    users = (data2d.parent / "job.yaml").read_bytes()
    events = list(morula.tune(run))
    assert isinstance(events[0], Started)
    assert any(isinstance(event, Progress) and event.task == ("tune",) for event in events)
    record = _objects(run)["tuned"]
    assert isinstance(record, dict)
    assert record["score_after"] >= record["score_before"]
    assert record["before"].keys() == record["after"].keys()
    assert all(record["before"][key] != record["after"][key] for key in record["after"])
    assert json.loads((run / "model/model.json").read_text())["job"]["objects"] == _objects(run)
    assert (data2d.parent / "job.yaml").read_bytes() == users
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.figures == {"f1 before": record["score_before"], "f1": record["score_after"]}


def test_tuned_score_is_that_of_the_model(run: Path) -> None:
    *_, last = morula.tune(run, thresholds=[0.5])
    model = morula.load(run)
    scores = [
        match(np.asarray(source.labels), np.asarray(model.segment(source.image)), thresholds=(0.5,))
        for source, _ in validation_parts(model)
    ]
    assert isinstance(last, Finished)
    np.testing.assert_allclose(last.figures["f1"], pool(scores)[0].f1)


def test_the_held_out_images_are_those_of_the_training(run: Path) -> None:
    job = load_job(run / "job.yaml")
    prepared = prepare(job)
    assert prepared.validation is not None
    trained, held = ({source.name for source in part.sources} for part in (prepared.train, prepared.validation))
    assert {source.name for source, _ in validation_parts(morula.load(run))} == held
    assert not held & trained


def test_test_images_are_never_looked_at(run: Path, tmp_path: Path) -> None:
    job = load_job(run / "job.yaml")
    gone = job.images.test.model_copy(update={"raw": str(tmp_path / "gone"), "labels": str(tmp_path / "gone")})
    job = job.model_copy(update={"images": job.images.model_copy(update={"test": gone})})
    assert validation_parts(replace(morula.load(run), job=job))


def test_a_stopped_search_goes_on_and_finds_the_same(run: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    list(morula.tune(whole))
    asked = iter([False] * 7)
    before = (run / "job.yaml").read_bytes()
    events = list(morula.tune(run, stop=lambda: next(asked, True)))
    assert not any(isinstance(event, Finished) for event in events)
    assert (run / "job.yaml").read_bytes() == before
    tried = read_table(run / "tuning/trials.csv")["setting"].tolist()
    assert len(tried) == 8
    list(morula.tune(run))
    assert _objects(run) == _objects(whole)
    assert read_table(run / "tuning/trials.csv")["setting"].tolist()[:8] == tried


@pytest.mark.parametrize("damaged", ["trials.csv", "search.json", "predictions/0.npy"])
def test_a_damaged_search_is_refused_and_changes_nothing(damaged: str, run: Path) -> None:
    list(morula.tune(run, stop=lambda: True))
    (run / "tuning" / damaged).write_text("setting\n1,2,3\n")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with raises("run_folder.damaged_file", file=str(run / "tuning" / damaged)):
        list(morula.tune(run))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_tuning_twice_is_tuning_once(run: Path) -> None:
    list(morula.tune(run))
    first = _objects(run)
    list(morula.tune(run))
    assert _objects(run) == first


def test_corrected_labels_are_scored_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from morula.workflows import tune

    *_, first = morula.tune(run)
    monkeypatch.setattr(tune, "validation_labels", lambda source: np.zeros_like(np.asarray(source.labels)))
    *_, second = morula.tune(run)
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert first.figures["f1"] > 0
    assert second.figures["f1"] == 0


def test_of_a_repeated_operation_the_first_is_tuned() -> None:
    operations = [{"dilation": 3}, "fill_holes", {"dilation": 1}]
    job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": "channels", "objects": {"refine": operations}})
    space = refinement_space(job.objects.refine, np.array([100]))
    first = {f"objects.refine.{name}": values[0] for name, values in space.items()}
    assert changed(job, first).objects.refine == job.objects.refine
    fewer = changed(job, {**first, "objects.refine.dilation": 0})
    assert [getattr(each, "radius", None) for each in fewer.objects.refine] == [None, 1]


def test_another_figure_is_raised_when_asked(run: Path) -> None:
    *_, last = morula.tune(run, metric="panoptic_quality", thresholds=[0.5, 0.6])
    record = _objects(run)["tuned"]
    assert isinstance(last, Finished)
    assert isinstance(record, dict)
    assert set(last.figures) == {"panoptic_quality before", "panoptic_quality"}
    assert (record["metric"], record["thresholds"]) == ("panoptic_quality", [0.5, 0.6])


def test_unknown_metric_and_threshold(run: Path) -> None:
    with raises("tune.unknown_metric", key="metric", value="f2", remedy="Did you mean 'f1'?"):
        list(morula.tune(run, metric="f2"))
    with raises("tune.threshold", value=1.5):
        list(morula.tune(run, thresholds=[1.5]))


@pytest.mark.slow
def test_job_tunes_after_training(job_text: Callable[..., str], data2d: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(job_text().replace("data/", f"{data2d}/") + "objects: {tune: {thresholds: [0.5]}}\n")
    events = list(morula.iter_run(job, output=tmp_path / "run"))
    assert [event.task for event in events if isinstance(event, Finished)][:3] == [("train",), ("tune",), ("predict",)]
    page = (tmp_path / "run/report.html").read_text()
    assert "Tuned on the validation images" in page
    assert "at 0.5 " in page


def test_without_validation_images_it_is_refused(run: Path, job_text: Callable[..., str], data2d: Path, tmp_path: Path) -> None:
    for file in (run / "job.yaml", run / "model/model.json"):
        text = file.read_text()
        file.write_text(text.replace("validate: 0.25", "validate: 0.0").replace('"validate": 0.25', '"validate": 0.0'))
    with raises("tune.no_validation", key="images.validate"):
        list(morula.tune(run))
    job = tmp_path / "job.yaml"
    job.write_text(job_text().replace("data/", f"{data2d}/").replace("25%", "0%") + "objects: {tune: true}\n")
    with raises("tune.no_validation", key="objects.tune"):
        list(morula.train(job, output=tmp_path / "none"))


def test_values_are_set_at_dotted_keys(run: Path) -> None:
    job = load_job(run / "job.yaml")
    values = {"objects.decoder.kind": "watershed", "objects.decoder.seeds.F": 0.25, "objects.refine.remove_small": 7}
    other = changed(job, values)
    assert other.objects.decoder.seeds == {"F": 0.25}
    assert [each.model_dump() for each in other.objects.refine] == [{"size": 7, "kind": "remove_small"}]
    assert changed(other, {"objects.refine.remove_small": 0}).objects.refine == ()


def test_a_threshold_of_two_classes_is_tuned(job_text: Callable[..., str], data2d: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    for source in ("train", "test"):
        for file in sorted((data2d / source / "labels").iterdir()):
            target = tmp_path / source / "labels" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            morula.write(target, (np.asarray(morula.read(file)) > 0).astype(np.uint8), axes="YX", labels=True)
    text = job_text("{kind: semantic}").replace("data/train/labels", str(tmp_path / "train/labels"))
    text = text.replace("data/test/labels", str(tmp_path / "test/labels")).replace("data/", f"{data2d}/")
    job.write_text(text)
    list(morula.train(job, output=tmp_path / "run"))
    *_, last = morula.tune(tmp_path / "run")
    assert isinstance(last, Finished)
    assert last.figures["iou"] >= last.figures["iou before"]
    trials = read_table(tmp_path / "run/tuning/trials.csv")
    assert trials["figure"].max() == pytest.approx(last.figures["iou"])


def test_filtered_objects_are_not_scored(run: Path) -> None:
    for file in (run / "job.yaml", run / "model/model.json"):
        text = file.read_text().replace("filter: []", "filter: [[npixels > 0]]").replace('"filter": []', '"filter": [["npixels > 0"]]')
        file.write_text(text)
    *_, last = morula.tune(run)
    assert isinstance(last, Finished)
    assert last.figures == {"f1 before": 0.0, "f1": 0.0}


def test_only_measures_of_filters_are_computed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from morula.measurement import measure

    for file in (run / "job.yaml", run / "model/model.json"):
        text = file.read_text().replace("filter: []", "filter: [[extent < 0.1]]").replace('"filter": []', '"filter": [["extent < 0.1"]]')
        file.write_text(text.replace("extra: []", "extra: [solidity, extent]").replace('"extra": []', '"extra": ["solidity", "extent"]'))
    taken, original = set(), measure._extra

    def recorded(names, *arguments):  # type: ignore[no-untyped-def]
        taken.add(tuple(names))
        return original(names, *arguments)

    monkeypatch.setattr(measure, "_extra", recorded)
    list(morula.tune(run))
    assert taken - {()} == {("extent",)}  # the calibration measures nothing extra
    assert _objects(run)["measure"]["extra"] == ["solidity", "extent"]  # type: ignore[index]
