"""What of a result is sure enough to learn from."""

import numpy as np

from morula.labels.objects import Objects
from morula.labels.pseudo import Pseudo, pseudo_labels


def scene():
    labels = np.zeros((20, 40), np.uint16)
    labels[4:10, 4:10], labels[4:10, 20:26], labels[14:16, 30:32] = 1, 2, 3
    foreground = np.where(labels == 1, 0.97, np.where(labels == 2, 0.6, np.where(labels == 3, 0.95, 0.02)))
    foreground[3, :30] = 0.4  # neither one nor the other
    return Objects(labels, np.array([0.97, 0.6, 0.95], np.float32)), foreground


def test_unsure_objects_and_voxels_are_left_out():
    objects, foreground = scene()
    labels, sure = pseudo_labels(objects, foreground)
    np.testing.assert_array_equal(labels > 0, np.isin(objects.labels, (1, 3)))
    assert labels.max() == 2
    assert not sure[objects.labels == 2].any()
    assert not sure[3, :30].any()
    assert sure[labels > 0].all()
    assert sure[0, 0]


def test_every_setting_is_obeyed():
    objects, foreground = scene()
    count = lambda **options: int(pseudo_labels(objects, foreground, Pseudo(**options))[0].max())  # noqa: E731
    assert (count(confidence=0.5), count(confidence=0.96), count(min_size=5)) == (3, 1, 1)
    strict, lenient = (pseudo_labels(objects, foreground, Pseudo(background=b))[1].sum() for b in (0.1, 0.5))
    assert lenient - strict == 30


def test_an_image_without_objects_is_background_alone():
    labels, sure = pseudo_labels(Objects(np.zeros((4, 5), np.uint16), np.zeros(0, np.float32)), np.full((4, 5), 0.01))
    assert labels.max() == 0
    assert sure.all()
