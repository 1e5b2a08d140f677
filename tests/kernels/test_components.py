"""Connected components equal SciPy's on masks of every parity of the sides."""

import numpy as np
import pytest
from scipy import ndimage

from morula.kernels.components import connected_components


@pytest.mark.parametrize(("ndim", "connectivity"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_components_equal_those_of_scipy(ndim, connectivity):
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = rng.random(tuple(rng.integers(1, 60 if ndim == 2 else 12, ndim))) < rng.choice([0.02, 0.1, 0.4])
        labels, number = connected_components(mask, connectivity)
        expected, count = ndimage.label(mask, ndimage.generate_binary_structure(ndim, connectivity))
        assert number == count
        np.testing.assert_array_equal(labels, expected)
