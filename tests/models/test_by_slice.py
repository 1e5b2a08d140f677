"""2D models on volumes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from cc3d import connected_components

from morula.core.axes import Axes
from morula.core.events import Progress, Warned, drained
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.data.normalise import Normalisation
from morula.jobs.job import Job
from morula.labels.objects import Objects
from morula.labels.stitch import stitch
from morula.methods import METHODS
from morula.metrics.matching import match
from morula.models.by_slice import by_slices, joined
from morula.models.model import Model
from morula.nn.build import build_network
from morula.representations.encode import encode
from morula.testing.errors import raises
from morula.testing.simulate import simulate


@dataclass(frozen=True, eq=False)
class Perfect(Model):
    """A 2D model that sees labels instead of an image and predicts their channels."""

    def predict_steps(self, image, *, memory=None, device="auto", out=None, scaling=None):
        yield Warned("test.warning", "one for all slices")
        yield Progress(1, 1, "tile")
        labels = np.rint(image.canonical()[0]).astype(np.uint32)
        return encode(labels if labels.max() > 1 else connected_components(labels, connectivity=4), self.method.codes)


def perfect(*channels, ndim=2, **objects):
    job = Job.model_validate(
        {"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", "channels": list(channels)}, "objects": objects}
    )
    method = METHODS.load("channels")(job.method, job.objects, ndim=ndim, spacing=(1.0,) * ndim)
    network = build_network({"kind": "unet", "features": [2, 4]}, ndim, 1, method.heads)
    return Perfect(job, network, method, 1, VoxelSize(1, 1, z=1 if ndim == 3 else None), Normalisation((0.0,), (1.0,)))


def nuclei(n, spacing=(1.0, 1.0, 1.0), shape=(16, 32, 32), touching=0.5):
    return simulate("nuclei", shape=shape, n_objects=n, spacing=spacing, touching=touching, rng=np.random.default_rng(1)).labels


@pytest.mark.parametrize("n", [0, 1, 12])
def test_objects_of_slices_are_joined(n):
    model, truth = perfect("F", "C", "Db", decoder={"kind": "watershed", "valley": None}), nuclei(n)
    got = np.asarray(by_slices(model).segment(truth))
    pieces = np.stack([connected_components(plane, connectivity=4) for plane in truth])  # as a 2D network sees them
    assert match(stitch(pieces), got, thresholds=(0.75,))[0].f1 >= (0.8 if n else 0)
    assert (got.max() > 0) == (n > 0)
    assert not got[truth == 0].any()


@pytest.mark.parametrize("channels", [("F", "C", "Db"), ("F", "G")])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_means_along_three_axes_give_the_objects(channels, spacing):
    """Objects that do not touch, so that linear interpolation does not mix their ids."""
    truth = np.zeros((round(20 / spacing[0]), 24, 24), np.float32)
    for z, y, x in [(4, 5, 5), (4, 5, 17), (13, 16, 7), (20, 20, 23)]:  # the last one touches the border
        grid = np.ogrid[: truth.shape[0], :24, :24]
        truth[sum((g * s - c) ** 2 for g, s, c in zip(grid, (spacing[0], 1, 1), (z, y, x), strict=True)) < 16] = 1
    image = Image(truth, Axes("ZYX"), VoxelSize(*spacing[1:], z=spacing[0]))
    got = by_slices(perfect(*channels), "zyx").segment(image)
    assert got.voxel_size == image.voxel_size
    score = match(connected_components(truth > 0.5, connectivity=6), np.asarray(got), thresholds=(0.5,))[0]
    assert (score.tp, score.fp, score.fn) == (4, 0, 0)


def test_scalar_channels_are_means_over_the_slices_that_hold_a_voxel():
    truth = nuclei(5, shape=(6, 7, 8))
    model = perfect("F", "Db")
    got = by_slices(model, "zyx").predict(truth)
    expected = np.zeros_like(got)
    for z in range(6):
        for y in range(7):
            for x in range(8):
                planes = [(truth[z], (y, x)), (truth[:, y], (z, x)), (truth[:, :, x], (z, y))]
                expected[:, z, y, x] = np.mean([encode(plane.astype(np.uint32), ["F", "Db"])[:, a, b] for plane, (a, b) in planes], axis=0)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_components_of_flows_are_means_over_the_two_slices_that_contain_their_axis():
    truth = nuclei(5, shape=(6, 7, 8))
    got = by_slices(perfect("F", "G"), "zyx").predict(truth)[1:]
    y_of_z = np.stack([encode(plane.astype(np.uint32), ["G"])[0] for plane in truth])
    y_of_x = np.stack([encode(truth[:, :, x].astype(np.uint32), ["G"])[1] for x in range(8)], axis=-1)
    np.testing.assert_allclose(got[1], (y_of_z + y_of_x) / 2, atol=1e-6)


def test_progress_counts_slices_and_a_warning_comes_once():
    steps = by_slices(perfect("F", "C"), "zyx").predict_steps(Image(np.zeros((3, 4, 5), np.float32), Axes("ZYX")))
    events = list(steps)
    assert [(event.done, event.total, event.unit) for event in events if isinstance(event, Progress)] == [
        (i, 12, "slice") for i in range(1, 13)
    ]
    assert [event.code for event in events if isinstance(event, Warned)] == ["test.warning"]


def test_the_prediction_can_be_written_into_an_array():
    truth = nuclei(4, shape=(5, 16, 16))
    model, out = by_slices(perfect("F", "C")), np.empty((2, 5, 16, 16), np.float32)
    assert drained(model.predict_steps(Image(truth, Axes("ZYX")), out=out)) is out
    np.testing.assert_array_equal(out, model.predict(truth))


def test_confidences_and_classes_are_means_over_voxels():
    planes = [
        Objects(np.array([[1, 1, 2]]), np.array([0.5, 1.0], np.float32), {}, np.array([1, 2]), np.array([1.0, 0.5])),
        Objects(np.array([[1, 0, 2]]), np.array([0.8, 0.4], np.float32), {}, np.array([2, 2]), np.array([0.9, 0.7])),
    ]
    both = joined(planes, 0.5)
    assert both.labels.tolist() == [[[1, 1, 2]], [[1, 0, 2]]]
    np.testing.assert_allclose(both.confidence, [0.6, 0.7])
    assert both.classes.tolist() == [1, 2]
    np.testing.assert_allclose(both.class_confidence, [2 / 3, 0.6])


def test_wrong_use():
    with raises("slices.axes", key="slices", value="x"):
        by_slices(perfect("F", "C"), "x")
    with raises("stitch.threshold", key="stitch_threshold", value=0.0):
        by_slices(perfect("F", "C"), stitch_threshold=0.0)
    with raises("slices.model", key="slices", value="z"):
        by_slices(perfect("F", "C", ndim=3))
    with raises("slices.channels", key="slices", value="zyx"):
        by_slices(perfect("Db", "R"), "zyx")
    with raises("model.image_dimensions"):
        by_slices(perfect("F", "C")).segment(np.zeros((8, 8)))


def test_a_real_network_sees_every_slice_like_an_image():
    torch.manual_seed(0)
    model = perfect("F", "C")
    plain = Model(model.job, model.network.eval(), model.method, 1, model.voxel_size, model.normalisation)
    volume = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    got = by_slices(plain).predict(volume)
    np.testing.assert_allclose(got, np.stack([plain.predict(plane) for plane in volume], axis=1), atol=1e-5)


def test_slices_are_scaled_in_their_plane():
    model = replace(perfect("F", "C"), diameter=7.0)
    image = Image(np.zeros((4, 8, 8), np.float32), Axes("ZYX"), VoxelSize(1, 1, z=2.0))
    assert by_slices(model).factors(image, 0.5) == (1.0, 0.5, 0.5)
    assert by_slices(model, "zyx").factors(image, 0.5) == (1.0, 0.5, 0.5)
    assert by_slices(model, "zyx").factors(image, 2.0) == (4.0, 2.0, 2.0)


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_a_model_for_one_size_returns_objects_on_the_grid_of_the_volume(axes):
    truth = np.zeros((14, 40, 40), np.float32)
    truth[3:11, 4:18, 4:18] = truth[3:11, 22:36, 22:36] = 1
    got = by_slices(replace(perfect("F", "C", "Db"), diameter=7.0), axes).segment(truth, diameter=14.0)
    score = match(connected_components(truth > 0.5, connectivity=6), np.asarray(got), thresholds=(0.5,))[0]
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)
    assert by_slices(replace(perfect("F", "C", "Db"), diameter=7.0), axes).segment(truth).shape == truth.shape  # the size is estimated
