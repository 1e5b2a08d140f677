"""Confidences of objects as probabilities."""

import numpy as np
import pytest

from morula.measurement.calibration import calibrated, calibration_error, fit_calibration, intervals, share_of_errors


def simulated(n=4000, seed=0, roundness="circularity"):
    """Objects of which large and ragged ones are often wrong, by a known probability."""
    rng = np.random.default_rng(seed)
    table = {
        "voxels": np.exp(rng.normal(5, 0.5, n)).astype(int) + 1,
        "confidence": rng.uniform(0.5, 1, n).astype(np.float32),
        roundness: rng.uniform(0.4, 1.1, n),
        "touching": rng.uniform(0, 0.5, n),
        "ellipsoid_fit": rng.uniform(0.7, 1, n),
        "contrast": rng.uniform(0.5, 5, n),
    }
    large = np.maximum(np.log(table["voxels"] / np.median(table["voxels"])), 0)
    chance = 1 / (1 + np.exp(-(1 - 4 * large + 5 * (table[roundness] - 0.5))))
    return table, chance, rng.random(n) < chance


@pytest.mark.parametrize("roundness", ["circularity", "sphericity"])
def test_known_probabilities_are_found(roundness):
    table, _, right = simulated(roundness=roundness)
    found = fit_calibration([table], [right])
    assert (found.images, found.objects, found.right) == (1, 4000, right.sum())
    other, truth, hits = simulated(seed=1, roundness=roundness)
    confidence = calibrated(found, other)
    assert confidence.dtype == np.float32
    assert np.abs(confidence - truth).mean() < 0.02
    assert calibration_error(confidence, hits) < 0.03
    assert share_of_errors(confidence, hits) > share_of_errors(other["confidence"], hits) + 0.2


@pytest.mark.parametrize("all_right", [True, False])
def test_the_confidence_stays_below_certainty(all_right):
    table, _, _ = simulated(100)
    confidence = calibrated(fit_calibration([table], [np.full(100, all_right)]), table)
    assert np.all((confidence > 0) & (confidence < 1))
    assert np.all((confidence > 0.9) == all_right)


def test_too_few_objects_give_no_calibration():
    table, _, right = simulated(19)
    assert fit_calibration([table], [right]) is None
    assert fit_calibration([], []) is None


@pytest.mark.parametrize("n", [0, 1])
def test_images_of_no_or_one_object(n):
    table, _, right = simulated(50)
    few = {name: values[:n] for name, values in table.items()}
    found = fit_calibration([table, few], [right, right[:n]])
    assert calibrated(found, few).shape == (n,)
    assert found.objects == 50 + n


def test_objects_without_outline_are_rated():
    table, _, right = simulated(50)
    table["circularity"][0] = np.nan
    assert np.isfinite(calibrated(fit_calibration([table], [right]), table)).all()


def test_figures_by_hand():
    confidence = np.array([0.05, 0.95, 0.95, 1.0, 0.55])
    right = np.array([False, True, False, True, True])
    assert intervals(confidence).tolist() == [0, 9, 9, 9, 5]
    # |0.05 - 0| + |2.9 - 2| + |0.55 - 1|, over five objects
    assert calibration_error(confidence, right) == pytest.approx((0.05 + 0.9 + 0.45) / 5)
    assert share_of_errors(confidence, right) == 0.5
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, bool)))
    assert np.isnan(share_of_errors(confidence, np.ones(5, bool)))
