"""EmbedSeg: the original's result, clustering by brute force, centres, spellings and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.kernels.embedding_clusters import _by_seediness, cluster
from morula.representations.encode import build_channels, encode
from morula.testing.contracts import same_partition
from morula.testing.errors import raises
from morula.testing.simulate import simulate

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "decoders.npz")


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_the_objects_are_the_originals(threshold):
    prediction, wanted = GOLDEN["embedseg_prediction"].astype(np.float32), GOLDEN["embedseg_labels"]
    found = decode_objects(prediction, ["E"], options={"seed_threshold": threshold})
    assert same_partition(found.labels, wanted)
    assert found.labels.dtype == np.uint16
    assert found.confidence.shape == (wanted.max(),)
    assert set(found.intermediates) == {"seediness", "foreground"}


def test_the_surest_come_first_and_equals_keep_their_order():
    values = np.random.default_rng(0).integers(-5, 6, 500).astype(np.float32) / 5
    values[::7] *= -0.0
    points = np.flatnonzero(values > -0.7)
    wanted = points[np.argsort(-values[points], kind="stable")]
    np.testing.assert_array_equal(_by_seediness(points.copy(), values), wanted)


def brute_force(places, sigma, seediness, threshold, least):
    ids, left, seeds = np.zeros(len(seediness), int), np.ones(len(seediness), bool), []
    while (left & (seediness >= threshold)).any():
        seed = np.where(left, seediness, -1).argmax()
        square = ((places - places[:, [seed]]).astype(np.float64) ** 2 * np.exp(10 * sigma[:, [seed]].astype(np.float64))).sum(axis=0)
        near = np.exp(-square) > 0.5
        if 2 * (near & left).sum() > near.sum() and (near & left).sum() >= least:
            seeds.append(seediness[seed])
            ids[near & left] = len(seeds)
        left &= ~near
    return ids, seeds


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 120), st.booleans(), st.sampled_from([0.05, 0.5, 40.0]), st.integers(0, 2**31))
def test_cells_change_nothing(axes, n, alike, cell, seed):
    rng = np.random.default_rng(seed)
    places = rng.normal(0, 2, (axes, n)).astype(np.float32)
    sigma = rng.normal(0, 0.2, (1 if alike else axes, n)).astype(np.float32)
    seediness = np.round(rng.random(n), 1).astype(np.float32)
    got, seeds = cluster(places, sigma, seediness, cell=cell, seed_threshold=0.3, min_size=2)
    wanted, expected = brute_force(places, np.broadcast_to(sigma, places.shape), seediness, np.float32(0.3), 2)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(seeds, np.array(expected, np.float32))


def test_far_outliers_do_not_ask_for_a_huge_grid():
    places = np.array([[0, 0.1, 1e6], [0, 0.1, -1e6]], np.float32)
    ids, _ = cluster(places, np.zeros((2, 3), np.float32), np.full(3, 0.9, np.float32), cell=1e-3)
    assert ids.tolist() == [1, 1, 2]


@pytest.mark.parametrize(("shape", "spacing"), [((60, 70), (1, 0.5)), ((16, 40, 44), (3, 1, 1))])
@pytest.mark.parametrize("options", [{}, {"n_sigma": 1}, {"center_mode": "medoid", "medoid_max_points": 50}, {"grid_size": 200}])
def test_anisotropic_objects_come_back(shape, spacing, options):
    labels = simulate(shape=shape, n_objects=8, rng=np.random.default_rng(2), spacing=spacing).labels
    channels = {"E": options}
    got = decode(encode(labels, channels, voxel_size=spacing), channels, voxel_size=spacing)
    assert same_partition(got, labels)


def test_offsets_point_to_the_centre_in_units_of_the_finest_axis():
    labels = np.zeros((9, 9), np.uint32)
    labels[2:5, 1:8] = 2**31
    made = encode(labels, {"E": {"grid_size": 11}}, voxel_size=(2, 1))
    np.testing.assert_allclose(made[:2, 2, 1], [0.3, 0.2], atol=1e-6)  # x, then y, whose voxels are twice as long
    assert (made[4] == (labels > 0)).all()
    bent = np.zeros((12, 12), np.uint32)
    bent[1:11, 1:3] = bent[9:11, 1:11] = 1
    centre = encode(bent, {"E": {"center_mode": "medoid", "grid_size": 2}})[:2, 1, 1] + 1
    assert bent[int(centre[1]), int(centre[0])] == 1


def test_options_of_the_decoder():
    labels = np.zeros((40, 60), np.uint32)
    labels[2:12, 2:12], labels[20:36, 20:36] = 1, 2
    made = encode(labels, ["E"])
    assert decode(made, ["E"]).max() == 2
    assert decode(made, ["E"], options={"min_object_size": 101}).max() == 1
    labels[38, 2:5] = 3
    assert decode(encode(labels, ["E"]), ["E"]).max() == 3  # no object is too small where no size is stated
    assert decode(made, ["E"], options={"min_mask_sum": 356}).max() == 0
    assert decode(made, ["E"], options={"min_unclustered_sum": 256}).max() == 1
    assert decode(made * 0.7, ["E"], options={"seed_thresh": 0.8}).max() == 0
    assert decode(made * 0.7, ["E"], options={"fg_thresh": 0.8}).max() == 0


def test_more_objects_than_16_bits_hold():
    labels = np.kron(np.arange(1, 270 * 270 + 1).reshape(270, 270), np.ones((3, 3), int)).astype(np.uint32)
    got = decode(encode(labels, ["E"]), ["E"])
    assert got.dtype == np.uint32
    assert same_partition(got, labels)


def test_what_is_refused():
    with raises("decoder.unusable_channels", value="F, E"):
        build_decoder(build_channels(["F", "E"]), "embedseg")
    with raises("decoder.unusable_channels", value="E"):
        build_decoder(build_channels(["E"]), "watershed")
    with raises("embedding.bandwidth_count", key="n_sigma", value=3):
        encode(np.ones((4, 4), int), {"E": {"n_sigma": 3}})
    with raises("prediction.channel_count", value=(4, 8, 8)):
        decode(np.zeros((4, 8, 8), np.float32), ["E"])
