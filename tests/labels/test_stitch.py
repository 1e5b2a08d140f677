"""Objects of slices become 3D objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morula.labels.stitch import stitch
from morula.metrics.matching import match
from morula.testing.errors import raises
from morula.testing.simulate import simulate


def stitched_slowly(labels, threshold):
    """The rule in plain Python: sets of voxels, one pair of objects after the other."""
    parts = []  # per slice: {id: set of voxels}
    for plane in labels:
        ids = sorted({int(value) for value in plane.ravel()} - {0})
        parts.append({i: {(int(y), int(x)) for y, x in zip(*np.nonzero(plane == i), strict=True)} for i in ids})
    result, count = np.zeros(np.shape(labels), int), 0
    names = []
    for z, here in enumerate(parts):
        before = parts[z - 1] if z else {}
        iou = {(a, b): len(before[a] & here[b]) / len(before[a] | here[b]) for a in before for b in here if before[a] & here[b]}
        names.append({})
        for b in here:
            candidates = [a for a in before if (a, b) in iou]
            best = min(candidates, key=lambda a: (-iou[a, b], a), default=None)
            partners = [other for other in here if (best, other) in iou]
            if best is not None and min(partners, key=lambda other: (-iou[best, other], other)) == b and iou[best, b] >= threshold:
                names[z][b] = names[z - 1][best]
            else:
                count += 1
                names[z][b] = count
            for y, x in here[b]:
                result[z, y, x] = names[z][b]
    return result


@st.composite
def stacks(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    coarse = rng.integers(0, draw(st.integers(1, 6)), shape)
    return np.repeat(coarse, draw(st.integers(1, 2)), axis=2)


@given(stacks(), st.sampled_from([0.01, 0.2, 0.25, 0.5, 0.75, 1.0]))
def test_equals_the_slow_rule(labels, threshold):
    np.testing.assert_array_equal(stitch(labels, threshold), stitched_slowly(labels, threshold))


def test_equals_the_slow_rule_on_many_objects():
    truth = simulate("nuclei", shape=(12, 40, 40), n_objects=30, rng=np.random.default_rng(3)).labels
    slices = np.stack([np.where(plane, (plane * 7 + z) % 101 + 1, 0) for z, plane in enumerate(truth)])
    np.testing.assert_array_equal(stitch(slices), stitched_slowly(slices, 0.25))


def test_simulated_nuclei_are_put_together_again():
    truth = simulate("nuclei", shape=(24, 48, 48), n_objects=12, touching=0.0, rng=np.random.default_rng(0)).labels
    slices = np.stack([np.where(plane, plane.max() + 1 - plane, 0) for plane in truth])  # ids that differ from slice to slice
    assert match(truth, stitch(slices), thresholds=(0.8,))[0].f1 > 0.9


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)])
def test_no_objects(shape):
    assert not stitch(np.zeros(shape, np.uint8)).any()


def test_one_object_through_all_slices_up_to_the_border():
    labels = np.arange(1, 6)[:, None, None] * np.ones((5, 3, 3), int)
    assert (stitch(labels, 1.0) == 1).all()


def test_an_empty_slice_ends_objects():
    labels = np.ones((3, 2, 2), int)
    labels[1] = 0
    assert stitch(labels).tolist() == [[[1, 1]] * 2, [[0, 0]] * 2, [[2, 2]] * 2]


def test_one_part_per_slice():
    labels = np.array([[[1, 1, 1, 1, 1]], [[2, 2, 2, 3, 3]]])
    assert stitch(labels, 0.1).tolist() == [[[1] * 5], [[1, 1, 1, 2, 2]]]


def test_many_ids_need_32_bits():
    labels = np.arange(1, 2**16 + 1).reshape(1, 256, 256)
    assert stitch(labels).dtype == np.uint32
    np.testing.assert_array_equal(stitch(labels), labels)


def test_bad_input():
    with raises("stitch.threshold", key="threshold", value=0.0):
        stitch(np.ones((2, 2, 2), int), 0.0)
    with raises("stitch.dimensions", key="labels", value=(2, 2)):
        stitch(np.ones((2, 2), int))
