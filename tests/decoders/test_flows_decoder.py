"""Objects by following flows: the way of each voxel by a plain loop, the original's case, the error check, options, messages."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.flow_tracking import flow_errors, follow
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "shapes.npz")


def same_partition(one, two):
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]).astype(np.int64), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((20, 24), (1.0, 1.0)), ((20, 24), (2.0, 1.0)), ((8, 10, 12), (1.0, 1.0, 1.0)), ((1, 9, 9), (3.0, 1.0, 1.0))]
)
def test_ways_are_those_of_plain_steps(shape, spacing):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.8
    flow = rng.uniform(-0.4, 0.4, (len(shape), *shape)).astype(np.float32)
    scale = min(spacing) / np.array(spacing)
    steps = 6  # fewer than the check for rest needs
    place = np.argwhere(mask).T.astype(float)
    last = np.array(shape)[:, None] - 1
    for _ in range(steps):
        moved = np.stack([map_coordinates(flow[axis] * mask, place, order=1) for axis in range(len(shape))])
        place = np.clip(place + moved * scale[:, None], 0, last)
    found = follow(flow, mask, spacing, steps)
    assert (found[~mask] == -1).all()
    ends = np.stack(np.unravel_index(found[mask], shape))
    assert np.abs(ends - place).max() <= 0.5 + 1e-4


def test_voxels_at_rest_are_left_and_moving_ones_go_on():
    flow = np.zeros((2, 3, 300), np.float32)
    flow[1, 1] = 1
    ends = follow(flow, np.ones((3, 300), bool), (1, 1), 200)
    assert ends[1, 0] == 300 + 200
    assert ends[1, 150] == 300 + 299
    assert ends[0, 7] == 7


def blocks(ndim):
    labels = np.zeros((24, 40), np.uint32)
    labels[2:12, 3:18], labels[2:12, 18:30], labels[12:22, 3:30] = 70_000, 3, 2**31
    return labels if ndim == 2 else np.stack([np.zeros_like(labels), *[labels] * 7, np.zeros_like(labels)])


@pytest.mark.parametrize("spacing", [1.0, 2.0])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("code", ["F", "B", "D"])
def test_decoding_inverts_encoding(code, ndim, spacing):
    labels, size = blocks(ndim), (spacing,) + (1.0,) * (ndim - 1)
    found = decode_objects(encode(labels, [code, "G"], voxel_size=size), [code, "G"], voxel_size=size)
    assert same_partition(labels, found.labels)
    assert found.labels.dtype == np.uint16
    assert len(found.confidence) == 3


def test_noise_changes_little():
    labels = GOLDEN["flows_labels"]
    made = encode(labels, ["F", "G"])
    made += np.random.default_rng(0).normal(0, 0.1, made.shape).astype(np.float32)
    found = decode(made, ["F", "G"])
    assert found.max() == 12
    same = {label: np.bincount(found[labels == label]).argmax() for label in range(1, 13)}
    assert (np.vectorize({0: 0, **same}.get)(labels) == found).mean() > 0.99


def test_finds_what_the_original_finds():
    prediction, wanted = GOLDEN["flows_prediction"].astype(np.float32), GOLDEN["flows_labels"]
    prediction[1:] /= 5  # the original predicts flows five times as long
    assert same_partition(decode(prediction, ["F", "G"]), wanted)


def test_objects_whose_flow_is_none_of_their_shape_go():
    labels = blocks(2)
    made = encode(labels, ["F", "G"])
    whole = decode_objects(made, ["F", "G"])
    block = labels == 3
    made[1:, block] *= 0.2
    assert len(decode_objects(made, ["F", "G"])) == 2
    assert len(decode_objects(made, ["F", "G"], options={"flow_error": 0.8})) == 3
    kept = decode_objects(made, ["F", "G"], options={"flow_error": None})
    assert len(kept) == 3
    np.testing.assert_allclose(kept.confidence, 1)
    assert (whole.confidence > 0.99).all()
    again = encode(labels, ["G"])
    ids = np.where(labels == 3, 1, np.where(labels > 0, 2, 0)).astype(np.uint32)
    brute = ((made[1:] - again) ** 2).sum(axis=0)
    np.testing.assert_allclose(flow_errors(ids, made[1:], again, 2), [brute[ids == 1].mean(), brute[ids == 2].mean()], rtol=1e-5)


def test_options_and_messages():
    labels = blocks(2)
    made = encode(labels, ["F", "G"])
    assert decode(made, ["F", "G"], options={"min_size": 130}).max() == 2
    assert decode(made * 0.45, ["F", "G"], options={"threshold": 0.5}).max() == 0
    assert decode(np.zeros((3, 9, 9)), ["F", "G"]).max() == 0
    assert decode(np.zeros((4, 3, 9, 9)), ["F", "G"]).max() == 0
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 40, 40))
    assert decode(noise, ["F", "G"]).max() == 0
    with raises("decoder.unusable_channels", value="G"):
        decode(np.zeros((2, 9, 9)), ["G"], "flows")
    with raises("decoder.unusable_channels", value="F"):
        decode(np.zeros((1, 9, 9)), ["F"], "flows")
    with raises("decoder.unusable_channels", value="F, C, G"):
        decode(np.zeros((4, 9, 9)), ["F", "C", "G"], "flows")


def test_blocks_are_decoded_with_the_parameters_of_the_whole():
    made = encode(blocks(2), ["F", "G"])
    decoder = build_decoder(build_channels(["F", "G"]))
    parameters = decoder.fit(ChannelStatistics.of(made))
    part = decoder.decode(made[:, :, :31], parameters, (1.0, 1.0))
    assert same_partition(part.labels, blocks(2)[:, :31])


@pytest.mark.parametrize("ndim", [2, 3])
def test_voxels_on_a_corner_of_a_long_object_have_no_direction(ndim):
    """All voxels beside them are background, and so far from the centre rounding makes them colder than that."""
    labels = np.zeros((106,) + (24,) * (ndim - 1), np.uint32)
    labels[(slice(3, -3), *(slice(8, 11),) * (ndim - 1))] = 1
    for k in range(3):
        labels[(2 - k, *(11 + k,) * (ndim - 1))] = labels[(103 + k, *(11 + k,) * (ndim - 1))] = 1
    length = np.linalg.norm(encode(labels, ["G"]), axis=0)
    tail = labels.copy()
    tail[3:-3] = 0
    assert (length[tail > 0] == 0).all()
    rest = length[(labels > 0) & (tail == 0)]
    assert np.sort(rest)[:2] == pytest.approx([0, 1])  # none at the centre
