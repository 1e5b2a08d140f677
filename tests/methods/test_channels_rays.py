"""The loss of R: by the object probability, with a little left in the background; units in which networks tell lengths."""

import numpy as np
import pytest
import torch

from morula.core.options import validated
from morula.methods import METHODS
from morula.representations.encode import encode


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


def channels_of(channels, spacing=(1.0, 1.0), **more):
    return METHODS.load("channels")(
        validated(METHODS.options("channels"), {"channels": channels, **more}, "channels"), None, ndim=2, spacing=spacing
    )


def squares():
    labels = np.zeros((24, 24), np.uint32)
    labels[3:14, 4:17], labels[3:14, 17:22], labels[16:22, 2:20] = 1, 2, 3
    return labels


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (250.0, 125.0)])
@pytest.mark.parametrize("options", [{}, {"scale": 7.0}, {"norm": False}])
def test_an_output_of_one_is_four_voxels_however_rays_are_scaled(options, spacing):
    """So the network learns, and the loss weighs, the same whatever the unit of the voxel size."""
    method, plain = channels_of({"Db": {}, "R": options}, spacing), channels_of({"Db": {}, "R": {"norm": False}}, spacing)
    outputs = {"channels": torch.rand(1, 33, 24, 24, generator=torch.Generator().manual_seed(0)) + 1}
    lengths = method.activate(outputs)[:, 1:] * method.representations[1].options.length(spacing)
    torch.testing.assert_close(lengths, outputs["channels"][:, 1:] * 4 * min(spacing))
    losses = []
    for each in (method, plain):
        targets = each.targets(squares())
        batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
        losses.append(float(each.loss(outputs, batch)["R"].total))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    rays = plain.targets(squares()).channels[1:] / (4 * min(spacing))
    sure = plain.targets(squares()).weights[1:]
    wanted = 0.25 * (sure * abs(outputs["channels"][0, 1:].numpy() - rays)).sum() / sure.sum()
    assert losses[0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("power", [1.0, 3.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (250.0, 125.0)])
def test_nearness_as_a_length_does_not_drown_the_other_channels(power, spacing):
    method = channels_of({"F": {}, "Dn": {"norm": False, "decline_power": power}}, spacing)
    targets = method.targets(squares())
    assert targets.channels[1].max() > 20**power
    batch = {"targets": torch.from_numpy(targets.channels)[None], "weights": torch.from_numpy(targets.weights)[None]}
    assert 0 < float(method.loss({"channels": torch.zeros(1, 2, 24, 24)}, batch)["Dn"].total) < 1
    perfect = batch["targets"].clone()
    perfect[:, 1] /= (32 * min(spacing)) ** power
    torch.testing.assert_close(method.activate({"channels": perfect})[:, 1], batch["targets"][:, 1])
