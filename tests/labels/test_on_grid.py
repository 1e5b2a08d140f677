"""Labels on another grid lose no object."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from morula.labels.on_grid import on_grid


@given(st.integers(0, 2**32 - 1), st.integers(3, 14), st.integers(3, 14))
def test_an_object_is_lost_only_where_it_covers_the_only_voxels_of_others(seed, height, width):
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 40), np.uint16)
    for label in range(1, 1 + min(9, height * width)):
        y, x = rng.integers(0, 38, 2)
        labels[y : y + rng.integers(1, 3), x : x + rng.integers(1, 3)] = label
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16)
    result = on_grid(labels, (height, width))
    assert result.shape == (height, width)
    assert result.dtype == labels.dtype
    assert set(np.unique(result)) <= set(np.unique(labels))
    for label in np.setdiff1d(labels, result):
        assert label == 0 or all(owner > 0 and (result == owner).sum() == 1 for owner in covering(labels == label, result))


def covering(mask, result):
    """Labels of the voxels of `result` that an object covers."""
    voxels = ((np.argwhere(mask) + 0.5) * result.shape / mask.shape).astype(int)
    return set(result[tuple(voxels.T)])


def test_to_a_finer_grid_and_back():
    labels = np.random.default_rng(0).integers(0, 5, (6, 7, 8))
    finer = on_grid(labels, (18, 21, 24))
    np.testing.assert_array_equal(finer, np.kron(labels, np.ones((3, 3, 3), int)))
    np.testing.assert_array_equal(on_grid(finer, labels.shape), labels)


def test_more_objects_than_voxels():
    result = on_grid(np.arange(1, 17).reshape(4, 4), (2, 2))
    assert len(np.unique(result)) == 4
