"""Commands on a finished run: what they refuse, and that a refusal changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import morula
from morula.core.errors import MorulaError
from morula.core.manifest import foreign_entries
from morula.dialects.verbs import iter_run, train
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table, write_table
from morula.testing.errors import raises
from morula.workflows.evaluate import evaluate
from morula.workflows.measure import measure_file
from morula.workflows.predict import predict
from morula.workflows.segment import segment


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_a_run_is_recorded(project: Path) -> None:
    assert not list(foreign_entries(project / "run"))
    (project / "run" / "thesis.txt").write_text("mine")
    before = files(project)
    with raises("run_folder.foreign_files"):
        list(iter_run(project / "job.yaml", output=project / "run", overwrite=True))
    with raises("output.contains_input"):
        list(iter_run(project / "job.yaml", output=project, overwrite=True))
    assert files(project) == before


@pytest.mark.parametrize("setting", ["training.seed=7", "network.features=[4,16]", "training.epochs=x"])
def test_a_refused_resume_changes_nothing(project: Path, setting: str) -> None:
    before = files(project / "run")
    with pytest.raises(MorulaError):
        list(train(project / "job.yaml", output=project / "run", resume=True, overrides=[setting]))
    assert files(project / "run") == before
    list(train(project / "job.yaml", output=project / "run", resume=True))


def test_a_run_in_use_is_refused(project: Path) -> None:
    before = files(project / "run")
    with RunFolder(project / "run").in_use():
        for command in (
            lambda: train(project / "job.yaml", output=project / "run", resume=True),
            lambda: iter_run(project / "job.yaml", output=project / "run", overwrite=True),
            lambda: predict(project / "run"),
            lambda: evaluate(project / "run"),
            lambda: morula.tune(project / "run"),
        ):
            with raises("run_folder.in_use"):
                list(command())
    assert files(project / "run") == before


def test_resume_after_the_data_moved(project: Path, finished: Path) -> None:
    job = project / "job.yaml"
    run_job = project / "run" / "job.yaml"
    run_job.write_text(run_job.read_text().replace(str(finished), str(project)))
    (project / "data").rename(project / "moved")
    with raises("resume.images_missing", file=str(run_job)):
        list(train(job, output=project / "run", resume=True))
    job.write_text(job.read_text().replace("data/", "moved/"))
    list(iter_run(job, output=project / "run", resume=True))
    test = load_job(run_job).images.test
    assert test is not None
    assert test.raw == str(project / "moved" / "test" / "images")
    (project / "moved").rename(project / "again")
    job.write_text(job.read_text().replace("moved/", "again/"))
    shutil.copy(project / "again/train/images/nuclei_001.tif", project / "again/train/images/nuclei_000.tif")
    with raises("resume.other_images"):
        list(train(job, output=project / "run", resume=True))


def test_new_objects_never_have_earlier_scores(project: Path) -> None:
    folder = RunFolder(project / "run")
    table = read_table(folder.scores_file)
    with folder.in_use():
        write_table(folder.scores_file, {**table, "earlier": [1] * len(table["image"])})
    report = folder.report_file.read_bytes()
    list(predict(folder.path))
    assert "earlier" not in read_table(folder.scores_file)
    assert folder.report_file.read_bytes() != report
    assert list(folder.associations.glob("*.csv"))


def test_scores_that_were_changed_are_not_replaced(project: Path) -> None:
    run = project / "run"
    (run / "scores.csv").write_text("my notes\n")
    before = files(run)
    for command in (evaluate, predict):
        with raises("output.not_own", file=str(run / "scores.csv")):
            list(command(run))
        assert {name: content for name, content in files(run).items() if not name.endswith(("log.txt", "events.jsonl"))} == {
            name: content for name, content in before.items() if not name.endswith(("log.txt", "events.jsonl"))
        }


def test_segment_keeps_inputs_and_files_of_others(project: Path) -> None:
    image = next((project / "data/test/images").glob("*.tif"))
    (project / "cells.csv").write_text("my notes\n")
    (project / "out.zarr").mkdir()
    (project / "out.zarr" / "x").write_text("mine")
    before = files(project)
    for images, output, overwrite, code in (
        (image.parent, image.parent, True, "output.is_input"),
        (image, image, True, "output.is_input"),
        (image, project / "cells.tif", False, "output.exists"),
        (image, project / "cells.tif", True, "output.not_own"),
        (image, project / "out.zarr", True, "output.not_own"),
        (image, project / "run" / "objects" / "new.tif", True, "output.inside_input"),
        (image, project / "out.jpg", False, "output.unsuitable"),
        (morula.read(image), image, True, "output.is_input"),
    ):
        with raises(code):
            list(segment(images, model=project / "run", output=output, overwrite=overwrite, device="cpu"))
    with raises("output.of_run"):
        list(measure_file(image.parents[1] / "labels" / image.name, project / "run" / "scores.csv", overwrite=True))
    assert files(project) == before
    for overwrite in (False, True):
        list(segment(image, model=project / "run", output=project / "new.tif", overwrite=overwrite, device="cpu"))


def test_a_damaged_record_is_told_before_the_work(project: Path) -> None:
    (project / "run/provenance.json").write_text("{")
    before = files(project / "run")
    for command in (predict, evaluate, morula.tune):
        with raises("run_folder.damaged_file"):
            list(command(project / "run"))
    assert files(project / "run") == before


def test_a_copy_of_a_run_is_scored_by_its_own_results(project: Path) -> None:
    (result,) = (project / "run/objects").glob("*.tif")
    result.unlink()
    before = files(project / "run")
    with pytest.raises(MorulaError):  # not those of the run that it was copied from
        list(evaluate(project / "run"))
    assert files(project / "run") == before


def test_an_unknown_device_is_refused(project: Path) -> None:
    with raises("device.unknown", value="tpu"):
        list(predict(project / "run", device="tpu"))
