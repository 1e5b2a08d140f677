"""Operations on labels."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from morula.kernels.geometry import geometry
from morula.kernels.relative_h_maxima import relative_h_maxima
from morula.kernels.smoothing import binomial_smooth
from morula.labels.border import clear_border
from morula.labels.holes import fill_holes
from morula.labels.objects import Objects
from morula.labels.refine import REFINEMENTS, refine, refine_objects
from morula.labels.relabel import relabel
from morula.labels.size_filter import remove_large, remove_small
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "channels.npz")


@pytest.mark.parametrize(
    ("name", "source", "operation"),
    [
        ("2d_fill", "2d_fill", "fill_holes"),
        ("3d_fill", "3d_fill", "fill_holes"),
        ("2d_border", "2d_fill", "clear_border"),
        ("2d_small", "2d_fill", {"remove_small": 500}),
        ("2d_big", "2d_fill", {"remove_large": {"size": 500}}),
    ],
)
def test_equals_the_original(name, source, operation):
    got = refine(GOLDEN[f"refine_{source}_inp"], [operation])
    np.testing.assert_array_equal(got, GOLDEN[f"refine_{name}_out"])


def test_sizes_at_the_limit_stay():
    labels = np.array([[5, 5, 0, 2**31, 2**31, 2**31]], np.uint32)
    assert remove_small(labels, 3).max() == 2**31
    assert set(np.unique(remove_small(labels, 2))) == {0, 5, 2**31}
    assert set(np.unique(remove_large(labels, 2))) == {0, 5}
    with raises("refinement.negative", key="size", value=-1):
        remove_small(labels, -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint32])
def test_operations_keep_the_type_and_the_input(dtype):
    labels = np.array([[0, 1, 1, 1, 0], [0, 1, 0, 1, 2], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], dtype)
    before = labels.copy()
    for name in REFINEMENTS.names:
        operation = {name: 1} if name.startswith("re") else name
        for array in (labels, np.stack([labels] * 3)):
            assert refine(array, [operation], mask=array > 0).dtype == dtype
    np.testing.assert_array_equal(labels, before)


def test_holes_of_one_object_only():
    labels = np.zeros((9, 9), np.uint16)
    labels[1:8, 1:8] = 3
    labels[3:6, 3:6] = 0
    labels[4, 4] = 7  # an object in the hole stays
    filled = fill_holes(labels)
    assert filled[4, 4] == 7
    assert filled[3, 3] == 3
    labels[1, 1:5] = 0
    labels[3:6, 3:6], labels[1:4, 4] = 0, 0  # open to the outside
    assert (fill_holes(labels) == labels).all()


def test_border():
    labels = np.zeros((5, 8, 8), np.uint16)
    labels[0:2, 3:5, 3:5], labels[2:4, 0:2, 3:5], labels[2:4, 4:6, 4:6] = 1, 2, 3
    assert set(np.unique(clear_border(labels))) == {0, 3}
    assert set(np.unique(clear_border(labels, axes=(-2, -1)))) == {0, 1, 3}
    assert clear_border(labels, margin=2).max() == 0
    assert set(np.unique(refine(labels, [{"clear_border": {"z": False}}]))) == {0, 1, 3}
    with raises("refinement.negative", key="margin", value=-2):
        clear_border(labels, margin=-2)


def test_order_matters():
    labels = np.zeros((9, 9), np.uint16)
    labels[3:6, 3:6] = 1
    assert refine(labels, [{"remove_small": 10}, "dilation"]).max() == 0
    assert (refine(labels, [{"dilation": 2}, {"remove_small": 10}, {"erosion": {"radius": 2}}]) > 0).sum() >= 9
    assert np.shares_memory(refine(labels, []), labels)


def test_refinement_messages():
    labels = np.zeros((4, 4), np.uint16)
    with raises("name.unknown", value="fill_hole"):
        refine(labels, ["fill_hole"])
    with raises("option.missing"):
        refine(labels, ["remove_small"])
    with raises("option.missing"):
        refine(labels, {"remove_small": None})
    with raises("refinement.format", value=5):
        refine(labels, [5])


def test_objects_keep_their_confidence():
    labels = np.array([[1, 0, 2, 2, 0, 3, 3]], np.uint16)
    objects = Objects(labels, np.array([0.1, 0.2, 0.3], np.float32))
    kept = refine_objects(objects, [{"remove_small": 2}], (1, 1))
    assert kept.labels.tolist() == [[0, 0, 1, 1, 0, 2, 2]]
    np.testing.assert_array_equal(kept.confidence, np.array([0.2, 0.3], np.float32))
    assert refine_objects(objects, (), (1, 1)) is objects


def test_relabel():
    labels = np.array([[0, 2**31, 5, 5]], np.int64)
    assert relabel(labels).tolist() == [[0, 2, 1, 1]]
    assert relabel(np.zeros((3, 3), bool)).max() == 0
    many = relabel(np.arange(70_000).reshape(280, 250) * 3)
    assert many.dtype == np.uint32
    assert many.max() == 69_999


@pytest.mark.parametrize("shape", [(30, 40), (9, 20, 15)])
def test_geometry(shape):
    labels = ndi.label(ndi.gaussian_filter(np.random.default_rng(0).random(shape), 2) > 0.5)[0].astype(np.uint32)
    found = geometry(labels)
    assert found.sizes.tolist() == np.bincount(labels.ravel()).tolist()
    np.testing.assert_allclose(found.centroids[1:], ndi.center_of_mass(labels > 0, labels, found.ids))
    for label, box in enumerate(ndi.find_objects(labels), 1):
        assert found.box(label) == box
    absent = geometry(np.array([[3, 3]], np.uint32))
    assert absent.ids.tolist() == [3]
    assert np.isnan(absent.centroids[1]).all()


def test_valleys_part_by_their_depth():
    height = np.array([[1, 5, 10, 8, 10, 4, 6, 1]], np.float32)
    mask = np.ones_like(height, bool)
    assert relative_h_maxima(height, mask, 0.1)[1] == 3
    ids, n = relative_h_maxima(height, mask, 0.25)
    assert n == 2
    assert ids[0, 2] == ids[0, 4] != ids[0, 6]
    assert relative_h_maxima(height, mask, 0.5)[1] == 1
    assert relative_h_maxima(height, np.zeros_like(mask), 0.5)[1] == 0


@pytest.mark.parametrize("shape", [(40, 50), (10, 20, 20)])
def test_valley_regions_do_not_depend_on_orientation(shape):
    height = ndi.gaussian_filter(np.random.default_rng(3).random(shape), 2).astype(np.float32)
    mask = height > 0.48
    plain, n = relative_h_maxima(height, mask, 0.05)
    turned, m = relative_h_maxima(np.ascontiguousarray(height[::-1, ::-1]), np.ascontiguousarray(mask[::-1, ::-1]), 0.05)
    assert n == m
    pairs = np.unique(np.stack([plain.ravel(), turned[::-1, ::-1].ravel()]), axis=1)
    assert pairs.shape[1] <= (n + 1) * 1.2


def test_smoothing_keeps_the_sum_and_knows_the_voxel_size():
    values = np.zeros((9, 9, 9), np.float32)
    values[4, 4, 4] = 1
    smoothed = binomial_smooth(values, (2.0, 1.0, 1.0))
    assert smoothed.sum() == pytest.approx(1)
    assert smoothed[3, 4, 4] < smoothed[4, 3, 4]
    assert values.sum() == 1


def test_operations_in_every_spelling():
    labels = np.array([[1, 1, 0, 2]], np.uint16)
    listed = refine(labels, [{"remove_small": 2}, "dilation"])
    np.testing.assert_array_equal(refine(labels, {"remove_small": 2, "dilation": 1}), listed)
    np.testing.assert_array_equal(refine(labels, "dilation"), refine(labels, ["dilation"]))
