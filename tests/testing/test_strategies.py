"""The strategies keep what they promise."""

import cc3d
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from morula.testing.strategies import images, label_images, shapes, spacings

FIRST = settings(phases=[Phase.generate], max_examples=2000, derandomize=True, database=None)
"""The first example will do; the smallest one takes a hundred times as long to find."""


@given(st.data(), st.sampled_from([2, 3, None]))
def test_label_images(data, ndim):
    labels = data.draw(label_images(ndim=ndim, min_objects=1, max_objects=4))
    assert labels.dtype == np.uint32
    assert labels.ndim == (ndim or labels.ndim)
    ids = np.unique(labels[labels > 0])
    assert 1 <= len(ids) <= 4
    assert cc3d.connected_components(labels, connectivity=4 if labels.ndim == 2 else 6).max() == len(ids)


@given(label_images(ids="sequential"))
def test_sequential_ids(labels):
    ids = np.unique(labels)
    assert (ids[ids > 0] == np.arange(1, (ids > 0).sum() + 1)).all()


@pytest.mark.parametrize(
    "condition",
    [
        lambda labels: not labels.any(),
        lambda labels: (labels > 0).all() and labels.size > 4 and len(np.unique(labels)) == 1,
        lambda labels: labels.max() > 65_535,
        lambda labels: labels.ndim == 3 and (labels[0] > 0).any() and (labels == 0).any(),
        lambda labels: len(np.unique(labels[labels > 0])) > 4,
    ],
)
def test_corner_cases_are_met(condition):
    assert condition(find(label_images(), condition, settings=FIRST))


def test_several_pieces_are_met():
    def split(labels):
        return cc3d.connected_components(labels, connectivity=4 if labels.ndim == 2 else 6).max() > len(np.unique(labels[labels > 0]))

    assert split(find(label_images(pieces=True), split, settings=FIRST))


@given(st.sampled_from([2, 3]), st.data())
def test_spacings_and_images(ndim, data):
    spacing = data.draw(spacings(ndim))
    assert len(spacing) == ndim
    assert min(spacing) > 0
    shape = data.draw(shapes(ndim=ndim, max_side=6))
    channels = data.draw(st.sampled_from([None, 1, 2]))
    image = data.draw(images(shape, channels=channels))
    assert image.shape == (shape if channels is None else (channels, *shape))
    assert np.isfinite(image).all()
