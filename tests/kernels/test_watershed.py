"""The watershed kernel against scikit-image, and against the rule that it follows."""

import heapq

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.segmentation import watershed as reference

from morula.kernels.watershed import neighbour_offsets, quantised, watershed
from morula.testing.errors import raises

SHAPES = [(40, 50), (12, 20, 22)]


def by_rule(surface, markers, mask, connectivity):
    """Water by level, then by time of arrival; markers of one level in array order."""
    out = np.where(mask, markers, 0).astype(np.uint32)
    queue = [(int(surface[tuple(v)]), 0, n, tuple(v)) for n, v in enumerate(np.argwhere(out))]
    heapq.heapify(queue)
    age = 0
    while queue:
        _, _, _, voxel = heapq.heappop(queue)
        for step in neighbour_offsets(out.ndim, connectivity):
            other = tuple(np.add(voxel, step))
            if all(0 <= a < n for a, n in zip(other, out.shape, strict=True)) and mask[other] and not out[other]:
                age += 1
                out[other] = out[voxel]
                heapq.heappush(queue, (int(surface[other]), age, 0, other))
    return out


def scene(shape, levels, seed=0):
    rng = np.random.default_rng(seed)
    surface = rng.integers(0, levels, shape).astype(np.uint16)
    markers = np.where(rng.random(shape) < 0.03, rng.integers(1, 2**31, shape), 0).astype(np.uint32)
    return surface, markers, rng.random(shape) < 0.85


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("connectivity", [1, 2])
def test_equals_scikit_image(shape, connectivity):
    surface, markers, mask = scene(shape, 65_536)
    surface = np.random.default_rng(1).permutation(surface.size).reshape(shape).astype(np.uint16)  # no two alike
    got = watershed(surface, markers, mask, connectivity=connectivity)
    np.testing.assert_array_equal(got, reference(surface, markers.astype(np.int64), mask=mask, connectivity=connectivity))


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_scikit_image_on_smooth_surfaces(shape):
    rng = np.random.default_rng(2)
    surface = quantised(ndi.gaussian_filter(rng.random(shape), (1, 2, 2)[-len(shape) :]).astype(np.float32))
    markers = np.zeros(shape, np.uint32)
    markers[ndi.minimum_filter(surface, 5) == surface] = 1
    markers = ndi.label(markers)[0].astype(np.uint32)
    mask = np.ones(shape, bool)
    np.testing.assert_array_equal(watershed(surface, markers), reference(surface, markers.astype(np.int64), mask=mask))


@pytest.mark.parametrize("levels", [1, 4, 300])
@pytest.mark.parametrize("shape", [(24, 30), (6, 10, 12)])
def test_follows_the_rule_on_plateaus(shape, levels):
    surface, markers, mask = scene(shape, levels)
    np.testing.assert_array_equal(watershed(surface, markers, mask), by_rule(surface, markers, mask, 1))


def test_touching_markers_and_no_markers():
    surface = np.zeros((4, 6), np.uint16)
    markers = np.zeros((4, 6), np.uint32)
    assert watershed(surface, markers).max() == 0
    markers[:, 2], markers[:, 3] = 7, 9
    np.testing.assert_array_equal(watershed(surface, markers), np.repeat([[7, 7, 7, 9, 9, 9]], 4, axis=0))


def test_by_slice_keeps_water_in_its_plane():
    markers = np.zeros((3, 4, 4), np.uint32)
    markers[0, 0, 0], markers[2, 3, 3] = 1, 2
    got = watershed(np.zeros((3, 4, 4), np.float32), markers, by_slice=True)
    assert got.reshape(3, -1).tolist() == [[1] * 16, [0] * 16, [2] * 16]


def test_markers_outside_the_mask_are_dropped():
    mask = np.array([[True, True, False]])
    assert watershed(np.zeros((1, 3), np.uint16), np.array([[0, 1, 2]], np.uint32), mask).tolist() == [[1, 1, 0]]


def test_shapes_must_agree():
    with raises("watershed.shapes"):
        watershed(np.zeros((3, 3)), np.zeros((3, 4), np.uint32))


def test_inputs_stay():
    surface, markers, mask = scene((20, 20), 50)
    before = surface.copy(), markers.copy(), mask.copy()
    watershed(surface, markers, mask)
    for array, copy in zip((surface, markers, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)
