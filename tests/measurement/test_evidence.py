"""Evidence on objects: by hand, and independent of units, offsets and polarity of the intensities."""

import numpy as np
import pytest

from morula.core.image import Image
from morula.measurement.evidence import evidence
from morula.measurement.measure import measured_columns


def found(labels, image):
    axes = "ZYX"[-labels.ndim :]
    return evidence(labels, Image(np.asarray(image), axes if np.ndim(image) == labels.ndim else f"C{axes}"), measured_columns(labels))


def ball(shape, centre, radius):
    places = np.indices(shape) - np.reshape(centre, (-1,) + (1,) * len(shape))
    return (places**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("shape", [(60, 60), (40, 40, 40)])
def test_shapes(shape):
    whole = ball(shape, [20] * len(shape), 12).astype(np.int32)
    assert found(whole, whole)["ellipsoid_fit"][0] == pytest.approx(1, abs=0.03)
    stretched = np.repeat(whole, 2, axis=-1)
    assert found(stretched, stretched)["ellipsoid_fit"][0] == pytest.approx(1, abs=0.03)
    # two balls under one id
    two = (ball(shape, [10] * len(shape), 8) | ball(shape, [28] + [10] * (len(shape) - 1), 8)).astype(np.int32)
    assert found(two, two)["ellipsoid_fit"][0] < 0.85
    assert found(np.ones((1,) * len(shape), np.int32), np.ones((1,) * len(shape)))["ellipsoid_fit"].shape == (1,)


def test_a_volume_of_one_plane_is_2d():
    labels = ball((30, 30), (12, 14), 7).astype(np.int32)
    flat, volume = found(labels, labels), found(labels[None], labels[None])
    assert all((flat[name] == volume[name]).all() for name in flat)


def test_touching_halves():
    labels = np.zeros((20, 20), np.uint16)
    labels[4:12, 4:8], labels[4:12, 8:12], labels[15:18, 15:18] = 1, 2, 5
    # 8 of the 24 faces of each half
    assert found(labels, labels)["touching"].tolist() == [8 / 24, 8 / 24, 0]


def test_contrast_by_hand_and_its_symmetries():
    rng = np.random.default_rng(0)
    labels = np.zeros((40, 40), np.uint16)
    labels[5:15, 5:15], labels[5:15, 25:35], labels[25:35, 5:15] = 1, 2, 3
    noise = rng.normal(size=labels.shape)
    image = noise + 10 * np.isin(labels, (1, 2)) + 1.5 * (labels == 3)
    contrast = found(labels, image)["contrast"]
    assert contrast == pytest.approx([10, 10, 1.5], rel=0.25)
    for other in (5000 + 300 * image, -image, np.stack([rng.normal(size=labels.shape), image])):
        assert found(labels, other)["contrast"] == pytest.approx(contrast)
    assert np.isfinite(found(labels, np.ones((40, 40)))["contrast"]).all()


@pytest.mark.parametrize("labels", [np.zeros((5, 6), np.int32), np.full((5, 6), 3, np.int32), np.arange(30, dtype=np.int32).reshape(5, 6)])
def test_no_object_no_background_single_voxels(labels):
    values = found(labels, labels)
    assert all(np.isfinite(column).all() and len(column) == len(np.unique(labels[labels > 0])) for column in values.values())
