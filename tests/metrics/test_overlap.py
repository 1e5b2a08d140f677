"""Contingency, IoU and Dice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morula.core.axes import Axes
from morula.core.image import Image
from morula.metrics import overlap
from morula.metrics.overlap import class_table, contingency, dice, dice_per_class, iou, iou_per_class
from morula.testing.errors import raises

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)
TYPES = ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def by_dictionary(truth, prediction):
    counts = {}
    for pair in zip(truth.ravel().tolist(), prediction.ravel().tolist()):
        counts[tuple(map(int, pair))] = counts.get(tuple(map(int, pair)), 0) + 1
    return counts


def as_dictionary(table):
    return {(t, p): n for t, p, n in zip(table.truth.tolist(), table.prediction.tolist(), table.count.tolist())}


@st.composite
def two_images(draw, high=2**32 - 1):
    shape = draw(SHAPES)
    ids = st.sampled_from(sorted({0, 1, 2, 7, min(255, high), min(70_000, high), min(2**31, high), high}))
    return tuple(draw(hnp.arrays(np.uint32, shape, elements=ids)) for _ in range(2))


@given(two_images())
def test_contingency_equals_counting(images):
    table = contingency(*images)
    assert as_dictionary(table) == by_dictionary(*images)
    assert list(as_dictionary(table)) == sorted(as_dictionary(table))


@given(two_images(high=40))
def test_hash_map_equals_table(images):
    flat = [image.ravel() for image in images]
    keys, counts = overlap._count_hashed(*flat)
    hashed = {(int(key) >> 32, int(key) & 0xFFFFFFFF): int(n) for key, n in zip(keys, counts)}
    assert hashed == as_dictionary(contingency(*images)) == by_dictionary(*images)


def test_hash_map_grows():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 2**32, (2, 150, 200), dtype=np.uint32)
    table = contingency(truth, prediction)
    assert len(table.count) > 2**14
    assert as_dictionary(table) == by_dictionary(truth, prediction)


@pytest.mark.parametrize("one", TYPES)
@pytest.mark.parametrize("two", TYPES)
def test_any_integer_type(one, two):
    truth, prediction = np.array([[0, 1, 1]], one), np.array([[1, 1, 0]], two)
    assert as_dictionary(contingency(truth, prediction)) == {(0, 1): 1, (1, 0): 1, (1, 1): 1}
    assert iou(truth, prediction) == pytest.approx(1 / 3)


def test_views_and_images():
    image = np.random.default_rng(0).integers(0, 5, (6, 7, 8))
    turned = image.transpose(2, 0, 1)[::-1, :, ::2]
    assert as_dictionary(contingency(turned, turned + 1)) == by_dictionary(turned, turned + 1)
    assert as_dictionary(contingency(Image(image[None], Axes("CZYX")), image)) == by_dictionary(image, image)


def test_empty_array():
    assert len(contingency(np.zeros((0, 5), int), np.zeros((0, 5), int)).count) == 0


@pytest.mark.parametrize(
    ("truth", "prediction", "code", "key"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "metric.shapes", ""),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "metric.type", "truth"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "metric.ids", "prediction"),
        (np.zeros((2, 2), int), np.full((2, 2), 2**32), "metric.ids", "prediction"),
        (np.zeros(4, int), np.zeros(4, int), "image.dimensions", "shape"),
    ],
)
def test_bad_labels(truth, prediction, code, key):
    with raises(code, key=key):
        contingency(truth, prediction)


@given(two_images(high=1))
def test_iou_and_dice_of_masks(images):
    truth, prediction = (image > 0 for image in images)
    common, either = (truth & prediction).sum(), (truth | prediction).sum()
    if either:
        assert iou(*images) == pytest.approx(common / either)
        assert dice(*images) == pytest.approx(2 * common / (truth.sum() + prediction.sum()))
        assert dice(*images) == pytest.approx(2 * iou(*images) / (1 + iou(*images)))
    else:
        assert np.isnan(iou(*images))
        assert np.isnan(dice(*images))


def test_ignored_voxels_count_nowhere():
    truth, prediction = np.array([[1, 1, 255, 255, 0]]), np.array([[1, 0, 1, 0, 0]])
    assert iou(truth, prediction, ignore=255) == 0.5
    assert dice(truth, prediction, ignore=255) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(class_table(truth, prediction, 2, ignore=255), [[1, 0], [1, 1]])


def test_ignored_background():
    """Ignoring 0 judges the labelled part only."""
    assert iou(np.array([[0, 0, 1, 2]]), np.array([[1, 1, 1, 0]]), ignore=0) == 0.5


def test_classes():
    truth, prediction = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]])
    table = class_table(truth, prediction, 4)
    np.testing.assert_array_equal(table.sum(axis=1), [1, 2, 1, 0])
    np.testing.assert_allclose(iou_per_class(table), [1, 0.5, 0.5, np.nan])
    np.testing.assert_allclose(dice_per_class(table), [1, 2 / 3, 2 / 3, np.nan])
    np.testing.assert_array_equal(table + table, class_table(np.vstack([truth] * 2), np.vstack([prediction] * 2), 4))


def test_value_that_is_no_class():
    with raises("metric.class_range", key="truth", value=255):
        class_table(np.array([[255]]), np.array([[0]]), 2)
    with raises("metric.class_range", key="prediction", value=3):
        class_table(np.array([[1]]), np.array([[3]]), 2)
    with raises("metric.class_count", value=0):
        class_table(np.array([[1]]), np.array([[3]]), 0)
