"""Association tables and coloured images."""

from pathlib import Path

import numpy as np
import pytest

from morula.metrics.association import association_image, false_table, truth_table
from morula.metrics.matching import associate, match

GOLDEN = Path(__file__).parents[1] / "golden" / "matching"
LABELS = np.load(GOLDEN / "labels.npz")
TRUTH, PREDICTION = LABELS["truth"], LABELS["prediction"]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_colours_equal_the_original(threshold):
    picture = association_image(TRUTH, PREDICTION, associate(TRUTH, PREDICTION, threshold))
    np.testing.assert_array_equal(np.moveaxis(picture, 0, -1), np.load(GOLDEN / "coloured.npz")[str(threshold)])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_tables_hold_each_object_once(threshold):
    table = associate(TRUTH, PREDICTION, threshold)
    (scores,) = match(TRUTH, PREDICTION, threshold)
    true, false = truth_table(table), false_table(table)
    assert true["gt_id"].tolist() == [label for label in np.unique(TRUTH) if label]
    assert (true["tag"] == "TP").sum() == scores.tp
    assert len(false["pred_id"]) == scores.fp
    assert -1 not in false["pred_id"]


def test_nothing_and_large_ids():
    empty = np.zeros((3, 4), int)
    big = np.full((3, 4), 2**32 - 1)
    assert association_image(empty, empty, associate(empty, empty)).max() == 0
    assert association_image(big, empty, associate(big, empty))[0].min() == 255
    assert association_image(empty, big, associate(empty, big))[2].min() == 255
    volume = association_image(big[None], big[None], associate(big[None], big[None]))
    assert volume.shape == (3, 1, 3, 4)
    assert volume[1].min() == 255
