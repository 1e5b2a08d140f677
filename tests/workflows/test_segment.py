"""New images through a trained model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import dask.array
import numpy as np
import pandas
import pytest
import torch
import xarray
import zarr

import morula
from morula.core.events import Warned
from morula.inference.options import Prediction
from morula.jobs.load import load_job
from morula.jobs.tuning import changed
from morula.methods import METHODS
from morula.models.model import Model
from morula.testing.errors import raises
from morula.workflows.prepare import prepare


def test_segment_writes_labels_and_a_table_beside_them(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    list(morula.segment(data2d / "test/images", model=run2d, output=tmp_path / "out"))
    names = [f"nuclei_00{number}.{suffix}" for number in (0, 1) for suffix in ("csv", "provenance.json", "tif")]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["experiment.csv", *names, "summary.csv"]
    first = np.asarray(morula.read(tmp_path / "out/nuclei_000.tif"))
    assert (first == np.asarray(morula.read(run2d / "objects/nuclei_000.tif"))).all()


def test_earlier_keys_in_a_stored_job_are_warned_of(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    shutil.copytree(run2d / "model", tmp_path / "model")
    description = json.loads((tmp_path / "model/model.json").read_text())
    objects = description["job"]["objects"]
    objects["process"] = objects.pop("decoder")
    (tmp_path / "model/model.json").write_text(json.dumps(description))
    image = data2d / "test/images/nuclei_000.tif"
    events = list(morula.segment(image, model=tmp_path / "model", output=tmp_path / "cells.tif"))
    assert "job.earlier_key" in [event.code for event in events if isinstance(event, Warned)]


def test_labels_before_post_processing_are_kept(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    model = morula.load(run2d)
    image = morula.read(data2d / "test/images/nuclei_000.tif")

    def refining(**options: object) -> Model:
        job = changed(model.job, {"objects.refine.erosion": 1, **options})
        method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=2, spacing=model.method.spacing)
        return replace(model, job=job, method=method)

    list(morula.segment(image, model=refining(), output=tmp_path / "plain/cells.tif"))
    assert sorted(path.name for path in (tmp_path / "plain").glob("[!.]*")) == ["cells.csv", "cells.provenance.json", "cells.tif"]
    refined = refining(**{"objects.intermediates": True})
    list(morula.segment(image, model=refined, output=tmp_path / "cells.tif"))
    before = np.asarray(morula.read(tmp_path / "before/cells.tif"))
    after = np.asarray(morula.read(tmp_path / "cells.tif"))
    np.testing.assert_array_equal(before, np.asarray(model.segment(image)))
    assert 0 < np.count_nonzero(after) < np.count_nonzero(before)
    for path in tmp_path.glob("[!.]*"):
        if path.is_file():
            path.unlink()
    with raises("output.exists") as taken:
        list(morula.segment(image, model=refined, output=tmp_path / "cells.tif"))
    assert taken.error is not None
    assert str(tmp_path / "before/cells.tif") in taken.error.file
    list(morula.segment(image, model=refined, output=tmp_path / "cells.tif", overwrite=True))


def test_names_with_dots(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    """`scan.t1.tif` and `scan.t2.tif` are two images: neither their labels nor their tables go over each other."""
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    for name in ("scan.t1", "scan.t2"):
        morula.write(tmp_path / "in" / f"{name}.tif", image)
    list(morula.segment(tmp_path / "in", model=run2d, output=tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").glob("sc*[fv]")) == ["scan.t1.csv", "scan.t1.tif", "scan.t2.csv", "scan.t2.tif"]
    array = np.asarray(image)
    list(morula.segment([array, array], model=run2d, output=tmp_path / "arrays"))
    assert sorted(path.name for path in (tmp_path / "arrays").glob("*.tif")) == ["image_0.tif", "image_1.tif"]
    morula.write(tmp_path / "again" / "scan.t1.tif", image)
    list(morula.segment([tmp_path / "in", tmp_path / "again"], model=run2d, output=tmp_path / "both"))
    names = ["again_scan.t1.tif", "in_scan.t1.tif", "scan.t2.tif"]
    assert sorted(path.name for path in (tmp_path / "both").glob("*.tif")) == names
    with raises("output.duplicate", file=str(tmp_path / "same/nuclei_000.tif")):
        list(morula.segment([image, image], model=run2d, output=tmp_path / "same"))


def test_intermediates_of_the_decoder(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    model = morula.load(run2d)
    asking = replace(model, job=changed(model.job, {"objects.intermediates": True}))
    list(morula.segment(data2d / "test/images/nuclei_000.tif", model=asking, output=tmp_path / "cells.1.tif"))
    found = {path.name for path in (tmp_path / "intermediates").iterdir()}
    assert {"cells.1_seeds.tif", "cells.1_surface.tif", "cells.1_growth.tif"} <= found


def test_the_spread_of_orientations_is_that_of_flipped_images(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    model, image = morula.load(run2d), morula.read(sorted((data2d / "test" / "images").iterdir())[0])
    spread = replace(model, job=model.job.model_copy(update={"prediction": Prediction(tta="flips", tta_spread=True)}))
    list(morula.segment(image, model=spread, output=tmp_path / "cells.tif", device="cpu"))
    labels, table = np.asarray(morula.read(tmp_path / "cells.tif")), pandas.read_csv(tmp_path / "cells.csv")
    single, values = morula.load(run2d), np.asarray(image)
    turned = [np.flip(single.predict(np.flip(values, axes)), [axis + 1 for axis in axes]) for axes in ((), (0,), (1,), (0, 1))]
    means = [[[prediction[row][labels == label].mean() for row in range(3)] for label in table["label"]] for prediction in turned]
    assert len(table) > 1
    np.testing.assert_allclose(table["tta_spread"], np.std(means, axis=0).mean(axis=1), rtol=1e-3, atol=1e-6)
    assert table["tta_spread"].min() > 0
    assert "tta_spread" in spread.block_problem()


def test_a_spread_needs_orientations_and_objects(data2d: Path) -> None:
    train = {"raw": str(data2d / "train" / "images"), "labels": str(data2d / "train" / "labels")}
    document = {"images": {"train": train}, "method": {"kind": "semantic"}, "prediction": {"tta_spread": True}}
    with raises("prediction.spread_of_one"):
        load_job(document)
    with raises("prediction.no_spread"):
        prepare(load_job({**document, "prediction": {"tta": "flips", "tta_spread": True}}))


def test_one_image_goes_into_the_file_that_is_named(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    list(morula.segment(image, model=run2d, output=tmp_path / "cells.ome.zarr"))
    labels = morula.read(tmp_path / "cells.ome.zarr")
    assert labels.spatial_shape == (64, 64)
    assert labels.dtype.kind == "u"


def test_model_takes_arrays_and_images(run2d: Path, data2d: Path) -> None:
    model = morula.load(run2d)
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    channels = model.predict(np.asarray(image))
    assert channels.shape == (3, 64, 64)
    assert channels.dtype == np.float32
    assert (np.asarray(model.segment(image)) == np.asarray(model.segment(np.asarray(image)))).all()
    assert (np.asarray(model.segment(image)) == model.decode(channels).labels).all()


def test_results_are_arrays_with_a_voxel_size(run2d: Path, data2d: Path) -> None:
    model = morula.load(run2d)
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    labels = model.segment(image)
    assert isinstance(labels, np.ndarray)
    assert (labels.axes, labels.voxel_size) == ("YX", image.voxel_size)
    assert len(morula.measure(labels)) == labels.max()
    assert morula.match(labels, labels)[0].f1 == 1
    array = np.asarray(image)
    several = model.segment([array, array[:40, :50]], voxel_size=0.3)
    assert [each.shape for each in several] == [(64, 64), (40, 50)]
    assert several[1].spacing == (0.3, 0.3)


def test_arrays_of_other_libraries_give_the_same_labels(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    model = morula.load(run2d)
    array = np.asarray(morula.read(data2d / "test/images/nuclei_000.tif"))
    expected = model.segment(array)
    stored = zarr.create_array(tmp_path / "a.zarr", shape=array.shape, dtype=array.dtype, chunks=(20, 30))
    stored[:] = array
    lazy = dask.array.from_zarr(stored)
    tensor = torch.from_numpy(array.astype(np.float32))
    for values in (stored, lazy, tensor, xarray.DataArray(lazy.T, dims=("x", "y")), array[..., None], array[None], array.tolist()):
        np.testing.assert_array_equal(model.segment(values), expected)
    np.testing.assert_array_equal(model.segment(array[None, :, None], axes="CYTX"), expected)


def test_rgb_pictures_may_have_their_channels_last(run2d: Path) -> None:
    model = replace(morula.load(run2d), in_channels=3)
    assert [model.as_image(np.zeros(shape)).axes for shape in ((64, 64, 3), (3, 64, 64), (3, 64, 3))] == ["YXC", "CYX", "CYX"]


def test_a_model_describes_itself_in_five_lines(run2d: Path) -> None:
    lines = repr(morula.load(run2d)).splitlines()
    assert len(lines) == 5
    assert lines[0] == f"Model {str(run2d)!r}: channels -> F, C, Db"
    assert lines[1].split(":")[1].strip() == "2D, axes YX, 1 channel(s)"


def test_openvino_equals_torch(run2d: Path, data2d: Path) -> None:
    model = morula.load(run2d)
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    prediction = model.job.prediction.model_copy(update={"backend": "openvino"})
    other = replace(model, job=model.job.model_copy(update={"prediction": prediction}))
    with raises("openvino.device", key="device"):
        other.predict(image, device="cuda")
    if importlib.util.find_spec("openvino") is None:
        with raises("backend.not_installed"):
            other.predict(image)
    else:
        np.testing.assert_allclose(other.predict(image), model.predict(image), atol=1e-4)


def test_a_job_may_ask_for_short_numbers(run2d: Path, data2d: Path) -> None:
    model = morula.load(run2d)
    image = morula.read(data2d / "test/images/nuclei_000.tif")
    prediction = model.job.prediction.model_copy(update={"precision": "bf16"})
    found = replace(model, job=model.job.model_copy(update={"prediction": prediction})).predict(image)
    difference = np.abs(found - model.predict(image))
    assert difference.max() > 0
    assert difference.mean() < 0.05


def test_unsuitable_images_are_rejected(run2d: Path) -> None:
    model = morula.load(run2d)
    with raises("model.image_dimensions", key="image"):
        model.segment(morula.Image(np.zeros((4, 32, 32)), "ZYX"))
    with raises("model.image_channels", value=3):
        model.segment(morula.Image(np.zeros((32, 32, 3)), "YXC"))
    with raises("image.path", value=str(run2d)):
        model.segment(run2d)
    with raises("model.image_dimensions", value=(2, 3, 32, 32)):
        model.segment(np.zeros((2, 3, 32, 32)))
    with raises("image.not_finite"):
        model.segment(np.full((32, 32), np.nan))


def test_results_are_not_overwritten(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    image = data2d / "test/images/nuclei_000.tif"
    list(morula.segment(image, model=run2d, output=tmp_path / "a.tif"))
    with raises("output.exists", file=str(tmp_path / "a.tif")):
        list(morula.segment(image, model=run2d, output=tmp_path / "a.tif"))
    list(morula.segment(image, model=run2d, output=tmp_path / "a.tif", overwrite=True))


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with raises("model.missing"):
        morula.load(tmp_path)


@pytest.mark.parametrize("values", [np.zeros((40, 50), np.uint8), np.full((40, 50), 7.0, np.float32)])
def test_a_constant_image_gives_a_warning_and_a_result(run2d: Path, tmp_path: Path, values: np.ndarray) -> None:
    from morula.core.events import Warned

    events = list(morula.segment(values, model=run2d, output=tmp_path / "a.tif"))
    assert any(isinstance(event, Warned) and "constant" in event.message for event in events)
    assert (tmp_path / "a.csv").is_file()


def test_an_image_smaller_than_the_patch(run2d: Path) -> None:
    labels = morula.load(run2d).segment(np.random.default_rng(0).normal(size=(5, 9)))
    assert labels.shape == (5, 9)


def test_the_wrong_voxel_size_is_told(run2d: Path) -> None:
    from dataclasses import replace

    model = replace(morula.load(run2d), voxel_size=morula.VoxelSize(0.5, 0.5))
    image = morula.Image(np.zeros((8, 8)), "YX", morula.VoxelSize(0.1, 0.1))
    assert "trained at (0.5, 0.5)" in model.warnings(image)[0]
    assert model.warnings(morula.Image(np.zeros((8, 8)), "YX", morula.VoxelSize(500, 500, unit="nm"))) == []


def test_tables_of_all_images(run2d: Path, data2d: Path, tmp_path: Path) -> None:
    images = sorted((data2d / "test/images").glob("*.tif"))
    for image in images:  # a later command with the same folder extends the tables
        list(morula.segment([image], model=run2d, output=tmp_path / "one"))
    list(morula.segment(images, model=run2d, output=tmp_path / "all"))
    tables = [pandas.read_csv(tmp_path / folder / "experiment.csv") for folder in ("one", "all")]
    pandas.testing.assert_frame_equal(*tables)
    parts = [pandas.read_csv(tmp_path / "all" / f"{image.stem}.csv") for image in images]
    pandas.testing.assert_frame_equal(tables[1].drop(columns="image"), pandas.concat(parts, ignore_index=True))
    summary = pandas.read_csv(tmp_path / "all" / "summary.csv", index_col="image")
    for image, part in zip(images, parts, strict=True):
        row = summary.loc[image.stem]
        assert (row["objects"], row["at_border"]) == (len(part), part["touches_border"].sum())
        assert row["intensity_mean_mean"] == pytest.approx(part["intensity_mean"].mean(), rel=1e-5)
    assert max(len(text) for text in (tmp_path / "all" / "experiment.csv").read_text().replace("\n", ",").split(",")) <= 28
    (tmp_path / "all" / "summary.csv").write_text("mine")
    with raises("output.not_own"):
        list(morula.segment(images, model=run2d, output=tmp_path / "all", overwrite=True))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "experiment.csv").write_text("mine")
    with raises("output.not_own"):
        list(morula.segment(images, model=run2d, output=tmp_path / "own"))
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["experiment.csv"]
    assert (run2d / "experiment.csv").is_file()
