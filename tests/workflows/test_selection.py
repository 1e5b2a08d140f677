"""Axes, channel, data set, scene, time point and level are chosen alike in every command and in jobs."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from morula.cli.app import app
from morula.cli.command import options_of
from morula.cli.new import interview_of
from morula.cli.options import NewJobOptions
from morula.core.errors import JobError
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.jobs.job import Images
from morula.jobs.job import Source as SourceOptions
from morula.jobs.load import load_job
from morula.testing.bad_documents import small_model
from morula.testing.errors import raises
from morula.workflows.new_document import stated
from morula.workflows.questions import answers_of
from morula.workflows.reading import Reading
from morula.workflows.segment import segment
from morula.workflows.sources import open_source

RNG = np.random.default_rng(0)
SERIES = RNG.integers(0, 200, (3, 2, 40, 48)).astype(np.uint8)
LABELS = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((8, 8), int)).astype(np.uint16)
LABELS[::8], LABELS[:, ::8] = 0, 0


@pytest.fixture
def series(tmp_path):
    """Two scenes of three time points with two channels, and labels of three time points."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "labels").mkdir()
    with tifffile.TiffWriter(tmp_path / "raw" / "a.ome.tif", ome=True) as file:
        for scene in range(2):
            file.write(SERIES + scene, metadata={"axes": "TCYX"})
    tifffile.imwrite(tmp_path / "labels" / "a.ome.tif", np.stack([LABELS, 0 * LABELS, LABELS[::-1]]), ome=True, metadata={"axes": "TYX"})
    return tmp_path


def test_reading(series):
    image = read(series / "raw" / "a.ome.tif", dataset="1", time=2, channel=1)
    assert image.axes == "YX"
    np.testing.assert_array_equal(np.asarray(image), SERIES[2, 1] + 1)
    with raises("image.no_time_point", key="time", value=3):
        read(series / "raw" / "a.ome.tif", dataset="1", time=3)
    labels = Reading(time=2).open_labels(series / "labels" / "a.ome.tif")
    np.testing.assert_array_equal(np.asarray(labels), LABELS[::-1])
    assert read(write(series / "flat.tif", LABELS, axes="YX"), time=0).axes == "YX"


def test_keys_of_a_job(series):
    source = SourceOptions(raw=str(series / "raw"), labels=str(series / "labels"))
    images = Images(scene=1, channel=0, time=2)
    (opened,), _ = open_source(source, images, key="images.train", need_labels=True)
    np.testing.assert_array_equal(opened.raw.canonical()[0], SERIES[2, 0] + 1)
    np.testing.assert_array_equal(opened.labels.canonical()[0], LABELS[::-1])
    with pytest.raises(JobError) as caught:
        open_source(source, Images(), key="images.train", need_labels=True)
    assert "images.scene: 0" in str(caught.value)
    with pytest.raises(JobError) as caught:
        load_job({"images": {"train": {"raw": "a"}, "scene": 1, "dataset": "x"}, "method": {"kind": "crappify"}})
    assert "scene" in str(caught.value)


def test_segment_and_measure(series):
    model, raw = small_model(), series / "raw" / "a.ome.tif"
    reading = Reading(scene=1, time=2, channel=1)
    list(segment(raw, model=model, output=series / "out" / "cells.tif", reading=reading))
    list(segment(SERIES[2, 1] + 1, model=model, output=series / "array" / "cells.tif"))
    first, second = (np.asarray(read_labels(series / name / "cells.tif")) for name in ("out", "array"))
    np.testing.assert_array_equal(first, second)


def run(*call):
    result = CliRunner().invoke(app, [str(each) for each in call])
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


def test_commands(series):
    labels, raw = series / "labels" / "a.ome.tif", series / "raw" / "a.ome.tif"
    assert "shape 40 x 48" in run("info", raw, "--scene", 1, "--time", 0, "--channel", 0)
    run("measure", labels, "-o", series / "t.csv", "--time", 2)
    assert len(pd.read_csv(series / "t.csv")) == 30
    run("export", labels, "--to", "geojson", "-o", series / "t.geojson", "--time", 0)
    np.testing.assert_array_equal(np.asarray(read_labels(series / "t.geojson")), LABELS)
    run("measure", labels, "-o", series / "u.csv")  # all time points, of which one has no objects
    assert pd.read_csv(series / "u.csv").groupby("time").size().to_dict() == {0: 30, 2: 30}


def test_levels_of_slides(tmp_path):
    plane = RNG.integers(0, 200, (512, 640, 3)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.svs") as file:
        options = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate", "resolutionunit": "CENTIMETER"}
        file.write(plane, subifds=2, resolution=(20_000, 20_000), **options)
        file.write(plane[::2, ::2], subfiletype=1, resolution=(10_000, 10_000), **options)
        file.write(plane[::4, ::4], subfiletype=1, resolution=(5_000, 5_000), **options)
    assert "shape 512 x 640 x 3" in run("info", tmp_path / "slide.svs")
    assert "shape 128 x 160 x 3" in run("info", tmp_path / "slide.svs", "--level", -1)
    image = read(tmp_path / "slide.svs", level=1)
    assert image.spacing == (1.0, 1.0)
    np.testing.assert_array_equal(image.data[100:140, 30:90], plane[::2, ::2][100:140, 30:90])
    with raises("level.missing"):
        read(tmp_path / "slide.svs", level=3)


def test_new_writes_what_was_chosen(series):
    given = NewJobOptions(raw=str(series / "raw"), labels=str(series / "labels"))
    answers = answers_of(interview_of(given.answers(), Reading(scene=1, time=2, channel=1), no_labels=False, ask=False))
    images = stated(answers, series)["images"]
    assert {name: images[name] for name in images if name not in ("train", "validate")} == {"scene": 1, "time": 2, "channel": 1}
    options = options_of(typer.main.get_command(app).commands["new"])
    assert {"--axes", "--channel", "--dataset", "--scene", "--time", "--voxel-size", "--missing"} <= options
    assert "--region" not in options


def test_a_region_keeps_its_place(tmp_path):
    values = RNG.integers(0, 200, (2, 8, 40, 50)).astype(np.uint16)
    write(tmp_path / "a.ome.zarr", Image(values, "CZYX", VoxelSize(0.5, 0.5, 2.0), origin=(10.0, 0.0, 3.0)))
    part = Reading(region="2:5, :, 10:", channel=1).open(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(part, values[1, 2:5, :, 10:])
    np.testing.assert_array_equal(part.data[1:, ::3, -4], values[1, 3:5, ::3, -4])
    assert part.origin == (14.0, 0.0, 8.0)
    written = read(write(tmp_path / "b.ome.zarr", part))
    assert (written.origin, written.spacing) == (part.origin, part.spacing)
    assert read(tmp_path / "b.ome.zarr", voxel_size=1).origin is None
    for region, code in (("2:5", "reading.region_axes"), ("2:9,:,:", "image.no_region"), ("5:5,:,:", "image.no_region")):
        with raises(code):
            Reading(region=region).open(tmp_path / "a.ome.zarr")
    with raises("reading.region"):
        Reading(region="1-4,:")
    assert "shape 2 x 3 x 40 x 40" in run("info", tmp_path / "a.ome.zarr", "--region", "2:5,:,10:")


def test_levels_state_where_their_first_voxel_is(tmp_path):
    write(tmp_path / "a.ome.zarr", np.zeros((600, 600), np.uint8), axes="YX", voxel_size=0.5)
    assert read(tmp_path / "a.ome.zarr").origin is None
    coarse = Reading(level=1, region="100:120,0:50").open(tmp_path / "a.ome.zarr")
    assert coarse.spacing == (1.0, 1.0)
    assert coarse.origin == (100.25, 0.25)
