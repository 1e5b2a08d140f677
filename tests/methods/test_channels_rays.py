"""The loss of R: by the object probability, with a little left in the background."""

import numpy as np
import pytest

from morula.core.options import validated
from morula.labels.encode import encode
from morula.methods import METHODS


@pytest.mark.parametrize(("codes", "sure"), [(["Db", "R"], "Db"), (["F", "R"], "F")])
def test_rays_count_by_the_object_probability(codes, sure):
    labels = np.zeros((24, 24), np.uint32)
    labels[3:14, 4:17], labels[16:22, 2:20] = 1, 2
    method = METHODS.load("channels")(validated(METHODS.options("channels"), {"channels": codes}, "channels"), None, ndim=2, spacing=(1, 1))
    unlabelled = np.zeros(labels.shape, bool)
    unlabelled[:, 22:] = True
    weights = method.targets(labels, unlabelled=unlabelled).weights
    wanted = np.maximum(encode(labels, [sure])[0], 1e-4)
    wanted[unlabelled] = 0
    np.testing.assert_allclose(weights[1], wanted, rtol=1e-6)
    np.testing.assert_array_equal(weights[1:], np.broadcast_to(weights[1], weights[1:].shape))
    assert (weights[0][~unlabelled] == 1).all()


def test_rays_count_everywhere_on_request():
    labels = np.zeros((12, 12), np.uint32)
    labels[3:9, 3:9] = 1
    stated = {"channels": {"Db": {}, "R": {"mask_values": False}}}
    method = METHODS.load("channels")(validated(METHODS.options("channels"), stated, "channels"), None, ndim=2, spacing=(1, 1))
    assert (method.targets(labels).weights == 1).all()
