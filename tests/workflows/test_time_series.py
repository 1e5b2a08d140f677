"""Time series: labels and tables of all time points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import morula
from morula.core.axes import Axes
from morula.core.events import FileWritten, Progress
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.io.write import check_labels_fit, write
from morula.models.model import Model
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.compare import Truths
from morula.workflows.export import export
from morula.workflows.measure import measure_file
from morula.workflows.reading import Reading
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


def test_outlines_are_for_single_images(model: Model, series: Path, tmp_path: Path) -> None:
    with raises("series.exports"):
        list(segment(series, model=model, output=tmp_path / "cells.tif", device="cpu", also=["rois"]))


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
