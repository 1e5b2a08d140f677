"""Images at another scale."""

import numpy as np
import pytest

from morula.inference.rescale import rescaled


@pytest.mark.parametrize("shape", [(20, 30), (60, 90), (41, 59), (13, 77)])
def test_a_constant_stays_and_a_ramp_keeps_its_ends(shape):
    assert (rescaled(np.full((2, 40, 60), 9, np.uint8), shape) == 9).all()
    ramp = np.broadcast_to(np.arange(60.0), (1, 40, 60))
    result = rescaled(ramp, shape)
    assert result.shape == (1, *shape)
    inner = slice(shape[1] // 4, 3 * shape[1] // 4)
    expected = (np.arange(shape[1]) + 0.5) * 60 / shape[1] - 0.5
    np.testing.assert_allclose(result[0, shape[0] // 2, inner], expected[inner], atol=0.05)


def test_detail_that_the_coarser_grid_cannot_hold_is_averaged():
    stripes = np.tile(np.array([0.0, 10.0]), (1, 64, 32))
    result = rescaled(stripes, (16, 16))
    np.testing.assert_allclose(result[0, :, 2:-2], 5, atol=0.6)


def test_volumes_have_a_factor_per_axis():
    assert rescaled(np.ones((1, 4, 6, 8)), (8, 3, 8)).shape == (1, 8, 3, 8)
