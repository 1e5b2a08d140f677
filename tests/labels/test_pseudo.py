"""What of a result is sure enough to learn from."""

import numpy as np
import pytest
from scipy import ndimage

from morula.labels.objects import Objects
from morula.labels.pseudo_labels import Pseudo, pseudo_labels, sure_objects


def scene():
    labels = np.zeros((20, 40), np.uint16)
    labels[4:10, 4:10], labels[4:10, 20:26], labels[14:16, 30:32] = 1, 2, 3
    foreground = np.where(labels == 1, 0.97, np.where(labels == 2, 0.6, np.where(labels == 3, 0.95, 0.02)))
    foreground[2, :30] = 0.4  # neither one nor the other
    return Objects(labels, np.array([0.97, 0.6, 0.95], np.float32)), foreground


def test_unsure_objects_are_left_out_and_a_rim_that_is_asked_for():
    objects, foreground = scene()
    labels, sure = pseudo_labels(objects, foreground, Pseudo(confidence=0.8, size_ratio=None))
    np.testing.assert_array_equal(labels > 0, np.isin(objects.labels, (1, 3)))
    assert labels.max() == 2
    np.testing.assert_array_equal(sure, objects.labels != 2)
    same, sure = pseudo_labels(objects, foreground, Pseudo(confidence=0.8, size_ratio=None, rim=1))
    np.testing.assert_array_equal(same, labels)
    rim = ndimage.binary_dilation(objects.labels > 0) & (objects.labels == 0)  # across faces, a ball of radius 1
    np.testing.assert_array_equal(sure, ~rim & (objects.labels != 2))


def test_the_rim_is_a_length():
    labels = np.zeros((9, 11, 11), np.uint16)
    labels[4, 5, 5] = 1
    anisotropic = (2.0, 1.0, 1.0)
    for rim, spacing, reach in (
        (2, anisotropic, (1, 2, 2)),
        (2, None, (2, 2, 2)),
        ((0, 1, 3), anisotropic, (0, 1, 3)),
        (0, None, (0, 0, 0)),
    ):
        _, sure = pseudo_labels(Objects(labels, np.ones(1, np.float32)), np.zeros(labels.shape), Pseudo(rim=rim), spacing=spacing)
        found = [int((~sure[line]).sum()) // 2 for line in ((slice(None), 5, 5), (4, slice(None), 5), (4, 5, slice(None)))]
        assert tuple(found) == reach


def test_halos_of_a_saturated_network_are_background():
    """A network that is sure of much more than the decoder makes objects of must not leave the surroundings of objects unscored: what is
    scored nowhere is foreground to the next network."""
    objects, _ = scene()
    foreground = ndimage.grey_dilation((objects.labels > 0).astype(float), size=(9, 9))
    labels, sure = pseudo_labels(objects, foreground, Pseudo(confidence=0.0, size_ratio=None))
    halo = (foreground == 1) & (objects.labels == 0)
    assert halo.any()
    assert sure.all()
    assert not labels[halo].any()
    strict = pseudo_labels(objects, foreground, Pseudo(background=0.1, size_ratio=None))[1]
    assert not (strict & halo).any()


def test_scraps_that_the_decoder_dropped_are_left_out():
    objects, foreground = scene()
    growth = objects.labels > 0
    growth[17:19, 5:8] = True
    dropped = Objects(objects.labels, objects.confidence, {"growth": growth})
    sure = pseudo_labels(dropped, foreground)[1]
    assert not sure[17:19, 5:8].any()
    assert sure[16, 5:8].all()
    assert pseudo_labels(objects, foreground)[1][17:19, 5:8].all()


def test_every_setting_is_obeyed():
    objects, foreground = scene()

    def count(**options):
        return int(pseudo_labels(objects, foreground, Pseudo(**{"confidence": 0.0, "size_ratio": None, **options}))[0].max())

    assert (count(), count(confidence=0.96), count(min_size=5), count(size_ratio=8), count(size_ratio=9)) == (3, 1, 2, 2, 3)
    strict, lenient = (pseudo_labels(objects, foreground, Pseudo(background=b))[1].sum() for b in (0.1, 0.5))
    assert lenient - strict == 30


def test_confidence_is_judged_by_the_other_objects():
    """By default the scale of the network does not matter."""
    labels = np.arange(1, 22).reshape(1, -1)
    confidence = np.append(np.linspace(0.8, 0.9, 20), 0.55).astype(np.float32)
    for scale in (1.0, 0.5, 1e-3):
        kept = sure_objects(Objects(labels, confidence * np.float32(scale)), Pseudo())
        assert kept.tolist() == [True] * 20 + [False]
    assert sure_objects(Objects(labels, np.full(21, 0.7, np.float32)), Pseudo()).all()


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_an_image_without_objects_is_background_alone(shape):
    labels, sure = pseudo_labels(Objects(np.zeros(shape, np.uint16), np.zeros(0, np.float32)), np.full(shape, 0.01))
    assert labels.max() == 0
    assert sure.all()
