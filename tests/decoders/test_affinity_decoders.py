"""Mutex watershed and agglomeration: brute force, the original's result, and what the options do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morula.core.orientation import orientations
from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.decoders.mutex_watershed import MutexWatershed
from morula.decoders.watershed import Watershed
from morula.kernels.agglomeration import agglomerate
from morula.kernels.mutex_watershed import attach_voxels, mutex_watershed
from morula.metrics.rand import adapted_rand_error
from morula.representations.encode import build_channels, encode
from morula.testing.contracts import same_partition
from morula.testing.errors import raises
from morula.testing.simulate import simulate

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "decoders.npz")
PLANE = [(-1, 0), (0, -1), (-3, 0), (0, -3), (3, -3)]
VOLUME = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0), (0, -3, 0), (0, 0, -3)]


def brute_force(affinities, offsets, threshold):
    """Groups as sets, every pair in a sorted list."""
    shape = affinities.shape[1:]
    direct = [max(map(abs, offset)) == 1 for offset in offsets]
    pairs = []
    for rank, channel in enumerate(sorted(range(len(offsets)), key=lambda c: not direct[c])):
        for place in np.ndindex(shape):
            other = tuple(int(n) for n in np.add(place, offsets[channel]))
            value = affinities[channel][place]
            attracts = direct[channel] and value > threshold
            outside = any(not 0 <= n < size for n, size in zip(other, shape, strict=True))
            if outside or (direct[channel] and not attracts and not all(direct)):
                continue
            weight = value if attracts else np.float32(1) - value
            pairs.append((-int(weight * np.float32(65535) + np.float32(0.5)), rank, place, other, attracts))
    name = {place: place for place in np.ndindex(shape)}
    group, excluded, attracted = {p: {p} for p in name}, {p: set() for p in name}, set()
    for _, _, place, other, attracts in sorted(pairs, key=lambda pair: pair[:3]):
        a, b = name[place], name[other]
        attracted |= {place, other} if attracts else set()
        if a == b or b in excluded[a]:
            continue
        if attracts:
            for member in group[b]:
                name[member] = a
            group[a] |= group.pop(b)
            for third in excluded.pop(b):
                excluded[third] = excluded[third] - {b} | {a}
                excluded[a].add(third)
        else:
            excluded[a].add(b)
            excluded[b].add(a)
    out, ids = np.zeros(shape, int), {}
    for place in np.ndindex(shape):
        if place in attracted:
            out[place] = ids.setdefault(name[place], len(ids) + 1)
    return out


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([((9, 10), PLANE), ((9, 10), PLANE[:2]), ((4, 5, 6), VOLUME)]), st.integers(0, 2**31), st.integers(1, 3))
def test_mutex_watershed_is_the_plain_algorithm(case, seed, digits):
    shape, offsets = case
    affinities = np.round(np.random.default_rng(seed).random((len(offsets), *shape)), digits).astype(np.float32)
    np.testing.assert_array_equal(mutex_watershed(affinities, offsets, threshold=0.3), brute_force(affinities, offsets, 0.3))


def test_mutex_watershed_of_larger_images_takes_pairs_in_passes():
    """Tables grow, levels are split into passes and one level holds more than a pass."""
    rng = np.random.default_rng(0)
    affinities = np.where(rng.random((5, 40, 40)) < 0.5, 1, rng.random((5, 40, 40))).astype(np.float32)
    np.testing.assert_array_equal(mutex_watershed(affinities, PLANE, threshold=0.3), brute_force(affinities, PLANE, 0.3))


def test_turned_affinities_give_turned_objects():
    """Weights without ties: the result depends on nothing but their order."""
    plain = {"min_size": 0}
    options = {"A": {"offsets": [(-1, 0), (0, -1), (-3, 0), (0, -3)]}}
    (channel,) = build_channels(["A"], options)
    weights = np.random.default_rng(1).permutation(4 * 20 * 20).reshape(4, 20, 20) / (4 * 20 * 20)
    affinities = weights.astype(np.float32)
    expected = decode(affinities, options, "mutex_watershed", plain)
    for orientation in orientations((1, 1)):
        turned = channel.reorient(affinities, orientation)
        got = decode(turned, options, "mutex_watershed", plain)
        assert same_partition(got, np.ascontiguousarray(orientation.apply(expected)))


@pytest.mark.parametrize(("decoder", "channels"), [("mutex_watershed", {}), ("agglomeration", {}), ("watershed", {"F": {}})])
@pytest.mark.parametrize(("shape", "offsets"), [((40, 44), PLANE[:2]), ((8, 24, 26), VOLUME[:3])])
def test_labels_that_differ_give_the_objects_of_affinities(decoder, channels, shape, offsets):
    labels = simulate("membranes", shape=shape, n_objects=6, rng=np.random.default_rng(3)).labels + 1
    found = [
        decode_objects(encode(labels, made), made, decoder).labels
        for made in ({**channels, "A": {"offsets": offsets, "mode": mode}} for mode in ("same", "different"))
    ]
    assert found[0].max() > 2
    np.testing.assert_array_equal(*found)


def test_agglomeration_is_the_originals():
    prediction, wanted = GOLDEN["agglomeration_prediction"].astype(np.float32), GOLDEN["agglomeration_labels"]
    found = decode_objects(prediction, {"A": {"offsets": VOLUME[:3]}}, "agglomeration")
    assert len(found) == wanted.max()
    together = np.bincount(wanted.ravel().astype(int) * 11 + found.labels.ravel(), minlength=121).reshape(11, 11)
    assert together.max(axis=1).sum() > 0.998 * wanted.size
    assert found.intermediates["fragments"].max() > wanted.max()
    apart = decode_objects(prediction, {"A": {"offsets": VOLUME[:3]}}, "agglomeration", {"threshold": 1.0, "min_size": 0})
    assert len(apart) > len(found)


def test_contacts_count_together_once_their_fragments_are_joined():
    """1 and 2 are joined first; their contacts with 3 (median 0.8 and 0.1) become one of 0.1."""
    fragments = np.array([[1, 1, 1, 1, 2, 2, 2, 2], [3, 3, 3, 3, 3, 3, 3, 3]], np.uint32)
    down = np.zeros((2, 8), np.float32)
    down[1] = [0.8, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1]
    along = np.full((2, 8), 0.9, np.float32)
    for first, expected in ((0.9, [1, 1, 3]), (0.7, [1, 2, 1])):
        along[0, 4] = first
        out = agglomerate(fragments, 3, np.stack([down, along]), [(-1, 0), (0, -1)])
        names = [out[0, 0], out[0, 7], out[1, 0]]
        assert [names.index(name) + 1 for name in names] == expected
    assert len(np.unique(agglomerate(fragments, 3, np.stack([down, along]), [(-1, 0), (0, -1)], min_contact=9))) == 3
    assert len(np.unique(agglomerate(fragments, 3, np.stack([down, along]), [(-1, 0), (0, -1)], quantile=0.1))) == 2


@pytest.mark.parametrize("decoder", ["mutex_watershed", "agglomeration"])
@pytest.mark.parametrize(("shape", "spacing", "offsets"), [((96, 90), (1, 1), PLANE), ((20, 44, 48), (2, 1, 1), VOLUME)])
def test_noise_does_not_hurt(decoder, shape, spacing, offsets):
    labels = simulate("membranes", shape=shape, n_objects=10, rng=np.random.default_rng(3), spacing=spacing).labels
    channels = {"A": {"offsets": offsets}}
    ideal = encode(labels, channels, voxel_size=spacing)
    noisy = np.clip(ideal + np.random.default_rng(0).normal(0, 0.05, ideal.shape), 0, 1).astype(np.float32)
    options = {"min_size": 10} | ({"seeds": 0.7, "growth": 0.3} if decoder == "agglomeration" else {})
    found = decode_objects(noisy, channels, decoder, options, voxel_size=spacing)
    assert adapted_rand_error(labels, found.labels) < 0.02
    assert len(found) == len(np.unique(labels)) - 1
    assert found.confidence.min() > 0.9


def test_auto_takes_the_decoder_that_reads_all_affinities():
    assert isinstance(build_decoder(build_channels(["A"])), Watershed)
    assert isinstance(build_decoder(build_channels(["A"], {"A": {"offsets": PLANE}})), MutexWatershed)


@pytest.mark.parametrize("mode", ["same", "different"])
@pytest.mark.parametrize("offsets", [PLANE, PLANE[2:]])
def test_the_watershed_leaves_out_distant_pairs_beside_other_channels(offsets, mode):
    labels = simulate("nuclei", shape=(64, 64), n_objects=9, rng=np.random.default_rng(3)).labels
    near = [offset for offset in offsets if max(map(abs, offset)) == 1]
    with_all, without = ({"F": {}, "C": {}, **({"A": {"offsets": used, "mode": mode}} if used else {})} for used in (offsets, near))
    assert isinstance(build_decoder(build_channels(with_all)), Watershed)
    found, expected = (decode(encode(labels, channels), channels) for channels in (with_all, without))
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_strides_noise_and_small_objects():
    labels = simulate("nuclei", shape=(64, 64), n_objects=9, rng=np.random.default_rng(1)).labels
    channels = {"A": {"offsets": PLANE}}
    ideal = encode(labels, channels)
    noisy = np.clip(ideal + np.random.default_rng(0).normal(0, 0.3, ideal.shape), 0, 1).astype(np.float32)
    plain = decode_objects(noisy, channels, "mutex_watershed", {"min_size": 0})
    cleaned = decode_objects(noisy, channels, "mutex_watershed", {"min_size": 20})
    assert np.bincount(plain.labels.ravel())[1:].min() < 20 <= np.bincount(cleaned.labels.ravel())[1:].min()
    strided = decode(noisy, channels, "mutex_watershed", {"strides": [4, 4], "min_size": 0})
    assert strided.max() < plain.labels.max()
    one, two, other = (decode(noisy, channels, "mutex_watershed", {"noise": 0.2, "seed": seed}) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_more_objects_than_16_bits_hold():
    labels = np.kron(np.arange(1, 270 * 270 + 1).reshape(270, 270), np.ones((3, 3), int)).astype(np.uint32)
    for decoder, extra in (("mutex_watershed", {}), ("agglomeration", {})):
        got = decode(encode(labels, {"A": {"offsets": PLANE[:4]}}), {"A": {"offsets": PLANE[:4]}}, decoder, extra)
        assert got.dtype == np.uint32
        assert same_partition(got, labels)


def test_attached_voxels_follow_the_strongest_chain():
    labels = np.array([[5, 0, 0, 0, 9, 0]], np.uint32)
    links = np.array([[[0, 0.9, 0.6, 0.7, 0.8, 0.4]]], np.float32)
    assert attach_voxels(labels, links, [(0, -1)]).tolist() == [[5, 5, 9, 9, 9, 0]]


def test_what_the_decoders_of_affinities_refuse():
    with raises("decoder.unusable_channels", value="F, A"):
        build_decoder(build_channels(["F", "A"]), "mutex_watershed")
    with raises("decoder.no_direct_neighbours", key="offsets", value=[[-3, 0]]):
        decode(np.zeros((1, 8, 8), np.float32), {"A": {"offsets": [(-3, 0)]}}, "agglomeration")
    with raises("option.axis_count", key="strides", value=[1, 1, 1]):
        decode(np.zeros((5, 8, 8), np.float32), {"A": {"offsets": PLANE}}, "mutex_watershed", {"strides": [1, 1, 1]})
