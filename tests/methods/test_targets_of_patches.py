"""A patch is taught what the whole image says of it."""

from __future__ import annotations

import numpy as np
import pytest

from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.data.augment.parse import parse_augmentations
from morula.data.normalise import Normalisation
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Options as Sampling
from morula.jobs.load import load_job
from morula.methods import METHODS
from morula.representations import REPRESENTATIONS
from morula.representations.encode import encode_all
from morula.testing.simulate import simulate

SPACING = (2.0, 1.0, 1.0)
CASES = [((72, 72), (48, 32), 20), ((10, 56, 56), (8, 32, 32), 40)]
"""Images that the context leaves on all sides."""


def method(code, ndim):
    job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": {"kind": "channels", "channels": {code: {}}}})
    return METHODS.load("channels")(job.method, job.objects, ndim=ndim, spacing=SPACING[-ndim:])


def source(shape, n):
    labels = simulate(shape=shape, n_objects=n, rng=np.random.default_rng(3), spacing=SPACING[-len(shape) :]).labels.astype(np.uint32)
    axes, size = "ZYX"[-len(shape) :], VoxelSize.of(SPACING[-len(shape) :], len(shape))
    return labels, Source(Image(labels.astype(np.float32), axes, size), Image(labels, axes, size))


def dataset(given, patch, made, augmentations):
    sampling = Sampling(patches_per_epoch=4)
    plain = Normalisation((0.0,), (1.0,))
    return PatchDataset([given], patch, plain, sampling, parse_augmentations(augmentations), targets=made.targets, context=made.context)


@pytest.mark.parametrize("code", REPRESENTATIONS.names)
@pytest.mark.parametrize(("shape", "patch", "n"), CASES)
def test_targets_of_a_patch_are_those_of_the_image(code, shape, patch, n):
    """In every orientation, also where the context leaves the image and where objects end at it."""
    if code == "Z" and len(shape) == 2:
        pytest.skip("2D images have no z")
    made = method(code, len(shape))
    labels, given = source(shape, n)
    data = dataset(given, patch, made, ["flip", "rotate90"])
    for index in range(4):
        turn = data.draw(0, index).orientation.apply
        _, region = data.place(0, index)
        whole = encode_all(made.representations, np.ascontiguousarray(turn(labels)), made.spacing)
        here = np.zeros(shape, bool)
        here[region.slices] = True
        found = data.sample(0, index)
        expected = whole[:, turn(here)].reshape(found["targets"].shape)
        np.testing.assert_allclose(found["targets"], expected, atol=1e-4)


@pytest.mark.parametrize("code", [code for code in REPRESENTATIONS.names if REPRESENTATIONS.load(code).per_object])
@pytest.mark.parametrize(("shape", "patch", "n"), CASES)
def test_no_mirrored_object_is_part_of_another_in_a_warped_patch(code, shape, patch, n, monkeypatch):
    """An image that ends is as one that goes on without objects."""
    if code == "Z" and len(shape) == 2:
        pytest.skip("2D images have no z")
    made = method(code, len(shape))
    _, given = source(tuple(2 * s for s in shape), 4 * n)
    extent = Region(tuple(s // 2 for s in shape), tuple(s // 2 + s for s in shape))
    labels = np.zeros(given.labels.spatial_shape, np.uint32)
    labels[extent.slices] = np.asarray(given.labels)[extent.slices]
    axes, size = given.labels.axes, given.labels.voxel_size
    part, all_of_it = (Source(given.image, Image(labels, axes, size), region=region) for region in (extent, None))
    region = Region(extent.start, tuple(a + p for a, p in zip(extent.start, patch)))
    monkeypatch.setattr(PatchDataset, "place", lambda self, epoch, index: (0, region))
    one, two = (dataset(each, patch, made, [{"rotate": {"probability": 1}}]) for each in (part, all_of_it))
    for index in range(3):
        ended, going_on = one.sample(0, index), two.sample(0, index)
        scored = ended["weights"].any(axis=0)
        assert 0.3 < scored.mean() < 1 or made.representations[0].masked
        np.testing.assert_allclose(ended["targets"][:, scored], going_on["targets"][:, scored], atol=1e-4)
