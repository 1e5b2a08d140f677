"""Laws of decoding in blocks."""

from __future__ import annotations

import io

import numpy as np
import pytest

from morula.decoders import DECODERS
from morula.decoders.blockwise import BlockObjects, BlockPlan, agreeing, decode_block, merge_blocks, no_votes, plan_blocks
from morula.decoders.decode import build_decoder
from morula.decoders.statistics import ChannelStatistics
from morula.kernels.geometry import geometry
from morula.kernels.object_tables import first_voxels
from morula.labels.objects import Objects
from morula.labels.votes import count_votes, elected
from morula.representations.encode import build_channels
from morula.testing.contracts import same_partition
from morula.testing.decoder_contracts import accepted_sets, noisy_predictions


def in_blocks(plan, prediction, decode, vote=no_votes):
    """The merged objects, and the labels of the whole image."""
    found = [decode_block(plan, number, prediction, decode, vote) for number in range(len(plan))]
    cores = np.zeros(plan.shape, np.uint32)
    for core, block in zip(plan.cores, found, strict=True):
        cores[core.slices] = block.labels
    merged = merge_blocks(plan, lambda number: found[number], cores)
    labels = np.zeros(plan.shape, np.uint32)
    for core, table, block in zip(plan.cores, merged.tables, found, strict=True):
        labels[core.slices] = table[block.labels]
    return merged, labels


@pytest.mark.parametrize("name", DECODERS.names)
@pytest.mark.parametrize(("ndim", "core"), [(2, (40, 56)), (2, (128, 33)), (3, (24, 20, 24))])
def test_blocks_give_the_objects_of_the_whole(name: str, ndim: int, core: tuple[int, ...]) -> None:
    codes, spacing = accepted_sets(name)[0], (1.0,) * ndim
    prediction = noisy_predictions(codes, ndim, seed=3 + core[-1])[1]
    decoder = build_decoder(build_channels(codes), name)
    parameters = decoder.calibrate(prediction, decoder.fit(ChannelStatistics.of(prediction)), spacing)
    whole = decoder.decode(prediction, parameters, spacing)
    boxes = geometry(whole.labels)
    diameter = float((boxes.stops - boxes.starts)[boxes.ids].max())
    align = decoder.alignment(ndim)
    halo = tuple(-(-h // a) * a for h, a in zip(decoder.context(parameters, spacing, diameter), align, strict=True))
    plan = BlockPlan(prediction.shape[1:], tuple(-(-c // a) * a for c, a in zip(core, align, strict=True)), halo)
    merged, labels = in_blocks(plan, prediction, lambda block: decoder.decode(block, parameters, spacing))
    assert same_partition(labels, whole.labels)
    # ids follow the first voxels, whatever the blocks are
    first, _ = first_voxels(labels, len(merged))
    assert (np.diff(first[1:]) > 0).all()
    found = geometry(labels, len(merged))
    assert np.array_equal(merged.starts, found.starts[1:])
    assert np.array_equal(merged.stops, found.stops[1:])
    old = np.zeros(len(merged) + 1, np.int64)
    old[labels.ravel()] = whole.labels.ravel()
    np.testing.assert_allclose(merged.confidence, whole.confidence[old[1:] - 1], rtol=1e-5)


def tubes(prediction: np.ndarray) -> Objects:
    """Rows of equal values, as long as the image; the confidence is the number of voxels, limited to 1."""
    labels = prediction[0].astype(np.uint32)
    values, labels = np.unique(labels, return_inverse=True)
    assert values[0] == 0
    n = len(values) - 1
    return Objects(labels.reshape(prediction.shape[1:]).astype(np.uint32), np.full(n, 0.5, np.float32))


def test_objects_larger_than_the_halo_are_merged_across_blocks() -> None:
    truth = np.zeros((1, 30, 90), np.float32)
    for number, row in enumerate(range(1, 29, 4), start=1):
        truth[0, row : row + 2] = number
    plan = BlockPlan((30, 90), core=(10, 32), halo=(3, 3))
    merged, labels = in_blocks(plan, truth, tubes)
    assert len(merged) == merged.merged == 7
    assert same_partition(labels, truth[0].astype(int))
    assert merged.confidence.tolist() == [0.5] * 7


def test_all_voxels_of_an_object_vote_for_its_class_however_many_blocks_it_reaches_through() -> None:
    truth = np.zeros((1, 30, 90), np.float32)
    for number, row in enumerate(range(1, 29, 4), start=1):
        truth[0, row : row + 2, : 10 * number] = number
    classes = np.random.default_rng(0).random((3, 30, 90)).astype(np.float32)
    plan = BlockPlan((30, 90), core=(10, 32), halo=(3, 3))

    def vote(channels: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
        return count_votes(labels, channels[1:], n)

    prediction = np.concatenate([truth, classes])
    merged, labels = in_blocks(plan, prediction, tubes, vote)
    votes = count_votes(labels, classes, len(merged))
    for found, right in zip((merged.classes, merged.class_confidence), elected(votes), strict=True):
        assert np.array_equal(found, right)


def test_touching_objects_stay_apart_and_empty_images_have_none() -> None:
    labels = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((6, 5))).astype(np.float32)[None]
    plan = BlockPlan((30, 30), core=(7, 11), halo=(8, 8))
    merged, found = in_blocks(plan, labels, tubes_without_background)
    assert len(merged) == 30
    assert merged.merged == 0
    assert same_partition(found, labels[0].astype(int))
    merged, found = in_blocks(plan, np.zeros((1, 30, 30), np.float32), tubes)
    assert len(merged) == 0
    assert not found.any()


def tubes_without_background(prediction: np.ndarray) -> Objects:
    values, labels = np.unique(prediction[0], return_inverse=True)
    return Objects(labels.reshape(prediction.shape[1:]).astype(np.uint32) + 1, np.full(len(values), 0.5, np.float32))


def test_plans_fit_into_the_memory_and_cover_the_image() -> None:
    for shape, halo, align in (((40, 300, 500), (5, 20, 20), (1, 1, 1)), ((3000, 1000), (30, 30), (4, 4)), ((20, 20), (50, 50), (1, 1))):
        for memory in (10**7, 10**8, 10**9):
            plan = plan_blocks(shape, halo, memory=memory, bytes_per_voxel=50, align=align)
            if plan is None:
                assert np.prod([min(n, 32 + 2 * h) for n, h in zip(shape, halo, strict=True)]) * 50 > memory
                continue
            seen = np.zeros(shape, np.uint8)
            for number, core in enumerate(plan.cores):
                seen[core.slices] += 1
                assert np.prod(plan.window(number).shape) * 50 <= memory
                assert all(start % a == 0 for start, a in zip(core.start, align, strict=True))
            assert (seen == 1).all()


def test_neighbours_come_before_the_block() -> None:
    plan = BlockPlan((30, 30), core=(10, 10), halo=(1, 1))
    assert plan.neighbours(4) == [0, 1, 2, 3]
    assert plan.zone(4, 0).shape == (1, 1)
    assert plan.zone(4, 1).shape == (1, 10)
    assert plan.zone(4, 2).shape == (1, 1)


def test_views_agree_from_half_of_their_union_on() -> None:
    one = np.array([1] * 4 + [2] * 4 + [0] * 2)
    other = np.array([3] * 4 + [0] * 3 + [3] + [4] * 2)
    assert agreeing(one, other).tolist() == [[1, 3]]


def test_objects_of_a_block_can_be_stored() -> None:
    labels = np.array([[0, 2, 2], [1, 1, 0]], np.uint32)
    plan = BlockPlan((2, 3), core=(1, 3), halo=(1, 1))
    block = decode_block(plan, 1, labels[None].astype(np.float32), tubes)
    file = io.BytesIO()
    block.save(file)
    file.seek(0)
    stored = BlockObjects.load(file)
    assert stored.first.tolist() == block.first.tolist() == [3]
    assert [zone.tolist() for zone in stored.seen] == [zone.tolist() for zone in block.seen]
