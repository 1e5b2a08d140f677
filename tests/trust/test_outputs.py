"""Outputs against inputs: nothing of the user's is replaced, however its path is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import morula
from morula.cli.check import write_converted
from morula.core import outputs
from morula.core.outputs import Destination, check_apart, check_outputs, check_space, check_writable
from morula.io.output import open_output
from morula.io.write import check_labels_fit, destination
from morula.jobs.inputs import check_new_run, check_run_again, inputs_of
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import write_table
from morula.testing.errors import raises
from morula.workflows.answers import Answers
from morula.workflows.compare import compare
from morula.workflows.export import export
from morula.workflows.measure import measure_file
from morula.workflows.new import new

LABELS = np.kron(np.eye(4, dtype=np.uint16), np.ones((6, 6), np.uint16))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    morula.write(folder / "0.tif", LABELS)
    return folder


def spellings(raw: Path) -> dict[str, Path]:
    """Other names of the file raw/0.tif."""
    (raw.parent / "link").symlink_to(raw)
    (raw.parent / "file.tif").symlink_to(raw / "0.tif")
    os.link(raw / "0.tif", raw.parent / "hard.tif")
    other = Path(os.path.relpath(raw / "0.tif"))
    dots = Path(f"{raw.parent}/./raw/../raw//0.tif")
    return {
        "link": raw.parent / "link" / "0.tif",
        "file": raw.parent / "file.tif",
        "hard": raw.parent / "hard.tif",
        "rel": other,
        "dots": dots,
    }


@pytest.mark.parametrize("name", ["link", "file", "hard", "rel", "dots"])
def test_an_output_is_an_input_under_any_name(raw: Path, name: str) -> None:
    path = spellings(raw)[name]
    with raises("output.is_input", file=str(path)):
        check_outputs([path], [raw / "0.tif"], overwrite=True)
    with raises("output.is_input"):
        check_outputs([raw / "0.tif"], [path], overwrite=True)


def test_home_is_the_same_under_both_names(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(raw.parent))
    with raises("output.is_input"):
        check_outputs([Path("~/raw/0.tif")], [raw / "0.tif"], overwrite=True)


def test_outputs_in_and_around_inputs(raw: Path) -> None:
    with raises("output.inside_input"):
        check_outputs([raw / "new" / "cells.tif"], [f"{raw}/"])
    with raises("output.contains_input"):
        check_outputs([raw.parent], [raw / "0.tif"], overwrite=True)
    with raises("output.is_input"):
        check_outputs([raw / "0.tif"], [str(raw / "*.tif")], overwrite=True)
    with raises("output.duplicate"):
        check_outputs([raw.parent / "a.tif", raw.parent / "raw" / ".." / "a.tif"])
    (raw / "elsewhere.tif").symlink_to(raw.parent / "data.tif")
    morula.write(raw.parent / "data.tif", LABELS)
    with raises("output.is_input"):  # the folder links to it
        check_outputs([raw.parent / "data.tif"], [raw], overwrite=True)
    check_outputs([raw.parent / "raw_labels" / "0.tif", raw.parent / "0.tif"], [raw])
    check_outputs([raw / "0_labels.tif"], [raw / "0.tif"])


def test_names_that_differ_in_case(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [raw.parent / "new" / "A.tif", raw.parent / "new" / "a.tif"]
    check_apart(pair, [])
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: True)
    with raises("output.duplicate"):
        check_apart(pair, [])


def test_a_device_is_no_output() -> None:
    with raises("output.not_a_file"):
        check_outputs([Path(os.devnull)], overwrite=True)


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text")
    with raises("file.not_written"):
        check_writable(tmp_path / "file" / "a.tif")
    with raises("output.no_space"):
        check_space(tmp_path / "a.tif", 10**18)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with raises("file.not_written"):
        check_writable(tmp_path / "new" / "a.tif")


def test_write_never_replaces_what_it_reads(tmp_path: Path) -> None:
    for suffix in (".tif", ".ome.zarr", ".h5", ".npy"):
        file = morula.write(tmp_path / f"a{suffix}", LABELS, axes="YX")
        with raises("output.is_input"):
            morula.write(file, morula.read(file), overwrite=True)
        np.testing.assert_array_equal(np.asarray(morula.read(file)), LABELS)
    np.save(tmp_path / "map.npy", LABELS)
    with raises("output.is_input"):
        morula.write(tmp_path / "map.npy", np.load(tmp_path / "map.npy", mmap_mode="r")[1:], overwrite=True)


def test_data_sets_are_added_to_an_input_but_never_replace_it(tmp_path: Path) -> None:
    file = morula.write(tmp_path / "a.h5", LABELS)
    morula.write(f"{file}:/cells", morula.read(file), labels=True)
    with raises("output.is_input"):
        morula.write(f"{file}:/raw", morula.read(f"{file}:/raw"), overwrite=True)
    image = morula.write(tmp_path / "a.ome.zarr", LABELS, axes="YX")
    for overwrite in (False, True):  # the labels that Morula wrote are replaced, the image stays
        morula.write(image, LABELS, axes="YX", labels=True, overwrite=overwrite)
    np.testing.assert_array_equal(np.asarray(morula.read(image)), LABELS)
    with raises("output.is_input"):
        list(measure_file(image, tmp_path / "t.csv", kept=image, overwrite=True))


def test_a_data_set_of_others_is_not_replaced_by_results(tmp_path: Path) -> None:
    labels, file = morula.write(tmp_path / "l.tif", LABELS, labels=True), tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened["cells"], opened["notes"] = LABELS, [1, 2]
    before = file.read_bytes()
    with raises("output.not_own", key="kept"):
        list(measure_file(labels, tmp_path / "t.csv", kept=f"{file}:/cells", overwrite=True))
    assert file.read_bytes() == before
    for _ in range(2):  # what Morula wrote is replaced
        list(measure_file(labels, tmp_path / "t.csv", kept=f"{file}:/kept", overwrite=True))
    with open_output(f"{file}:/block", LABELS.shape, "uint16", "YX", overwrite=True) as output:
        output[:, :] = 1
    with h5py.File(file) as opened:
        assert set(opened) == {"cells", "notes", "kept", "block"}


def test_a_file_of_several_data_sets_is_not_replaced_by_one(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened["raw"], opened["results/cells"] = LABELS, LABELS
    before = file.read_bytes()
    for _ in range(2):
        with raises("output.not_own"):
            morula.write(file, LABELS, overwrite=True)
        with raises("output.not_own"):
            open_output(file, LABELS.shape, "uint8", "YX", overwrite=True)
        for name in ("results", "raw/cells"):
            with raises("dataset.not_a_place", key="dataset", value=name):
                morula.write(file, LABELS, dataset=name, overwrite=True)
    assert file.read_bytes() == before
    morula.write(file, 2 * LABELS, dataset="raw", overwrite=True)
    with h5py.File(file) as opened:
        assert np.array_equal(opened["results/cells"], LABELS)
    own = morula.write(tmp_path / "own.h5", LABELS)
    morula.write(own, 2 * LABELS, overwrite=True)
    with h5py.File(own, "a") as opened:
        opened.attrs["note"] = "mine"
    with raises("output.not_own"):
        morula.write(own, LABELS, overwrite=True)


def test_no_file_is_written_into_a_zarr_folder(tmp_path: Path) -> None:
    image = morula.write(tmp_path / "a.zarr:/cells", LABELS, labels=True)
    before = sorted(image.parent.rglob("*"))
    with raises("output.in_image", key="output"):
        list(measure_file(image, image.parent / "t.csv"))
    with raises("output.in_image"):
        list(export(image, ["coco"], output=image.parent))
    with raises("output.in_image"):
        list(morula.compare(image, ["F+C"], output=image.parent / "new"))
    assert sorted(image.parent.rglob("*")) == before
    list(export(image, ["coco"]))  # by default beside the folder
    assert (tmp_path / "a_cells_coco.json").is_file()


@pytest.mark.parametrize("content", ["notes", "data", "labels"])
def test_folders_that_hold_anything_else_are_never_replaced(tmp_path: Path, content: str) -> None:
    place = tmp_path / "cells.ome.zarr"
    if content == "data":
        place.mkdir()
    else:
        morula.write(place, LABELS, axes="YX")
    if content == "labels":
        morula.write(place, LABELS, axes="YX", labels=True)
    else:
        (place / "notes.txt").write_text("mine")
    before = sorted(place.rglob("*"))
    for attempt in (
        lambda: morula.write(place, LABELS, axes="YX", overwrite=True),
        lambda: open_output(place, LABELS.shape, "uint16", "YX", overwrite=True),
        lambda: write_table(place, {"a": [1]}),
    ):
        with raises("output.is_folder" if attempt.__code__.co_names[0] == "write_table" else "output.not_own"):
            attempt()
    assert sorted(place.rglob("*")) == before


def test_measure_checks_all_of_its_files(tmp_path: Path) -> None:
    labels = morula.write(tmp_path / "l.tif", LABELS, labels=True)
    (tmp_path / "keep").mkdir()
    (tmp_path / "t_all.csv").write_text("my,notes\n")
    for output, options, code in (
        (labels, {}, "table.suffix"),
        (tmp_path / "keep", {}, "table.suffix"),
        (tmp_path / "t.csv", {"kept": labels}, "output.is_input"),
        (tmp_path / "t.csv", {"kept": tmp_path / "t.csv"}, "file.unknown_suffix"),
        (tmp_path / "t.csv", {"kept": tmp_path / "k.jpg"}, "output.unsuitable"),
        (tmp_path / "t.csv", {"remove": ["voxels < 3"]}, "output.not_own"),
    ):
        with raises(code):
            list(measure_file(labels, output, overwrite=True, **options))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keep", "l.tif", "t_all.csv"]


def test_new_and_convert_keep_their_inputs(raw: Path) -> None:
    answers = Answers(str(raw / "0.tif"), str(raw / "0.tif"), "instances", None, None, None, None)
    with raises("output.is_input", key="job"):
        new(raw / "0.tif", answers, overwrite=True)
    job = raw / "job.yaml"
    job.write_text("model: {}\n")
    with raises("output.is_input"):
        write_converted(job, "text", [], job, overwrite=True)
    assert job.read_text() == "model: {}\n"


def test_only_files_that_morula_wrote_are_replaced_by_converted_jobs(tmp_path: Path) -> None:
    job, output = tmp_path / "biapy.yaml", tmp_path / "job.yaml"
    job.write_text("PROBLEM: {}\n")
    output.write_text("my notes")
    with raises("output.not_own", file=str(output)):
        write_converted(job, "text", [], output, overwrite=True)
    assert output.read_text() == "my notes"
    output.unlink()
    for text in ("first", "second"):
        write_converted(job, text, [], output, overwrite=text == "second")
    assert output.read_text() == "second"
    output.write_text("second, with my changes")
    with raises("output.not_own"):
        write_converted(job, "third", [], output, overwrite=True)


def test_comparisons_keep_files_of_others(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "comparison.csv").write_text("mine")
    with raises("output.exists"):
        list(compare(raw, ["F+C"], output=folder))
    with raises("output.is_input"):
        list(compare(raw, ["F+C"], output=raw))
    assert (folder / "comparison.csv").read_text() == "mine"
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "comparison.png").symlink_to(tmp_path / "gone.png")
    with raises("output.exists"):
        list(compare(raw, ["F+C"], output=tmp_path / "links"))
    list(compare(raw, ["F+C"], output=tmp_path / "other"))
    list(compare(raw, ["F+C"], output=tmp_path / "other"))


JOB = {"images": {"train": {"raw": "raw", "labels": "raw"}}, "method": "wnet3d"}


def test_runs_keep_their_inputs(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(raw.parent)
    job = load_job(JOB)
    assert set(inputs_of(job)) == {str(raw)}
    for output, code in ((raw, "output.is_input"), (raw / "run", "output.inside_input"), (raw.parent, "output.contains_input")):
        with raises(code):
            check_new_run(RunFolder(output), job, JOB)
    with raises("output.contains_input"):
        check_new_run(RunFolder(raw.parent / "runs"), job, raw.parent / "runs" / "job.yaml")
    inside = load_job({"images": {"train": {"raw": "run/objects"}}, "method": "wnet3d"})
    with raises("output.is_input"):
        check_run_again(RunFolder(Path("run")), inside)
    degraded = load_job({"images": {"train": {"raw": "raw"}}, "method": {"kind": "crappify", "folder": "raw"}})
    with raises("output.is_input", key="method.folder"):
        check_new_run(RunFolder(Path("run")), degraded, {})


def test_names_and_suffixes_are_checked_by_the_name_of_the_user(tmp_path: Path) -> None:
    with raises("output.unsuitable", file=str(tmp_path / "out.jpg")):
        check_labels_fit(tmp_path / "out.jpg", (8, 8))
    with raises("output.unsuitable"):
        check_labels_fit(tmp_path / "out.png", (8, 8, 8))
    check_labels_fit(tmp_path / "out.png", (8, 8))
    with raises("file.unknown_suffix"):
        destination(tmp_path / "out.doc", labels=True)
    assert destination(tmp_path / "out.tif", labels=True) == Destination(tmp_path / "out.tif", str(tmp_path / "out.tif"))


def test_a_report_of_others_is_not_replaced(finished: Path, tmp_path: Path) -> None:
    from morula.report.build import write_report

    run = Path(shutil.copytree(finished / "run", tmp_path / "run"))
    write_report(run)
    (run / "manifest.jsonl").unlink()  # a run of an earlier version
    write_report(run)
    (run / "report.html").write_text("<title>mine</title>")
    with raises("output.not_own", file=str(run / "report.html")):
        write_report(run)
    assert (run / "report.html").read_text() == "<title>mine</title>"
