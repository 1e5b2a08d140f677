"""Adapted Rand error, average precision and signal to noise against skimage and by hand."""

import math
import warnings

import numpy as np
import pytest

from morula.metrics.image_scores import ImageScores
from morula.metrics.matching import average_precision, match
from morula.metrics.partition import variation_of_information
from morula.metrics.rand import adapted_rand_error
from morula.metrics.restoration import mean_squared_error, peak_signal_noise_ratio
from morula.testing.errors import raises


@pytest.mark.parametrize("shape", [(20, 21), (6, 9, 10)])
@pytest.mark.parametrize("high", [2, 5, 70_000])
def test_adapted_rand_error_equals_scikit_image(shape, high):
    from skimage.metrics import adapted_rand_error as reference

    rng = np.random.default_rng(0)
    ids = rng.integers(0, high, 40)
    truth = ids[rng.integers(0, 4, shape).cumsum(axis=0) % 40]
    prediction = ids[rng.integers(0, 2, shape).cumsum(axis=-1) % 40]
    with warnings.catch_warnings(action="ignore"):
        assert adapted_rand_error(truth, prediction) == pytest.approx(reference(truth, prediction)[0], rel=1e-12)
        expected = reference(truth, prediction, ignore_labels=())[0]
    assert adapted_rand_error(truth, prediction, ignore=None) == pytest.approx(expected, rel=1e-12)
    assert adapted_rand_error(truth, truth) == 0


def test_adapted_rand_error_of_nothing():
    assert math.isnan(adapted_rand_error(np.zeros((3, 3), int), np.ones((3, 3), int)))
    assert adapted_rand_error(np.ones((3, 3), int), np.arange(9).reshape(3, 3)) == 1


@pytest.mark.parametrize("shape", [(20, 21), (6, 9, 10)])
def test_variation_of_information_equals_scikit_image(shape):
    from skimage.metrics import variation_of_information as reference

    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 6, shape), rng.integers(0, 4, shape).cumsum(axis=-1) // 5
    split, merge = variation_of_information(truth, prediction, ignore=None)
    np.testing.assert_allclose((split, merge), reference(truth, prediction), rtol=1e-9)
    names = rng.permutation(100_000)
    np.testing.assert_allclose(variation_of_information(names[truth] + 1, prediction, ignore=None), (split, merge), rtol=1e-9)
    assert variation_of_information(truth, truth) == (0, 0)
    assert all(map(math.isnan, variation_of_information(0 * truth, prediction)))


def test_scores_of_images_are_pooled_by_voxels():
    rng = np.random.default_rng(2)
    images = [(rng.integers(0, 4, (8, n)), rng.integers(1, 4, (8, n))) for n in (5, 20)]
    one, two = (ImageScores.of(*image) for image in images)
    apart = [np.where(each > 0, each + 10 * i, 0) for image in zip(*images, strict=True) for i, each in enumerate(image)]
    joined = ImageScores.of(np.hstack(apart[:2]), np.hstack(apart[2:]))
    for name, value in (one + two).figures().items():
        assert value == pytest.approx(joined.figures()[name], rel=1e-9)


def test_average_precision_is_the_mean_of_the_accuracies():
    truth, prediction = np.zeros((12, 12), int), np.zeros((12, 12), int)
    truth[:6, :6], truth[8:, 8:] = 1, 2
    prediction[:6, :5], prediction[8:, 8:] = 4, 9
    limits = np.linspace(0.5, 0.95, 10)
    assert average_precision(truth, prediction) == pytest.approx(np.mean([match(truth, prediction, limit)[0].accuracy for limit in limits]))
    assert average_precision(truth, truth) == 1


def test_restoration():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((2, 5, 6)).astype(np.float32)
    assert mean_squared_error(truth, prediction) == pytest.approx(np.mean((truth.astype(float) - prediction) ** 2), rel=1e-12)
    expected = 10 * math.log10(4 / mean_squared_error(truth, prediction))
    assert peak_signal_noise_ratio(truth, prediction, data_range=2.0) == pytest.approx(expected)
    assert peak_signal_noise_ratio(truth, truth) == math.inf
    with raises("metric.data_range"):
        peak_signal_noise_ratio(np.ones(3), np.zeros(3))
    with raises("metric.shapes"):
        mean_squared_error(np.ones(3), np.ones(4))
