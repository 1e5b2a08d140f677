"""Measurement: equal to scikit-image, physical units, any ids, several channels, nothing and everything."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops_table

import morula
from morula.core.axes import Axes
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.measurement.filter import filter_objects
from morula.measurement.measure import measure
from morula.measurement.table import column
from morula.testing.errors import raises
from morula.testing.simulate import simulate


@st.composite
def label_images(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7))
    return draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 5, 300])))


@given(label_images(), st.integers(0, 2**32))
def test_equals_scikit_image(labels, seed):
    labels = labels[0] if labels.ndim == 3 and len(labels) == 1 else labels  # measured in 2D, see the last test
    intensity = np.random.default_rng(seed).integers(0, 65536, labels.shape).astype(np.uint16)
    table = measure(labels, intensity=intensity)
    names = ("label", "area", "centroid", "bbox", "intensity_mean", "intensity_min", "intensity_max", "intensity_std")
    expected = regionprops_table(labels, intensity, properties=names)
    ours = {"area": "voxels"} | {name: name for name in names if name not in ("area", "centroid", "bbox")}
    for i, axis in enumerate("zyx"[-labels.ndim :]):
        ours |= {f"centroid-{i}": f"centroid_{axis}", f"bbox-{i}": f"box_{axis}_start", f"bbox-{i + labels.ndim}": f"box_{axis}_stop"}
    assert set(ours) == set(expected)
    for theirs, name in ours.items():
        np.testing.assert_allclose(table[name], expected[theirs], rtol=1e-9, atol=1e-9)


def test_columns_2d():
    table = measure(np.array([[1, 1, 1], [0, 2, 2]]), voxel_size=VoxelSize(0.5, 0.2), confidence=[0.9, 0.1])
    assert list(table.columns) == [
        "label", "voxels", "area_um2", "centroid_y", "centroid_x", "centroid_y_um", "centroid_x_um", "box_y_start", "box_y_stop",
        "box_x_start", "box_x_stop", "diameter", "equivalent_diameter_um", "aspect_ratio", "perimeter_um", "circularity", "elongation",
        "touches_border", "confidence",
    ]  # fmt: skip
    np.testing.assert_allclose(table["area_um2"], [0.3, 0.2])
    np.testing.assert_allclose(table["equivalent_diameter_um"], 2 * np.sqrt(np.array([0.3, 0.2]) / np.pi))
    assert table["diameter"].tolist() == [3, 2]
    np.testing.assert_allclose(table["confidence"], [0.9, 0.1], rtol=1e-6)


def test_columns_3d():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 2:5, 1:6] = 4
    table = measure(labels, voxel_size=(2.0, 1.0, 0.5))
    assert table["volume_um3"].tolist() == [30.0]
    assert table["voxels"].tolist() == [30]
    assert [table[f"centroid_{axis}"][0] for axis in "zyx"] == [1.5, 3.0, 3.0]
    assert [table[f"box_{axis}_{end}"][0] for axis in "zyx" for end in ("start", "stop")] == [1, 3, 2, 5, 1, 6]
    assert table["diameter"].tolist() == [5]
    assert table["equivalent_diameter_um"][0] == pytest.approx((6 * 30 / np.pi) ** (1 / 3))


@pytest.mark.parametrize(
    ("unit", "ndim", "columns"),
    [
        ("um", 2, ("area_um2", "equivalent_diameter_um")),
        ("nm", 3, ("volume_nm3", "equivalent_diameter_nm")),
        ("pixel", 2, ("area_px", "equivalent_diameter_px")),
        ("pixel", 3, ("volume_voxels", "equivalent_diameter_voxels")),
        ("Å", 3, ("volume_angstrom3", "equivalent_diameter_angstrom")),
    ],
)
def test_units_stand_in_the_names(unit, ndim, columns):
    table = measure(np.ones((2,) * ndim, int), voxel_size=VoxelSize(3, 3, z=3 if ndim == 3 else None, unit=unit))
    assert all(column in table for column in columns)
    assert table[columns[0]][0] == 6**ndim


def test_unknown_size_counts_pixels():
    assert measure(np.ones((3, 3), int))["area_px"].tolist() == [9]
    assert measure(np.ones((3, 3, 3), int))["volume_voxels"].tolist() == [27]


def test_image_brings_its_voxel_size():
    image = Image(np.ones((1, 2, 3, 4), np.uint16), Axes("CZYX"), VoxelSize(0.5, 0.5, z=2))
    assert measure(image)["volume_um3"].tolist() == [12.0]
    assert measure(image, voxel_size=1)["volume_um3"].tolist() == [24.0]
    raw = Image(np.arange(24.0).reshape(4, 3, 2).T, Axes("XYZ"[::-1]))
    assert measure(image, intensity=raw)["intensity_max"].tolist() == [23.0]


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6)])
def test_no_object(shape):
    table = measure(np.zeros(shape, np.uint16), intensity=np.ones(shape), confidence=[], extra=["solidity"])
    assert len(table) == 0
    assert {"label", "voxels", "confidence", "intensity_std", "solidity"} <= set(table.columns)


@pytest.mark.parametrize("label", [1, 65_535, 65_536, 2**31, 2**32 - 1])
def test_any_id_also_filling_the_image(label):
    table = measure(np.full((4, 5), label, np.int64), intensity=np.full((4, 5), 7, np.uint8))
    assert table["label"].tolist() == [label]
    assert table["voxels"].tolist() == [20]
    assert table["intensity_mean"].tolist() == [7]


def test_ids_do_not_matter():
    made = simulate(shape=(8, 32, 32), n_objects=10, rng=np.random.default_rng(0))
    ids = np.random.default_rng(1).choice(2**31, made.labels.max() + 1, replace=False)
    ids[0] = 0
    ids.sort()
    plain, renamed = (measure(labels, intensity=made.image) for labels in (made.labels, ids[made.labels]))
    assert renamed["label"].tolist() == ids[plain["label"]].tolist()
    for name in plain.columns[1:]:
        np.testing.assert_array_equal(plain[name], renamed[name])


def test_several_pieces_are_one_object():
    assert measure(np.array([[4, 0, 0, 0, 4]]))["diameter"].tolist() == [5]


def test_channels():
    labels = np.array([[1, 1, 0], [2, 0, 0]])
    picture = np.stack([labels * 10, labels * 100])
    table = measure(labels, intensity=picture)
    assert table["c0_intensity_mean"].tolist() == [10, 20]
    assert table["c1_intensity_max"].tolist() == [100, 200]
    assert measure(labels, intensity=picture[:1])["intensity_min"].tolist() == [10, 20]


def test_deviation_keeps_its_digits():
    values = 1e9 + np.array([[1.0, 2.0, 3.0, 4.0]])
    assert measure(np.ones((1, 4), int), intensity=values)["intensity_std"][0] == pytest.approx(np.std([1, 2, 3, 4]), rel=1e-6)


def test_extra_measures():
    labels = simulate(shape=(48, 48), n_objects=6, rng=np.random.default_rng(0)).labels.astype(np.uint32)
    labels[labels == 2] = 2**31
    table = measure(labels, voxel_size=0.5, intensity=labels % 251, extra=["solidity", "perimeter", "centroid_weighted"])
    assert ((table["solidity"] > 0.7) & (table["solidity"] <= 1)).all()
    assert {"perimeter", "centroid_weighted_0_um", "centroid_weighted_1_um"} <= set(table.columns)
    whole = measure(labels, voxel_size=1.0, extra=["perimeter"])
    np.testing.assert_allclose(whole["perimeter"], 2 * table["perimeter"])


def test_flat_objects_of_volumes_have_no_convex_hull():
    labels = np.zeros((6, 12, 12), np.uint16)
    labels[0, 0, 0] = 1
    labels[2, 2:6, 2:6] = 2
    labels[(1, 2, 3), (6, 7, 8), (0, 1, 2)] = 3  # along a diagonal: thicker than a voxel along every axis
    labels[1:5, 8:11, 9:12] = 4
    extra = ["solidity", "extent", "centroid_weighted", "area_convex", "feret_diameter_max"]
    table = measure(labels, voxel_size=(1, 0.4, 0.4), intensity=np.zeros(labels.shape), extra=extra)
    for name, value in (("solidity", 1), ("area_convex", 36 * 0.16), ("feret_diameter_max", np.hypot(4, 3 * 0.4 * np.sqrt(2)))):
        assert np.isnan(column(table, name)[:3]).all()
        assert column(table, name)[3] == pytest.approx(value, rel=0.1)
    assert table["extent"][:2].tolist() == [1, 1]
    assert [name for name in table.columns if name.split("_um")[0] in extra] == [
        "solidity", "extent", "area_convex_um3", "feret_diameter_max_um"
    ]  # fmt: skip
    assert filter_objects(labels, table, [["solidity > 1"], ["solidity < 0.5"]])[0].max() == 4
    assert len(measure(0 * labels, extra=extra[:2] + extra[3:])) == 0


@pytest.mark.parametrize(
    ("ndim", "voxel_size", "units"), [(2, None, ("px", "px", "px")), (2, 0.5, ("um2", "um", "um2")), (3, 0.5, ("um3", "um", "um2"))]
)
def test_extra_measures_have_their_unit_in_the_name(ndim, voxel_size, units):
    labels = np.zeros((12,) * ndim, np.uint8)
    labels[(slice(2, 8),) * ndim] = 1
    extent, length, square = units
    extra = ["area", "area_convex", "axis_major_length", "feret_diameter_max", "centroid", "inertia_tensor", "solidity", "num_pixels"]
    table = measure(labels, voxel_size, extra=extra)
    taken = f"area_{extent}" in measure(labels, voxel_size).columns
    wanted = {"area" if taken else f"area_{extent}", f"area_convex_{extent}", f"axis_major_length_{length}", "solidity", "num_pixels"}
    wanted |= {f"feret_diameter_max_{length}", f"centroid_{ndim - 1}_{length}", f"inertia_tensor_1_{ndim - 1}_{square}"}
    assert wanted <= set(table.columns)
    assert column(table, "area_convex").tolist() == table[f"area_convex_{extent}"].tolist() == [6**ndim * (voxel_size or 1) ** ndim]


@pytest.mark.parametrize(
    ("arguments", "code", "fields"),
    [
        ({"extra": ["solidty"]}, "measure.unknown", {"value": "solidty", "remedy": "Did you mean 'solidity'?"}),
        ({"extra": ["label"]}, "measure.duplicate", {"value": "label"}),
        ({"extra": ["coords"]}, "measure.not_a_number", {"value": "coords"}),
        ({"extra": ["eccentricity"]}, "measure.dimensions", {"value": "eccentricity"}),
        ({"extra": ["centroid_weighted"]}, "measure.failed", {"value": ["centroid_weighted"]}),
        ({"intensity": np.zeros((2, 2))}, "measure.intensity_shape", {}),
        ({"intensity": np.zeros((2, 3, 4, 5))}, "measure.intensity_shape", {"key": "intensity"}),
        ({"confidence": [0.5]}, "measure.confidence_shape", {"key": "confidence"}),
        ({"voxel_size": (1, 2)}, "voxel_size.count", {}),
    ],
)
def test_bad_arguments(arguments, code, fields):
    labels = np.zeros((3, 4, 4), np.uint16)
    labels[0, 0], labels[1, 1, :2] = 1, 2
    with raises(code, **fields):
        measure(labels, **arguments)


def test_not_labels():
    with raises("labels.fraction", value=0.5):
        measure(np.full((2, 2), 0.5))
    with raises("labels.negative_id", value=-3):
        measure(np.full((2, 2), -3))


def test_public_name():
    assert morula.measure(np.ones((2, 2), int))["voxels"].tolist() == [4]


@pytest.mark.parametrize("voxel_size", [None, (2.0, 0.5, 0.25), VoxelSize(y=0.5, x=0.25, z=2.0, unit="nm")])
def test_a_volume_of_one_plane_is_measured_in_2d(voxel_size):
    labels = np.zeros((9, 12), np.uint16)
    labels[2:6, 3:8], labels[7, 1:3] = 4, 9
    picture = np.random.default_rng(0).integers(0, 900, (2, 9, 12)).astype(np.uint16)
    flat = None if voxel_size is None else VoxelSize(y=0.5, x=0.25, unit=getattr(voxel_size, "unit", "um"))
    expected = measure(labels, flat, picture, extra=["solidity"], confidence=np.arange(9) / 9)
    others = [
        measure(labels[None], voxel_size, picture[:, None], extra=["solidity"], confidence=np.arange(9) / 9),
        measure(labels[None], voxel_size, Image(picture[:, None], "CZYX"), extra=["solidity"], confidence=np.arange(9) / 9),
        measure(Image(labels[None], "ZYX", flat), None, picture, extra=["solidity"], confidence=np.arange(9) / 9),
    ]
    for found in others:
        pd.testing.assert_frame_equal(found, expected)
    one = measure(labels[None], voxel_size, picture[:1])
    pd.testing.assert_frame_equal(one, measure(labels, flat, picture[0]))
