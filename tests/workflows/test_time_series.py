"""Time series: labels and tables of all time points."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import morula
from morula.core.axes import Axes
from morula.core.events import FileWritten, Progress
from morula.core.image import Image
from morula.core.remark import code_of
from morula.core.voxel_size import VoxelSize
from morula.dialects.verbs import iter_run
from morula.io.read import read, read_labels
from morula.io.write import check_labels_fit, write
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table
from morula.models.model import Model
from morula.report import panels
from morula.report.run_folder import read_run
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.compare import Truths
from morula.workflows.export import export
from morula.workflows.measure import measure_file
from morula.workflows.prepare import prepare
from morula.workflows.reading import Reading
from morula.workflows.replay import replay
from morula.workflows.run_settings import RunSettings
from morula.workflows.segment import segment


@pytest.fixture(scope="module")
def model(run2d: Path) -> Model:
    return morula.load(run2d)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    images = [simulate(shape=(48, 56), n_objects=n, rng=rng).image for n in (6, 2, 4)]
    return write(tmp_path_factory.mktemp("series") / "film.ome.tif", Image(np.stack(images), "TYX", VoxelSize(0.5, 0.5)))


@pytest.mark.parametrize("name", ["cells.ome.zarr", "cells.ome.tif"])
def test_every_time_point_is_segmented_like_an_image(model: Model, series: Path, tmp_path: Path, name: str) -> None:
    events = list(segment(series, model=model, output=tmp_path / name, device="cpu"))
    labels, image = read_labels(tmp_path / name), read(series)
    assert labels.axes == "TYX"
    assert labels.spacing == (0.5, 0.5)
    for point in range(3):
        alone = model.segment(read(series, time=point), device="cpu")
        assert np.array_equal(labels.data[point], alone)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert next(iter(table)) == "time"
    assert [len(table[table["time"] == point]) for point in range(3)] == [int(labels.data[point].max()) for point in range(3)]
    assert {event.path.name for event in events if isinstance(event, FileWritten)} == {name, "cells.csv", "cells.provenance.json"}
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]
    assert image.shape[0] == 3


def test_an_interrupted_series_continues(model: Model, series: Path, tmp_path: Path) -> None:
    list(segment(series, model=model, output=tmp_path / "whole.tif", device="cpu"))
    steps = segment(series, model=model, output=tmp_path / "again.tif", device="cpu")
    next(event for event in steps if isinstance(event, Progress) and event.unit == "time point")
    steps.close()
    events = list(segment(series, model=model, output=tmp_path / "again.tif", device="cpu"))
    tiles = [event.task for event in events if isinstance(event, Progress) and event.task[-1] == "tiles"]
    assert not any("time 0" in task for task in tiles)
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_exports_of_a_series_are_those_of_its_labels(model: Model, series: Path, tmp_path: Path) -> None:
    kinds = ["rois", "geojson", "coco", "preview"]
    list(segment(series, model=model, output=tmp_path / "cells.tif", device="cpu", also=kinds))
    list(export(tmp_path / "cells.tif", kinds, output=tmp_path / "afterwards"))
    files = [f"cells_t{point:04d}{end}" for point in range(3) for end in ("_rois.zip", ".geojson", "_coco.json")]
    found = {path.name for path in tmp_path.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert found == {*files, "cells_preview.tif", "cells.tif", "cells.csv", "cells.provenance.json"}
    for file in files:
        outlines = [np.asarray(read_labels(folder / file, shape=(48, 56))) for folder in (tmp_path, tmp_path / "afterwards")]
        assert outlines[0].max() > 0
        assert np.array_equal(*outlines)
    previews = [read(folder / "cells_preview.tif") for folder in (tmp_path, tmp_path / "afterwards")]
    assert previews[0].axes == previews[1].axes
    assert np.array_equal(previews[0].data[:], previews[1].data[:])
    with raises("output.exists"):
        list(segment(series, model=model, output=tmp_path / "cells.tif", device="cpu", also=["rois"]))


def test_a_table_of_a_series_as_parquet_has_its_rows(model: Model, series: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    list(segment(series, model=model, output=tmp_path / "cells.tif", device="cpu", also=["parquet"]))
    table, rows = pd.read_parquet(tmp_path / "cells.parquet"), pd.read_csv(tmp_path / "cells.csv")
    assert all(table[name].tolist() == rows[name].tolist() for name in ("time", "label", "voxels"))


def test_inputs_of_the_decoder_are_written_for_each_time_point(model: Model, series: Path, tmp_path: Path) -> None:
    objects = model.job.objects.model_copy(update={"intermediates": True})
    asked = replace(model, job=model.job.model_copy(update={"objects": objects}))
    list(segment(series, model=asked, output=tmp_path / "cells.tif", device="cpu"))
    names = {path.name for path in (tmp_path / "intermediates").iterdir()}
    assert {name[:11] for name in names} == {f"cells_t{point:04d}" for point in range(3)}


@pytest.fixture(scope="module")
def stacks(data2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `data2d` as time points: two series to train on, one to test."""
    folder = tmp_path_factory.mktemp("stacks") / "data"
    for kind in ("images", "labels"):
        for name, files in (("train/{}/a", (0, 1)), ("train/{}/b", (2, 3)), ("test/{}/c", (0, 1))):
            place = folder / f"{name.format(kind)}.tif"
            place.parent.mkdir(parents=True, exist_ok=True)
            sources = sorted((data2d / place.parent.parent.name / kind).iterdir())
            frames = [np.asarray(read(sources[number])) for number in files]
            write(place, Image(np.stack(frames), "TYX"), labels=kind == "labels")
    return folder


def test_time_points_of_a_job_are_images(stacks: Path, job_text: Callable[..., str]) -> None:
    job, folder = stacks.parent / "job.yaml", stacks.parent / "run"
    job.write_text(job_text())
    list(iter_run(job, output=folder))
    rows = RunFolder(folder).read_images()
    assert [row["name"] for row in rows] == ["c_t0000", "c_t0001"]
    assert [(row["raw"], row["time"]) for row in rows] == [(str(stacks / "test/images/c.tif"), str(point)) for point in range(2)]
    model = morula.load(folder)
    for point, row in enumerate(rows):
        alone = model.segment(read(stacks / "test/images/c.tif", time=point), device="cpu")
        assert np.array_equal(np.asarray(read_labels(str(row["prediction"]))), alone)
    truth = read_labels(stacks / "test/labels/c.tif")
    scores = read_table(folder / "scores.csv")
    expected = [len(np.unique(truth.data[point])) - 1 for point in range(2)]
    assert [dict(zip(scores["image"], scores["n_true"]))[f"c_t000{point}"] for point in range(2)] == expected
    pictures = [panels.open_image(image, panels.Reading.of(read_run(folder))) for image in read_run(folder).images]
    assert [np.array_equal(picture.truth, truth.data[point]) for point, picture in enumerate(pictures)] == [True, True]
    *_, last = replay(folder, RunSettings(output=folder.parent / "again"), fast=True)
    assert last.figures["different objects"] == 0


def test_series_are_not_divided_between_training_and_validation(stacks: Path, job_text: Callable[..., str]) -> None:
    job = stacks.parent / "split.yaml"
    job.write_text(job_text())
    prepared = prepare(load_job(job))
    assert prepared.validation is not None
    held = {source.image.source for source in prepared.validation.sources}
    assert len(prepared.train.sources) == len(prepared.validation.sources) == 2
    assert held.isdisjoint(source.image.source for source in prepared.train.sources)
    job.write_text(re.sub("data/train/[a-z]+", r"\g<0>/a.tif", job_text()))
    alone = prepare(load_job(job))
    assert [source.name for source in alone.train.sources] == ["a_t0000"]
    assert "images.single_series" in [code_of(text, "other") for text in alone.warnings]


def test_labels_of_other_time_points_are_refused(stacks: Path, tmp_path: Path, job_text: Callable[..., str]) -> None:
    (tmp_path / "data").symlink_to(stacks)
    job = tmp_path / "job.yaml"
    job.write_text(job_text().replace("data/test/labels", "labels"))
    write(tmp_path / "labels" / "c.tif", Image(read_labels(stacks / "test/labels/c.tif").data[:1].repeat(3, 0), "TYX"), labels=True)
    with raises("images.other_time_points"):
        prepare(load_job(job))


def film(axes: str) -> np.ndarray:
    """Labels with one object at the first time point, two at the second, none at the third; those of the second are larger."""
    labels = np.zeros((3, 4, 12, 14) if "Z" in axes else (3, 12, 14), np.uint16)
    labels[0, ..., 1:4, 1:4] = 1
    labels[1, ..., 1:6, 1:6], labels[1, ..., 8:10, 8:10] = 1, 2
    return labels


@pytest.mark.parametrize(
    ("name", "axes"),
    [("cells.tif", "TYX"), ("cells.ome.tif", "TZYX"), ("cells.ome.zarr", "TZYX"), ("cells.h5", "TYX"), ("cells.nii.gz", "TZYX")],
)
def test_labels_of_a_series_are_read_by_the_axes_that_their_file_states(tmp_path: Path, name: str, axes: str) -> None:
    labels, size = film(axes), [2, 0.5, 0.5] if "Z" in axes else 0.5
    file = write(tmp_path / name, labels, axes=axes, voxel_size=size, labels=True)
    image = write(tmp_path / f"raw{name[5:]}", labels * np.uint16(10), axes=axes, voxel_size=size)
    kept = tmp_path / f"kept{name[5:]}"
    list(measure_file(file, tmp_path / "t.csv", intensity=image, remove=["voxels < 20"] if "Z" in axes else ["voxels < 5"], kept=kept))
    table, every = pd.read_csv(tmp_path / "t.csv"), pd.read_csv(tmp_path / "t_all.csv")
    assert every[["time", "label", "intensity_mean"]].to_numpy().tolist() == [[0, 1, 10], [1, 1, 10], [1, 2, 20]]
    assert table["time"].tolist() == [0, 1]
    remaining = read_labels(kept)
    assert (remaining.axes, remaining.spacing) == (axes, read_labels(file).spacing)
    assert np.array_equal(np.asarray(remaining), np.where(labels == 2, 0, labels))
    assert [np.unique(each.canonical()).tolist() for each in Truths.of(file).labels] == [[0, 1], [0, 1, 2], [0]]
    points = [np.asarray(each) for each in Truths.of(file, Reading(components=True)).labels]
    assert [int(each.max()) for each in points] == [1, 2, 0]


def test_exports_of_a_series(tmp_path: Path) -> None:
    file = write(tmp_path / "cells.tif", film("TYX"), axes="TYX", labels=True)
    list(export(file, ["rois", "geojson", "coco", "preview", "parquet"], output=tmp_path / "out"))
    for ending in ("_rois.zip", ".geojson", "_coco.json"):
        points = [np.asarray(read_labels(tmp_path / "out" / f"cells_t{point:04d}{ending}", shape=(12, 14))) for point in range(3)]
        assert np.array_equal(np.stack(points), film("TYX"))
    assert read(tmp_path / "out" / "cells_preview.tif").axes == "TYXC"
    assert pd.read_parquet(tmp_path / "out" / "cells.parquet")["time"].tolist() == [0, 1, 1]
    with raises("output.exists"):
        list(export(file, ["rois"], output=tmp_path / "out"))
    with raises("export.one_file", key="output"):
        list(export(file, ["rois"], output=tmp_path / "cells.zip"))
    list(export(file, ["rois"], output=tmp_path / "cells.zip", reading=Reading(time=1)))
    assert np.array_equal(np.asarray(read_labels(tmp_path / "cells.zip")), film("TYX")[1])


def test_labels_and_image_of_other_time_points(tmp_path: Path) -> None:
    file = write(tmp_path / "cells.tif", film("TYX"), axes="TYX", labels=True)
    image = write(tmp_path / "raw.tif", film("TYX")[:2], axes="TYX")
    with raises("measure.other_time_points", key="intensity"):
        list(measure_file(file, tmp_path / "t.csv", intensity=image))
    single = write(tmp_path / "second.tif", film("TYX")[1], axes="YX", labels=True)
    list(measure_file(single, tmp_path / "t.csv", intensity=image, reading=Reading(time=1)))
    assert pd.read_csv(tmp_path / "t.csv")["intensity_mean"].tolist() == [1, 2]
    with raises("image.no_time_point", key="time"):
        list(measure_file(single, tmp_path / "t2.csv", reading=Reading(time=1)))


@pytest.mark.parametrize(("name", "axes"), [("out.npy", "TYX"), ("out.png", "TYX"), ("out.npy", "TZYX")])
def test_formats_that_lose_the_time_are_refused(tmp_path: Path, name: str, axes: str) -> None:
    with raises("output.unsuitable", key="output"):
        check_labels_fit(tmp_path / name, film(axes).shape, axes=Axes(axes))
