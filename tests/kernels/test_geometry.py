"""Sizes, boxes and centroids equal those of `cc3d.statistics`, the library that docs/decisions/0011-kernels-kept.md compares with."""

import cc3d
import numpy as np
import pytest

from morula.kernels.geometry import geometry, voxel_counts


def random_labels(rng, ndim, number):
    """Boxes with random ids from 1 to `number`, later ones on top, so that objects are cut, in parts, or hidden."""
    shape = tuple(rng.integers(1, 40 if ndim == 2 else 16, ndim))
    labels = np.zeros(shape, np.uint32)
    for label in rng.permutation(number) + 1:
        start = [rng.integers(0, n) for n in shape]
        labels[tuple(slice(a, a + rng.integers(1, 9)) for a in start)] = label
    return labels


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 60])
def test_tables_equal_those_of_cc3d(ndim, number):
    rng = np.random.default_rng([ndim, number])
    for _ in range(8):
        labels = random_labels(rng, ndim, number)
        largest = int(labels.max())
        ours, theirs = geometry(labels), cc3d.statistics(labels)
        np.testing.assert_array_equal(ours.sizes, theirs["voxel_counts"])
        np.testing.assert_array_equal(voxel_counts(labels, largest), theirs["voxel_counts"])
        # both tables are indexed by id; rows of absent ids are compared by their size alone
        assert ours.ids.tolist() == np.unique(labels[labels > 0]).tolist()
        for label in ours.ids:
            assert ours.box(label) == theirs["bounding_boxes"][label]
        np.testing.assert_allclose(ours.centroids[ours.ids], theirs["centroids"][ours.ids], rtol=1e-12)
        assert np.isnan(ours.centroids[ours.sizes == 0]).all()


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6)])
def test_an_object_that_fills_the_image(shape):
    ours, theirs = geometry(np.ones(shape, np.uint32)), cc3d.statistics(np.ones(shape, np.uint32))
    assert ours.sizes.tolist() == theirs["voxel_counts"].tolist() == [0, np.prod(shape)]
    assert ours.box(1) == theirs["bounding_boxes"][1]
    np.testing.assert_array_equal(ours.centroids[1], theirs["centroids"][1])
