"""OME-Zarr: what we write is valid, what others write is read, pyramids are right, labels sit in their image."""

import json
import logging

import numpy as np
import pytest
import yaozarrs
import zarr

from morula.core.axes import Axes
from morula.core.palette import colours_of
from morula.core.voxel_size import VoxelSize
from morula.io import ngff
from morula.io.pyramid import plan_levels
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

RAMP = np.arange(8 * 600 * 520, dtype=np.uint32).reshape(8, 600, 520)
SIZE = VoxelSize(0.25, 0.25, 1.0)


def attributes(path) -> dict:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "scan.ome.zarr", (RAMP % 60000).astype(np.uint16), axes="ZYX", voxel_size=SIZE)


def old_image(path, version="0.4", *, shape=(2, 20, 300, 260), **multiscale):
    """An image of Zarr version 2 as other programs write it."""
    group = zarr.create_group(str(path), zarr_format=2)
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    scales = [[1.0, 2.0, 0.5, 0.5], [1.0, 2.0, 1.0, 1.0]]
    for level in range(2):
        group.create_array(str(level), data=array[..., :: 2**level, :: 2**level], chunks=(1, 10, 100, 100))
    kinds = {"c": "channel"}
    axes = [{"name": name, "type": kinds.get(name, "space"), **({} if name in kinds else {"unit": "micrometer"})} for name in "czyx"]
    datasets = [{"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scales[level]}]} for level in range(2)]
    group.attrs["multiscales"] = [{"version": version, "axes": axes, "datasets": datasets, **multiscale}]
    return array


@pytest.mark.parametrize("shape", [(300, 700), (20, 300, 600), (2, 20, 300, 300), (300, 300, 3), (1, 2, 5, 30, 30)])
def test_what_is_written_is_valid(tmp_path, shape, caplog):
    axes = {2: "YX", 3: "YXC" if shape[-1] == 3 else "ZYX", 4: "CZYX", 5: "TCZYX"}[len(shape)]
    spatial = [n for n, letter in zip(shape, axes) if letter in "ZYX"]
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.ome.zarr", rng.integers(0, 255, shape).astype(np.uint8), axes=axes, voxel_size=[0.5] * len(spatial))
    write(path, np.ones(spatial, np.uint32), labels=True, dataset="nuclei")
    write(path, np.ones(spatial, np.uint16), labels=True, dataset="cells")
    with caplog.at_level(logging.ERROR):
        for node in (path, path / "labels", path / "labels" / "nuclei", path / "labels" / "cells"):
            yaozarrs.validate_zarr_store(str(node))
    assert attributes(path / "labels") == {"version": "0.5", "labels": ["nuclei", "cells"]}
    assert len(attributes(path)["multiscales"][0]["datasets"]) == len(attributes(path / "labels" / "nuclei")["multiscales"][0]["datasets"])
    assert attributes(path)["multiscales"][0]["name"] == "a"


def test_levels_are_means_with_their_place(image):
    levels = [read(image, level=level) for level in range(3)]
    assert [level.shape for level in levels] == [(8, 600, 520), (8, 300, 260), (8, 150, 130)]
    assert [level.spacing for level in levels] == [(1, 0.25, 0.25), (1, 0.5, 0.5), (1, 1, 1)]
    full, half = np.asarray(levels[0]).astype(float), np.asarray(levels[1])
    np.testing.assert_array_equal(half, np.rint(full.reshape(8, 300, 2, 260, 2).mean((2, 4))))
    steps = attributes(image)["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert steps == [{"type": "scale", "scale": [1.0, 0.5, 0.5]}, {"type": "translation", "translation": [0.0, 0.125, 0.125]}]
    with raises("level.missing", value=3):
        read(image, level=3)
    assert read(image, level=-1).shape == (8, 150, 130)


def test_odd_sizes_repeat_the_edge(tmp_path):
    array = np.arange(301 * 303, dtype=np.float32).reshape(301, 303)
    half = np.asarray(read(write(tmp_path / "a.ome.zarr", array), level=1))
    assert half.shape == (151, 152)
    padded = np.pad(array, ((0, 1), (0, 1)), mode="edge")
    np.testing.assert_allclose(half, padded.reshape(151, 2, 152, 2).mean((1, 3)))


def test_label_levels_hold_only_ids_that_exist(tmp_path, image):
    rng = np.random.default_rng(0)
    labels = np.zeros(RAMP.shape, np.uint32)
    for number in range(60):
        z, y, x = (int(rng.integers(0, n - 7)) for n in labels.shape)
        labels[z : z + 8, y : y + 40, x : x + 40] = 2**31 + number
    place = write(image, labels, labels=True)
    assert place == image / "labels" / "labels"
    known = set(np.unique(labels))
    for level in range(3):
        found = read_labels(image, level=level)
        assert found.dtype == np.uint32
        assert set(np.unique(found)) <= known
        assert found.shape == read(image, level=level).shape
        assert found.spacing == read(image, level=level).spacing
        assert abs((np.asarray(found) > 0).mean() - (labels > 0).mean()) < 0.01
    assert attributes(place)["image-label"]["source"] == {"image": "../../"}
    assert attributes(place)["multiscales"][0]["type"] == "nearest"


def test_nearest_levels_do_not_drift(tmp_path):
    ramp = np.broadcast_to(np.arange(1, 4097, dtype=np.uint16), (2, 4096))
    path = write(tmp_path / "a.ome.zarr", ramp, labels=True)
    for level in range(1, 5):
        coarse = np.asarray(read_labels(path, level=level))[0].astype(float)
        centre = (np.arange(4096 // 2**level) + 0.5) * 2**level + 0.5
        assert abs(coarse - centre).max() <= 0.25 * 2**level + 0.5


def test_labels_are_found_by_name_and_by_path(image):
    write(image, np.ones(RAMP.shape, np.uint16), labels=True, dataset="nuclei")
    assert read_labels(image).data[0, 0, 0] == 1
    write(image / "labels" / "cells", np.full(RAMP.shape, 2, np.uint16), labels=True)
    assert read_labels(image, dataset="cells").data[0, 0, 0] == 2
    assert read_labels(f"{image}/labels/nuclei").data[0, 0, 0] == 1
    with raises("dataset.ambiguous"):
        read_labels(image)
    with raises("file.exists"):
        write(image, np.ones(RAMP.shape, np.uint16), labels=True, dataset="cells")
    write(image, np.full(RAMP.shape, 3, np.uint16), labels=True, dataset="cells", overwrite=True)
    assert read_labels(image, dataset="labels/cells").data[0, 0, 0] == 3
    assert attributes(image / "labels")["labels"] == ["nuclei", "cells"]
    np.testing.assert_array_equal(read(image).data[3, :5, :5], (RAMP % 60000)[3, :5, :5])


def test_labels_of_another_size_are_refused(image):
    with raises("ome_zarr.label_shape"):
        write(image, np.ones((7, 600, 520), np.uint16), labels=True)
    assert not list((image / "labels").iterdir())
    assert read(image).shape == RAMP.shape


def test_labels_without_image_stand_alone(tmp_path):
    path = write(tmp_path / "cells.ome.zarr", np.full((4, 30, 30), 9, np.uint16), labels=True, voxel_size=SIZE)
    assert "image-label" in attributes(path)
    assert read_labels(path).voxel_size == SIZE
    yaozarrs.validate_zarr_store(str(path))
    write(path, np.full((4, 30, 30), 8, np.uint16), labels=True, overwrite=True)
    assert read_labels(path).data[0, 0, 0] == 8


def test_zarr_suffix_with_metadata_is_ome(image, tmp_path):
    image.rename(tmp_path / "plain.zarr")
    assert read(tmp_path / "plain.zarr", level=1).spacing == (1, 0.5, 0.5)
    write(tmp_path / "plain.zarr", np.ones(RAMP.shape, np.uint16), labels=True, dataset="n")
    assert read_labels(tmp_path / "plain.zarr").spacing == (1, 0.25, 0.25)


def test_version_04(tmp_path):
    array = old_image(tmp_path / "a.zarr")
    found = read(tmp_path / "a.zarr", level=1)
    np.testing.assert_array_equal(found, array[..., ::2, ::2])
    assert (found.axes, found.spacing) == ("CZYX", (2, 1, 1))
    labels = np.ones(array.shape[1:], np.uint32)
    write(tmp_path / "a.zarr", labels, labels=True, dataset="nuclei")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.zarr"), labels)
    assert read_labels(tmp_path / "a.zarr", level=1).shape == (20, 150, 130)
    group = zarr.open_group(str(tmp_path / "a.zarr" / "labels"), mode="r", zarr_format=2)
    assert group.attrs["labels"] == ["nuclei"]
    yaozarrs.v04.LabelImage.model_validate(dict(group["nuclei"].attrs))


def test_multiscale_scale_and_old_axes_are_read(tmp_path):
    old_image(tmp_path / "a.zarr", coordinateTransformations=[{"type": "scale", "scale": [1, 10, 10, 10]}])
    assert read(tmp_path / "a.zarr").spacing == (20, 5, 5)
    assert ngff.parse({"multiscales": [{"version": "0.3", "axes": list("zyx"), "datasets": [{"path": "0"}]}]}).axes == "ZYX"
    old = ngff.parse({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})
    assert (old.axes, old.voxel_size(0)) == ("TCZYX", None)


def test_units_may_differ_an_axis():
    axes = [{"name": "z", "type": "space", "unit": "micrometer"}, {"name": "y", "unit": "nanometer"}, {"name": "x", "unit": "nanometer"}]
    scale = [{"type": "scale", "scale": [1, 200, 200]}]
    parsed = ngff.parse({"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]})
    assert parsed.voxel_size(0) == VoxelSize(0.2, 0.2, 1.0)


def test_several_images_in_one_container(tmp_path):
    zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2, attributes={"bioformats2raw.layout": 3})
    first = old_image(tmp_path / "a.zarr" / "0")
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), first)
    old_image(tmp_path / "a.zarr" / "1", shape=(2, 5, 30, 30))
    with raises("dataset.ambiguous"):
        read(tmp_path / "a.zarr")
    assert read(tmp_path / "a.zarr", dataset="1", level=1).shape == (2, 5, 15, 15)


def test_damaged_metadata(image):
    described = json.loads((image / "zarr.json").read_text())
    described["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "nowhere"
    (image / "zarr.json").write_text(json.dumps(described))
    with raises("file.unreadable"):
        read(image)
    (image / "zarr.json").write_text("{")
    with raises("file.unreadable"):
        read(image)


@pytest.mark.parametrize(
    ("shape", "spacing", "factors"),
    [
        ((100, 100), (1, 1), [(1, 1)]),
        ((1000, 300), (1, 1), [(1, 1), (2, 2), (4, 4)]),
        ((300, 300, 300), (1, 1, 1), [(1, 1, 1), (2, 2, 2)]),
        ((5, 2000, 2000), (4, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        ((1, 600, 600), (1, 1, 1), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
    ],
)
def test_plans(shape, spacing, factors):
    assert plan_levels(shape, Axes("ZYX"[-len(shape) :]), spacing) == factors


def test_float_labels_and_odd_orders_are_refused(tmp_path):
    from morula.io.formats.ome_zarr import start

    with raises("ome_zarr.label_type"):
        start(tmp_path / "a", (4, 4), np.float32, Axes("YX"), None, labels=True)
    with raises("ome_zarr.axis_order"):
        start(tmp_path / "a", (4, 4), np.float32, Axes("XY"), None)


def test_labels_have_a_colour_for_each_id(tmp_path):
    labels = np.zeros((6, 40, 40), np.uint32)
    labels[1:3, 4:9, 4:9], labels[3:5, 20:30, 20:30] = 7, 70_000
    place = write(tmp_path / "cells.ome.zarr", labels, axes="ZYX", labels=True)
    colours = json.loads((place / "zarr.json").read_text())["attributes"]["ome"]["image-label"]["colors"]
    expected = [{"label-value": label, "rgba": [*colours_of(np.array([label]))[0].tolist(), 255]} for label in (7, 70_000)]
    assert colours == expected
    many = np.arange(5041).reshape(71, 71)
    place = write(tmp_path / "many.ome.zarr", many, axes="YX", labels=True)
    assert "colors" not in json.loads((place / "zarr.json").read_text())["attributes"]["ome"]["image-label"]
