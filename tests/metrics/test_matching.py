"""Matching: StarDist's definition by brute force, goldens, conventions where there is no object, pooling."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

import morula
from morula.metrics.matching import Overlaps, Scores, associate, average, match, pool
from morula.testing.errors import raises
from morula.testing.simulate import simulate

GOLDEN = Path(__file__).parents[1] / "golden" / "matching"
THRESHOLDS = (0.05, 0.3, 0.5, 0.75, 1.0)


def stardist(truth, prediction, threshold):
    """The definition, written out: one dense IoU matrix, one assignment."""
    true_ids, pred_ids = (np.unique(image[image > 0]) for image in (truth, prediction))
    n = min(len(true_ids), len(pred_ids))
    shared = np.zeros((len(true_ids), len(pred_ids)))
    for i, t in enumerate(true_ids):
        for j, p in enumerate(pred_ids):
            shared[i, j] = ((truth == t) & (prediction == p)).sum() / ((truth == t) | (prediction == p)).sum()
    tp, total = 0, 0.0
    if n and (shared >= threshold).any():
        rows, columns = linear_sum_assignment(-(shared >= threshold).astype(float) - shared / (2 * n))
        hits = shared[rows, columns] >= threshold
        tp, total = int(hits.sum()), float(shared[rows, columns][hits].sum())
    return Scores.of(threshold, tp, len(true_ids), len(pred_ids), total)


def assert_equal(one, two):
    assert asdict(one) == pytest.approx(asdict(two), abs=1e-12)


@st.composite
def two_images(draw):
    """Small images with few ids: halves, thirds and ties of the IoU are common."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5))
    ids = st.sampled_from([0, 0, 1, 2, 3, 300, 2**31])
    return tuple(draw(hnp.arrays(np.int64, shape, elements=ids)) for _ in range(2))


@given(two_images(), st.sampled_from(THRESHOLDS))
def test_equals_the_definition(images, threshold):
    assert_equal(match(*images, threshold)[0], stardist(*images, threshold))


@given(two_images(), st.sampled_from([0.5, 0.6, 0.75, 1.0]))
def test_short_way_equals_the_assignment(images, threshold):
    """At 0.5 and above no assignment is solved; the result is the same."""
    overlaps = Overlaps.of(*images)
    short, assigned = overlaps.matches(threshold), overlaps._assigned(threshold)
    assert len(short) == len(assigned)
    assert overlaps.iou[short].sum() == pytest.approx(overlaps.iou[assigned].sum())
    if threshold > 0.5:
        assert set(short.tolist()) == set(assigned.tolist())


def test_two_halves_tie_at_one_half():
    truth, prediction = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3]]), np.array([[1, 1, 2, 2, 0, 3, 3, 3, 3]])
    for threshold in (0.5, 0.499):
        score = match(truth, prediction, threshold)[0]
        assert (score.tp, score.fp, score.fn) == (2, 1, 1)
        assert score.mean_matched_score == 0.5
    assert_equal(match(truth, prediction, 0.5)[0], stardist(truth, prediction, 0.5))


def test_more_matches_come_before_better_ones():
    """The pair of IoU 0.45 is given up, as two pairs of 0.35 and 0.3 can be had."""
    shared = Overlaps(np.arange(2), np.arange(2), np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.45, 0.35, 0.3]))
    assert sorted(shared.matches(0.3).tolist()) == [1, 2]
    assert shared.matches(0.4).tolist() == [0]


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("shape", "n"), [((64, 64), 25), ((10, 32, 32), 12)])
def test_simulated_images(shape, n, threshold):
    truth = simulate(shape=shape, n_objects=n, rng=np.random.default_rng(1)).labels
    prediction = np.roll(truth, (2, 1), axis=(-1, -2))
    prediction[prediction == 3] = 0
    prediction[prediction == 5] = 6
    assert_equal(match(truth, prediction, threshold)[0], stardist(truth, prediction, threshold))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_goldens(threshold):
    arrays = np.load(GOLDEN / "labels.npz")
    expected = json.loads((GOLDEN / "scores.json").read_text())[f"matching_2d_{threshold}"]
    found = asdict(match(arrays["truth"], arrays["prediction"], threshold)[0])
    for name, value in expected.items():
        assert found["threshold" if name == "thresh" else name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("join", "case"), [(pool, "byimage0"), (average, "byimage1")])
def test_goldens_of_a_data_set(join, case):
    arrays = np.load(GOLDEN / "labels.npz")
    truth, limits = arrays["truth"], (0.5, 0.75)
    found = join([match(truth, arrays["prediction"], limits), match(truth, truth, limits)])
    for score, expected in zip(found, json.loads((GOLDEN / "scores.json").read_text())[f"matching_dataset_2d_{case}"], strict=True):
        for name in (
            "tp",
            "fp",
            "fn",
            "precision",
            "recall",
            "accuracy",
            "f1",
            "panoptic_quality",
            "mean_true_score",
            "mean_matched_score",
        ):
            assert getattr(score, name) == pytest.approx(expected[name], abs=1e-6)


EMPTY, ONE = np.zeros((4, 4), np.uint16), np.eye(4, dtype=np.uint16)


@pytest.mark.parametrize(
    ("truth", "prediction", "counts", "figure"),
    [(EMPTY, EMPTY, (0, 0, 0), 0.0), (ONE, EMPTY, (0, 0, 1), 0.0), (EMPTY, ONE, (0, 1, 0), 0.0), (ONE, ONE, (1, 0, 0), 1.0)],
)
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_nothing_to_match(truth, prediction, counts, figure, threshold):
    """No object on a side: all figures are 0, also where nothing was to be found (StarDist's convention)."""
    score = match(truth, prediction, threshold)[0]
    assert (score.tp, score.fp, score.fn) == counts
    for name in ("precision", "recall", "accuracy", "f1", "panoptic_quality", "mean_true_score", "mean_matched_score"):
        assert getattr(score, name) == figure


def test_object_that_fills_the_image():
    full = np.full((3, 5, 5), 2**31, np.uint32)
    assert match(full, full)[0].f1 == 1
    assert match(full, np.ones_like(full))[0].panoptic_quality == 1


def test_ids_say_nothing():
    made = simulate(shape=(64, 64), n_objects=20, rng=np.random.default_rng(2)).labels
    shifted = np.roll(made, 2, axis=0)
    names = np.random.default_rng(0).choice(2**31, made.max() + 1, replace=False).astype(np.int64)
    names[0] = 0
    for one, two in zip(match(made, shifted, THRESHOLDS), match(names[made], names[shifted], THRESHOLDS), strict=True):
        assert_equal(one, two)


def test_truth_and_prediction_exchanged():
    made = simulate(shape=(64, 64), n_objects=20, rng=np.random.default_rng(2)).labels
    other = np.where(made == 4, 0, np.roll(made, 1, axis=1))
    for one, two in zip(match(made, other, THRESHOLDS), match(other, made, THRESHOLDS), strict=True):
        assert (one.tp, one.fp, one.fn, one.precision) == (two.tp, two.fn, two.fp, two.recall)
        assert one.panoptic_quality == pytest.approx(two.panoptic_quality)


def test_pool_equals_one_large_image():
    made = [simulate(shape=(48, 48), n_objects=n, rng=np.random.default_rng(n)).labels for n in (3, 9, 0)]
    pairs = [(image, np.roll(image, 1, axis=0)) for image in made]
    offset = [0, 100, 200]
    whole = [np.hstack([np.where(pair[side] > 0, pair[side] + o, 0) for pair, o in zip(pairs, offset)]) for side in (0, 1)]
    for one, two in zip(pool([match(*pair, THRESHOLDS) for pair in pairs]), match(*whole, THRESHOLDS), strict=True):
        assert_equal(one, two)


def test_average_leaves_images_without_objects_out():
    found = average([match(ONE, ONE), match(ONE, EMPTY), match(EMPTY, EMPTY)])[0]
    assert (found.tp, found.fn, found.f1, found.threshold) == (1, 1, 0.5, 0.5)
    assert average([match(EMPTY, EMPTY)])[0].f1 == 0
    assert average([]) == pool([]) == []


def test_association():
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 8, 8]])
    prediction = np.array([[4, 4, 4, 0, 0, 0, 9, 9, 0, 0]])
    table = associate(truth, prediction, 0.5)
    rows = list(zip(*(table[name].tolist() for name in ("true_id", "predicted_id", "iou", "tag"))))
    assert rows == [(1, 4, 0.75, "TP"), (2, 9, pytest.approx(1 / 3), "FN"), (8, 0, 0.0, "FN"), (2, 9, pytest.approx(1 / 3), "FP")]


@given(two_images(), st.sampled_from(THRESHOLDS))
def test_association_agrees_with_the_scores(images, threshold):
    table, score = associate(*images, threshold), match(*images, threshold)[0]
    tags = table["tag"].tolist()
    assert (tags.count("TP"), tags.count("FN"), tags.count("FP")) == (score.tp, score.fn, score.fp)
    assert table["true_id"][: score.n_true].tolist() == np.unique(images[0][images[0] > 0]).tolist()
    hits = table["tag"] == "TP"
    assert table["iou"][hits].sum() == pytest.approx(score.mean_true_score * score.n_true)
    assert len(set(table["predicted_id"][hits].tolist())) == score.tp


def test_bad_arguments():
    for threshold in (0, -0.5, 1.5, float("nan")):
        with raises("metric.threshold"):
            match(ONE, ONE, threshold)
    with raises("metric.shapes"):
        match(ONE, np.eye(3, dtype=int))
    with raises("metric.different_thresholds"):
        pool([match(ONE, ONE, 0.5), match(ONE, ONE, 0.6)])


def test_face():
    assert morula.match(ONE, ONE, thresholds=[0.5, 0.75])[1].threshold == 0.75
