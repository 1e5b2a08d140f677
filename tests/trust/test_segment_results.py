"""`segment`: it replaces only what Morula wrote, and continues where it was killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import morula
from morula.core.events import FileWritten, Progress
from morula.core.manifest import RESULTS
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.models.model import Model
from morula.testing.errors import raises
from morula.workflows.batch import Batch
from morula.workflows.measure import measure_file
from morula.workflows.segment import segment


def files(folder: Path) -> dict[str, bytes]:
    """Contents by name, without the records of provenance, which state the time and the free memory."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".provenance.json"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="session")
def model(finished: Path) -> Model:
    """A model whose job asks for every file beside the labels."""
    loaded = morula.load(finished / "run")
    document = loaded.job.model_dump(mode="json", by_alias=True)
    document["objects"] |= {"intermediates": True, "filter": ["npixels < 3"]}
    return replace(loaded, job=validate(Document(document, {}, None)))


@pytest.fixture
def images(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    source = next((finished / "data/test/images").glob("*.tif"))
    for name in ("a", "a_b", "c"):
        shutil.copy(source, folder / f"{name}.tif")
    return folder


def test_only_files_that_morula_wrote_are_replaced(images: Path, tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out"
    list(segment(images, model=model, output=output, device="cpu"))
    first = files(output)
    assert {"a.tif", "a.csv", "a_all.csv", "before/a.tif", RESULTS} <= set(first)
    assert any(name.startswith("intermediates/a_b_") for name in first)
    list(segment(images, model=model, output=output, overwrite=True, device="cpu"))
    assert {**files(output), RESULTS: b""} == {**first, RESULTS: b""}
    for name in first.keys() - {RESULTS}:
        (output / name).write_bytes(first[name] + b"mine")
        before = files(output)
        with raises("output.not_own", file=str(output / name)):
            list(segment(images, model=model, output=output, overwrite=True, device="cpu"))
        assert files(output) == before
        (output / name).write_bytes(first[name])


def test_results_of_others_stay(images: Path, tmp_path: Path, model: Model) -> None:
    for name in ("out/a.tif", "out/before/c.tif", "out/intermediates/c_seeds.tif"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(images / "a.tif", tmp_path / name)
        before = files(tmp_path)
        with raises("output.not_own", file=str(tmp_path / name)):
            list(segment(images, model=model, output=tmp_path / "out", overwrite=True, device="cpu"))
        assert files(tmp_path) == before
    shutil.rmtree(tmp_path / "out")
    list(segment(images / "a_b.tif", model=model, output=tmp_path / "out", device="cpu"))
    list(segment(images / "a.tif", model=model, output=tmp_path / "out", device="cpu"))  # a_b_seeds.tif is not one of its files


def test_a_loaded_model_keeps_its_folder(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run" / "model", tmp_path / "model")
    loaded = morula.load(tmp_path / "model")
    image = next((finished / "data/test/images").glob("*.tif"))
    before = files(tmp_path)
    with raises("output.inside_input"):
        list(segment(image, model=loaded, output=tmp_path / "model" / "weights.tif", device="cpu"))
    assert files(tmp_path) == before


def stopped(images: Path, output: Path, model: Model, *, after: int) -> set[Path]:
    """Stop a batch after this number of files; returns the label files of the images that were finished."""
    events = segment(images, model=model, output=output, device="cpu")
    finished: set[Path] = set()
    for event in events:
        after -= isinstance(event, FileWritten)
        if isinstance(event, Progress) and event.unit == "image":
            finished.add(output / f"{event.note}.tif")
        if not after:
            break
    events.close()  # type: ignore[attr-defined]
    return finished


@pytest.mark.parametrize(("after", "n_finished"), [(1, 0), (8, 0), (9, 1), (17, 2)])
def test_an_interrupted_batch_continues(images: Path, tmp_path: Path, model: Model, after: int, n_finished: int) -> None:
    list(segment(images, model=model, output=tmp_path / "whole", device="cpu"))
    output = tmp_path / "out"
    done = stopped(images, output, model, after=after)
    assert len(done) == n_finished
    with raises("output.exists"):  # another command does not continue it
        list(segment(images / "a.tif", model=model, output=output, device="cpu"))
    stamps = {path: path.stat().st_mtime_ns for path in done}
    list(segment(images, model=model, output=output, device="cpu"))
    whole, continued = files(tmp_path / "whole"), files(output)
    assert {**whole, RESULTS: b""} == {**continued, RESULTS: b""}
    assert {path: path.stat().st_mtime_ns for path in done} == stamps
    with raises("output.exists"):  # it is finished now
        list(segment(images, model=model, output=output, device="cpu"))


def test_resume_keeps_what_the_same_command_has_finished(images: Path, tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out"
    (done,) = stopped(images, output, model, after=9)
    stamp = done.stat().st_mtime_ns
    before = files(output)
    with raises("resume.other_command"):
        list(segment(images, model=model, output=output, device="cpu", memory="4GB", batch=Batch(resume=True)))
    assert files(output) == before
    list(segment(images, model=model, output=output, device="cpu", batch=Batch(resume=True)))
    assert done.stat().st_mtime_ns == stamp
    again = list(segment(images, model=model, output=output, device="cpu", batch=Batch(resume=True)))
    assert not any(isinstance(event, FileWritten) for event in again)


def test_existing_results_are_skipped(images: Path, tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out"
    list(segment(images / "a.tif", model=model, output=output, device="cpu"))
    before = files(output)
    list(segment(images, model=model, output=output, device="cpu", batch=Batch(skip_existing=True)))
    after = files(output)
    assert {name: after[name] for name in before if "/" not in name and name.startswith("a.")} == {
        name: content for name, content in before.items() if "/" not in name and name.startswith("a.")
    }
    assert set(pd.read_csv(output / "experiment.csv")["image"]) == {"a", "a_b", "c"}


def test_a_batch_keeps_going_after_images_that_fail(images: Path, tmp_path: Path, model: Model) -> None:
    (images / "broken.tif").write_bytes(b"no image")
    morula.write(images / "volume.tif", np.zeros((8, 32, 32), np.uint8), axes="ZYX")
    with raises("batch.failed") as caught:
        list(segment(images, model=model, output=tmp_path / "out", device="cpu", batch=Batch(keep_going=True)))
    assert caught.error.value == "broken, volume"
    assert {"a.tif", "a_b.tif", "c.tif"} <= set(files(tmp_path / "out"))
    assert set(pd.read_csv(tmp_path / "out" / "experiment.csv")["image"]) == {"a", "a_b", "c"}
    (images / "broken.tif").unlink()
    (images / "volume.tif").unlink()
    events = list(segment(images, model=model, output=tmp_path / "out", device="cpu", batch=Batch(skip_existing=True)))
    assert not any(isinstance(event, FileWritten) for event in events)


def test_shares_of_a_batch_give_the_results_of_one_command(images: Path, tmp_path: Path, model: Model) -> None:
    list(segment(images, model=model, output=tmp_path / "whole", device="cpu"))
    for shard in ("2/2", "1/2"):
        with raises("batch.unfinished"):
            list(segment(images, model=model, output=tmp_path / "out", device="cpu", batch=Batch(merge=True)))
        list(segment(images, model=model, output=tmp_path / "out", device="cpu", batch=Batch(shard=shard)))
    list(segment(images, model=model, output=tmp_path / "out", device="cpu", batch=Batch(merge=True)))
    whole, merged = files(tmp_path / "whole"), files(tmp_path / "out")
    assert {**whole, RESULTS: b""} == {**merged, RESULTS: b""}
    for shard in ("0/2", "3/2", "1", "a/b"):
        with raises("batch.shard"):
            Batch(shard=shard)


def test_a_changed_image_or_result_is_segmented_again(images: Path, tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out"
    done = stopped(images, output, model, after=17)
    assert len(done) == 2
    stamps = {path: path.stat().st_mtime_ns for path in done}
    pixels = np.asarray(morula.read(images / "a.tif"))
    morula.write(images / "a.tif", pixels[::-1].copy(), overwrite=True)
    (output / "a_b.csv").unlink()
    list(segment(images, model=model, output=output, device="cpu"))
    assert all(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
    assert (output / "a_b.csv").is_file()


def test_files_of_earlier_runs_are_protected(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    (run / "manifest.jsonl").unlink()
    labels = next((finished / "data/test/labels").glob("*.tif"))
    before = files(run)
    for name in ("scores.csv", "logs/training.csv"):
        with raises("output.of_run"):
            list(measure_file(labels, run / name, overwrite=True))
    assert files(run) == before
    list(measure_file(labels, run / "mine.csv"))


def test_tables_of_others_stay(finished: Path, tmp_path: Path) -> None:
    labels, table = next((finished / "data/test/labels").glob("*.tif")), tmp_path / "t.csv"
    for overwrite in (False, True):
        list(measure_file(labels, table, overwrite=overwrite))
    table.write_text(table.read_text() + "# annotated\n")
    with raises("output.not_own"):
        list(measure_file(labels, table, overwrite=True))
    assert table.read_text().endswith("# annotated\n")


def test_a_data_set_in_a_file_has_its_table_beside_the_file(images: Path, tmp_path: Path, model: Model) -> None:
    for _ in range(2):
        list(segment(images / "a.tif", model=model, output=f"{tmp_path}/x.h5:/cells", overwrite=True, device="cpu"))
    assert {path.name for path in tmp_path.iterdir()} >= {"x.h5", "x_cells.csv", "before"}
    assert not (tmp_path / "x.h5:").exists()


def test_of_two_commands_with_one_output_the_second_is_refused(images: Path, tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out"
    first = segment(images, model=model, output=output, device="cpu")
    for event in first:
        if isinstance(event, Progress) and event.unit == "image":  # the first image is written, two are to come
            break
    before = files(output)
    for second in (
        segment(images, model=model, output=output, device="cpu"),
        segment(images / "c.tif", model=model, output=output, overwrite=True, device="cpu"),
        segment(images, model=model, output=output, memory="4GB", overwrite=True, device="cpu"),
    ):
        with raises("output.in_use"):
            list(second)
    assert files(output) == before
    with raises("output.in_use", file=str(output / "c.csv")):
        list(measure_file(output / "a.tif", output / "c.csv"))
    list(first)
    assert {"a.tif", "a_b.tif", "c.tif"} <= set(files(output))
    assert not list(output.glob(".morula-claim*"))


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_others_with_the_name_of_the_record_stays(images: Path, tmp_path: Path, model: Model, linked: bool) -> None:
    output, note = tmp_path / "out", tmp_path / "note.txt"
    output.mkdir()
    note.write_text("mine\n")
    (output / RESULTS).symlink_to(note) if linked else (output / RESULTS).write_text("mine\n")
    before = files(tmp_path)
    with raises("output.foreign_record"):
        list(segment(images / "a.tif", model=model, output=output / "a.tif", device="cpu"))
    assert files(tmp_path) == before
    (output / RESULTS).unlink()
    (output / RESULTS).write_text('{"manifest": "mor')  # the beginning of a record, left by a killed process
    list(segment(images / "a.tif", model=model, output=output / "a.tif", device="cpu"))
