"""Votes of voxels for the class of their object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.labels.votes import count_votes, elected
from morula.methods.class_options import Classes
from morula.methods.classes import class_image, class_targets


@given(st.integers(0, 6), st.integers(2, 5), st.integers(2, 3), st.integers(0, 2**16))
def test_the_majority_of_voxels_decides(n, count, ndim, seed):
    rng = np.random.default_rng(seed)
    shape = (7, 9, 4)[:ndim]
    labels = rng.integers(0, n + 1, shape).astype(np.uint16)
    probabilities = rng.random((count, *shape)).astype(np.float32)
    classes, share = elected(count_votes(labels, probabilities, n))
    assert classes.shape == share.shape == (n,)
    for label in range(1, n + 1):
        votes = np.bincount(probabilities[:, labels == label].argmax(axis=0), minlength=count)
        assert classes[label - 1] == (votes.argmax() + 1 if votes.sum() else 0)
        assert share[label - 1] == pytest.approx(votes.max() / max(votes.sum(), 1))
    np.testing.assert_array_equal(class_image(labels, classes) > 0, labels > 0)


def test_objects_of_unknown_class_are_objects_but_teach_no_class():
    labels = np.array([[0, 1, 2, 3, 3]])
    channels, weights = class_targets(Classes(count=3), labels, np.array([[3, 1, 255, 0, 3]]))
    assert weights[0].tolist() == [[0, 1, 0, 0, 1]]
    assert channels.argmax(axis=0)[weights[0] > 0].tolist() == [0, 2]
    assert channels.sum(axis=0).tolist() == weights[0].tolist()


@pytest.mark.parametrize("spelling", [{"count": 2}, {"names": ("a", "b")}])
def test_titles(spelling):
    assert Classes(**spelling).titles == spelling.get("names", ("class 1", "class 2"))
