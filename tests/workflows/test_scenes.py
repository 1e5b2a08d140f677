"""Plates, scenes, time series and axes of length 1 mean the same in every command: the results are those of plain 2D files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import morula
from morula.cli.info import lines_of, lines_of_all
from morula.dialects.verbs import iter_run
from morula.io.read import read, read_labels
from morula.jobs.job import Images
from morula.jobs.job import Source as SourceOptions
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table
from morula.testing.bad_documents import small_model
from morula.testing.errors import raises
from morula.testing.simulate import simulate
from morula.workflows.evaluate import evaluate
from morula.workflows.export import export
from morula.workflows.measure import measure_file
from morula.workflows.predict import predict
from morula.workflows.reading import Reading
from morula.workflows.segment import segment
from morula.workflows.sources import open_source

SCENES = [simulate("nuclei", shape=(64, 64), n_objects=6, rng=np.random.default_rng(seed)) for seed in range(4)]
RAW = [(1000 * scene.image / scene.image.max()).astype(np.uint16) for scene in SCENES]
LABELS = [scene.labels.astype(np.uint16) for scene in SCENES]
FIELDS = ("A_1_0", "A_1_1", "B_1_0", "B_1_1")
SIZE = morula.VoxelSize(0.5, 0.5, z=1.0)


def group(path: Path, **attributes: object) -> None:
    path.mkdir(parents=True, exist_ok=True)
    inside = {"ome": {"version": "0.5", **attributes}} if attributes else {}
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": inside}))


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells of two fields with label images; T, C and Z have the length 1, as bioformats2raw writes them."""
    place = tmp_path_factory.mktemp("plate") / "plate.ome.zarr"
    group(place, plate={"name": "p", "rows": [{"name": "A"}, {"name": "B"}], "columns": [{"name": "1"}], "wells": [
        {"path": f"{row}/1", "rowIndex": number, "columnIndex": 0} for number, row in enumerate("AB")
    ]})  # fmt: skip
    for row in "AB":
        group(place / row)
        group(place / row / "1", well={"images": [{"path": "0"}, {"path": "1"}]})
    for name, raw, labels in zip(FIELDS, RAW, LABELS, strict=True):
        field = place.joinpath(*name.split("_"))
        morula.write(place.parent / "field.ome.zarr", raw[None, None, None], axes="TCZYX", voxel_size=SIZE)
        morula.write(place.parent / "field.ome.zarr", labels[None, None, None], axes="TCZYX", labels=True)
        (place.parent / "field.ome.zarr").rename(field)
    return place


def test_fields_of_a_plate_are_segmented_as_planes(plate: Path, tmp_path: Path) -> None:
    list(segment(RAW, model=small_model(), output=tmp_path / "plain"))
    list(segment(plate, model=small_model(), output=tmp_path / "plate"))
    plain = sorted((tmp_path / "plain").glob("*.tif"))
    for file, name in zip(plain, FIELDS, strict=True):
        np.testing.assert_array_equal(np.asarray(read_labels(file)), np.asarray(read_labels(tmp_path / "plate" / f"{name}.tif")))
    assert read_table(tmp_path / "plate" / "summary.csv")["image"].tolist() == list(FIELDS)
    with raises("output.duplicate"):
        list(segment(plate, model=small_model(), output=tmp_path / "all.ome.zarr"))


def test_info_says_2d(plate: Path) -> None:
    image = read(plate / "A" / "1" / "0")
    assert any("1 image in 2D" in line for line in lines_of(image))
    assert any("2 images in 2D" in line for line in lines_of_all([image, image]))


@pytest.mark.parametrize("inside", ["", "A/1"])
def test_remedies_for_plates_and_wells_name_places_that_work(plate: Path, tmp_path: Path, inside: str) -> None:
    table, rois = tmp_path / "t.csv", tmp_path / "r.zip"
    for command in (lambda place: measure_file(place, table), lambda place: export(place, ["rois"], output=rois)):
        with raises("dataset.ambiguous") as caught:
            list(command(plate / inside))
        named = caught.error.remedy.alternatives[0].removeprefix("name one as ").replace("NAME", "0" if inside else "A/1/0")
        list(command(plate.parent / named))
    np.testing.assert_array_equal(read_table(table)["voxels"], np.bincount(LABELS[0].ravel())[1:])


JOB = """\
images:
  train: {raw: PLATE, labels: PLATE}
  validate: 50%
  test: {raw: PLATE, labels: PLATE}
method: {kind: channels, channels: [F, C]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [32, 32], batch: 2, patches_per_epoch: 4}
training: {epochs: 1}
"""


def test_a_plate_is_trained_predicted_and_scored(plate: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB.replace("PLATE", str(plate)))
    events = list(iter_run(tmp_path / "job.yaml", output=tmp_path / "run"))
    assert "images.own_labels" not in [getattr(event, "code", "") for event in events]
    for command in (predict, evaluate):
        list(command(tmp_path / "run"))
        scores = read_table(tmp_path / "run" / "scores.csv")
        assert set(scores["image"].tolist()) == {*FIELDS, "pooled"}
        assert scores["n_true"][0] == len(np.unique(LABELS[0])) - 1
    assert read_labels(tmp_path / "run" / "objects" / "A_1_0.tif").axes == "YX"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Raw images and labels as four scenes of one file each."""
    for name, arrays in (("raw", RAW), ("labels", LABELS)):
        (tmp_path / name).mkdir()
        with tifffile.TiffWriter(tmp_path / name / "a.ome.tif", ome=True) as file:
            for array in arrays:
                file.write(array, metadata={"axes": "YX"})
    return tmp_path


def test_labels_of_a_scene(scenes: Path) -> None:
    raw, labels = scenes / "raw" / "a.ome.tif", scenes / "labels" / "a.ome.tif"
    list(measure_file(labels, scenes / "t.csv", intensity=raw, reading=Reading(scene=2)))
    means = [RAW[2][LABELS[2] == label].mean() for label in np.unique(LABELS[2])[1:]]
    np.testing.assert_allclose(read_table(scenes / "t.csv")["intensity_mean"], means, rtol=1e-6)
    morula.write(scenes / "plane.tif", RAW[2], axes="YX")  # an image of its own beside labels in a file of several
    list(measure_file(labels, scenes / "u.csv", intensity=scenes / "plane.tif", reading=Reading(scene=2)))
    assert (scenes / "u.csv").read_bytes() == (scenes / "t.csv").read_bytes()
    source = SourceOptions(raw=str(scenes / "raw"), labels=str(scenes / "labels"))
    (opened,), _ = open_source(source, Images(scene=2), key="images.train", need_labels=True)
    assert opened.labels is not None
    np.testing.assert_array_equal(np.asarray(opened.labels), LABELS[2])


def test_a_run_is_not_written_into_an_image(scenes: Path) -> None:
    for place in (scenes / "run.ome.zarr", scenes / "a.zarr" / "run"):
        with raises("run_folder.in_image", file=str(place)):
            RunFolder(place).check_free()
