"""Time series: labels and tables of all time points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import morula
from morula.core.events import FileWritten, Progress
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.models.model import Model
from morula.testing.errors import raises
from morula.testing.simulate import simulate
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
