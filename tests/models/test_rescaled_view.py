"""Lazy views of images at another scale."""

import numpy as np
import pytest

from morula.core.image import Image
from morula.inference.rescale import rescaled
from morula.labels.on_grid import nearest
from morula.models.rescaled_view import Rescaled


@pytest.mark.parametrize(("shape", "new"), [((40, 60), (97, 33)), ((31, 44), (13, 19)), ((7, 30, 24), (21, 17, 40)), ((1, 9), (1, 30))])
def test_a_view_reads_the_values_of_the_whole(shape, new):
    rng, axes = np.random.default_rng(sum(new)), "ZYX"[-len(shape) :]
    pixels, labels = rng.integers(0, 255, (2, *shape), np.uint8), rng.integers(0, 9, shape, np.uint16)
    image, objects = Image(pixels, f"C{axes}"), Image(labels, axes)
    whole, known = rescaled(pixels, new), nearest(labels, new)
    view, named = Rescaled(image, new), Rescaled(objects, new, labels=True)
    assert (view.shape, named.shape, named.dtype) == ((2, *new), (1, *new), np.uint16)
    for _ in range(10):
        ends = [np.sort(rng.integers(0, n + 1, 2)) for n in new]
        box = tuple(slice(int(a), int(b)) for a, b in ends)
        np.testing.assert_allclose(view[(slice(None), *box)], whole[(slice(None), *box)], atol=2e-3)
        np.testing.assert_array_equal(named[(0, *box)], known[box])
    np.testing.assert_allclose(np.asarray(view), whole, atol=2e-3)
    np.testing.assert_array_equal(named[0, ..., ::2], known[..., ::2])


def test_a_view_reads_no_more_than_its_boxes_need():
    read = []

    class File:
        shape, dtype = (100_000, 100_000), np.dtype(np.uint16)

        def __getitem__(self, box):
            read.append([part.stop - part.start for part in box])
            return np.zeros(read[-1], np.uint16)

    image = Image(File(), "YX")
    assert Rescaled(image, (240_000, 240_000))[0, 1000:1256, 5000:5256].shape == (256, 256)
    assert Rescaled(image, (25_000, 25_000), labels=True)[0, :256, :256].shape == (256, 256)
    assert Rescaled(image, (25_000, 25_000))[0, :256, :256].shape == (256, 256)
    assert [max(edges) for edges in read] <= [112, 1026, 1048]
