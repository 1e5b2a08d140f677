"""Representations compared on label images, and the set that a new job begins with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

import morula
from morula.core.axes import Axes
from morula.core.events import FileWritten, Finished, Progress
from morula.core.image import Image
from morula.measurement.csv_table import read_table, write_table
from morula.testing.errors import raises
from morula.workflows.compare import Representation, Row, Truths, ceiling
from morula.workflows.reading import Reading
from morula.workflows.recommend import VOXELS, candidates, recommend, sample


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A disc, and stripes that are one voxel thick."""
    (tmp_path / "labels").mkdir()
    array = np.zeros((48, 64), np.uint16)
    rows, columns = np.indices(array.shape)
    array[(rows - 12) ** 2 + (columns - 14) ** 2 < 80] = 1
    for number in range(8):
        array[4 + 5 * number, 34:60] = number + 2
    morula.write(tmp_path / "labels/a.tif", array, axes="YX", labels=True)
    return tmp_path / "labels"


def test_affinities_keep_thin_objects(labels: Path) -> None:
    f1 = {text: ceiling(Truths.of(labels), Representation.of(text)).f1_90 for text in ("F+C", "A:mutex_watershed")}
    assert f1["F+C"] == pytest.approx(2 / 10)  # the disc alone is found: one of nine, nothing false
    assert f1["A:mutex_watershed"] == 1
    chosen = recommend(Truths.of(labels))
    kept = {row.representation: row.f1_90 for row in chosen.rows}
    assert kept[str(chosen.representation)] == max(kept.values()) == 1
    assert kept["F+C"] < 0.5


def test_objects_that_every_set_keeps_get_the_usual_one(data2d: Path) -> None:
    chosen = recommend(Truths.of(data2d / "train/labels"))
    assert list(chosen.representation.channels) == ["F", "C", "Db"]
    assert chosen.words().startswith("F+C+Db 1.000, ")
    assert len(chosen.rows) == len(candidates(2))


def test_each_line_is_stored_and_not_made_again(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    events = morula.compare(labels, ["F+C", "F+Db"], output=folder)
    for event in events:
        if isinstance(event, Progress):
            break
    events.close()  # a stream that is only paused still holds the folder
    assert read_table(folder / "comparison.csv")["representation"].tolist() == ["F+C"]
    made: list[str] = []
    real = ceiling
    monkeypatch.setattr("morula.workflows.compare.ceiling", lambda truths, each: made.append(str(each)) or real(truths, each))
    *_, last = morula.compare(labels, ["F+C", "F+Db", "F+C"], output=folder)
    assert made == ["F+Db"]
    table = read_table(folder / "comparison.csv")
    assert table["representation"].tolist() == ["F+C", "F+Db"]
    assert isinstance(last, Finished)
    assert list(last.figures.values()) == table["f1_90"].tolist()


def test_other_labels_begin_anew(labels: Path, tmp_path: Path) -> None:
    list(morula.compare(labels, ["F+C", "F+Db"], output=tmp_path / "out"))
    morula.write(labels / "b.tif", np.eye(20, dtype=np.uint16), axes="YX", labels=True)
    list(morula.compare(labels, ["F+C"], output=tmp_path / "out"))
    table = read_table(tmp_path / "out/comparison.csv")
    assert (table["representation"].tolist(), table["images"].tolist()) == (["F+C"], [2])


def test_how_labels_are_read_can_be_stated(tmp_path: Path) -> None:
    channels = np.zeros((2, 20, 30), np.uint16)
    channels[1, 2:9, 3:10] = 5
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks/a.tif", channels)
    list(morula.compare(tmp_path / "masks", ["F+C"], output=tmp_path / "out", reading=Reading(axes="CYX", channel=1)))
    table = read_table(tmp_path / "out/comparison.csv")
    assert (table["objects"].tolist(), table["f1_90"].tolist()) == ([1], [1.0])


def test_the_job_says_how_the_files_of_a_run_are_read(run2d: Path, tmp_path: Path) -> None:
    with raises("evaluate.reading", key="channel", value=1):
        list(morula.compare(run2d, ["F+C"], output=tmp_path / "out", reading=Reading(channel=1)))


def test_a_picture_shows_a_row_each(labels: Path, tmp_path: Path) -> None:
    written = [event.path.name for event in morula.compare(labels, ["F+C", "A"], output=tmp_path / "out") if isinstance(event, FileWritten)]
    assert written == ["comparison.csv", "comparison.png"]
    picture = np.asarray(morula.read(tmp_path / "out/comparison.png", axes="YXC"))
    assert picture.shape[:2] == (2 * 220 + 28, 7 * 198 + 6)
    errors = picture[44:236, 7 * 198 - 4 * 198 : 7 * 198 - 2 * 198].reshape(-1, 3)
    assert (errors == (255, 110, 46)).all(axis=1).any()  # the stripes that contours ate are drawn as missed


def test_trained_runs_stand_in_the_same_table(run2d: Path, tmp_path: Path) -> None:
    list(morula.compare(run2d, ["F+C"], runs=[run2d], output=tmp_path / "out"))
    table = read_table(tmp_path / "out/comparison.csv")
    assert table["representation"].tolist() == ["F+C", "F+C+Db"]
    assert table["result"].tolist() == ["labels alone", str(run2d)]
    scores = read_table(run2d / "scores.csv")
    pooled = [row for row in zip(scores["image"], scores["threshold"], scores["f1"]) if row[:2] == ("pooled", 0.5)]
    assert table["f1_50"].tolist()[1] == pooled[-1][2]


def test_comparison_reads_new_scores_of_a_run(run2d: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, Row]] = []
    monkeypatch.setattr("morula.workflows.compare.picture", lambda file, truths, chosen, rows: drawn.append(dict(rows)) or file)
    run = shutil.copytree(run2d, tmp_path / "run")
    list(morula.compare(labels, ["F+C+Db"], runs=[run], output=tmp_path / "out"))
    table = read_table(run / "scores.csv")
    write_table(run / "scores.csv", dict(table) | {"f1": table["f1"] * 0 + 0.25})
    list(morula.compare(labels, ["F+C+Db"], runs=[run], output=tmp_path / "out"))
    assert read_table(tmp_path / "out/comparison.csv")["f1_50"].tolist()[1:] == [0.25]
    assert [rows["F+C+Db"].result for rows in drawn] == ["labels alone"] * 2


def test_what_nobody_has_looked_at_is_left_out(labels: Path) -> None:
    array = np.asarray(morula.read(labels / "a.tif")).copy()
    array[:, 30:] = 99
    truths = Truths((Image(array, Axes("YX")),), unlabelled=99)
    assert ceiling(truths, Representation.of("F+C")).objects == 1


def test_large_labels_are_sampled() -> None:
    images = [Image(np.broadcast_to(np.uint16(1), (300, 300, 300)), Axes("ZYX")) for _ in range(3)]
    parts = list(sample(images))
    assert 0 < sum(part.data.size for part in parts) <= VOXELS
    assert all(part.ndim_spatial == 3 for part in parts)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("F+X", "name.unknown"),
        ("P", "decoder.none_fits"),
        ("F+C:mutex_watershed", "decoder.unusable_channels"),
        ("F+C:mutex", "name.unknown"),
    ],
)
def test_a_set_without_decoder_is_rejected(text: str, code: str) -> None:
    with raises(code):
        Representation.of(text)


def test_labels_without_objects_are_rejected(tmp_path: Path) -> None:
    morula.write(tmp_path / "a.tif", np.zeros((20, 20), np.uint16), axes="YX", labels=True)
    with raises("compare.no_objects"):
        list(morula.compare(tmp_path / "a.tif", ["F+C"], output=tmp_path / "out"))
