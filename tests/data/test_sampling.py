import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from morula.core.image import Image
from morula.core.region import Region
from morula.data.labelled_voxels import LabelledVoxels, annotated_voxels, foreground
from morula.data.normalise import Normalisation
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Grid, Options, box_around, random_box, steps
from morula.methods.training_task import Targets
from morula.testing.errors import raises

AS_IS = Normalisation((0.0,), (1.0,))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(1, 20), st.floats(0, 0.9)), min_size=2, max_size=3))
@settings(max_examples=30, deadline=None)
def test_grid_covers_and_stays_inside(axes):
    extent = Region(tuple(a for a, *_ in axes), tuple(a + n for a, n, *_ in axes))
    patch = tuple(p for _, _, p, _ in axes)
    grid = Grid(extent, patch, tuple(max(1, round(p * (1 - o))) for _, _, p, o in axes))
    covered = [np.zeros(n, bool) for n in extent.shape]
    for box in itertools.islice(grid, 400):
        assert box.shape == patch
        for axis, (a, b, low, high, p) in enumerate(zip(box.start, box.stop, extent.start, extent.stop, patch)):
            assert (a >= low and b <= high) or (p > high - low and a <= low and b >= high)
            covered[axis][max(a - low, 0) : b - low] = True
    if len(grid) <= 400:
        assert all(axis.all() for axis in covered)


def test_steps():
    assert steps((64, 64), 0.0) == (64, 64)
    for wrong in (1.0, -0.1, (8,), (8, 64)):
        with raises("sampling.overlap", key="overlap", value=wrong):
            steps((64, 64), wrong)
    with pytest.raises(ValidationError):
        Options(foreground=1.1)


def test_random_boxes_reach_every_position():
    rng = np.random.default_rng(0)
    starts = Counter(random_box(Region((0, 5), (6, 8)), (4, 5), rng).start for _ in range(600))
    assert set(starts) == {(0, 4), (1, 4), (2, 4)}
    assert min(starts.values()) > 140


def test_box_around_is_moved_inside():
    extent = Region((0, 0), (20, 3))
    assert box_around((1, 1), extent, (8, 8)) == Region((0, -2), (8, 6))
    assert box_around((10, 1), extent, (8, 8)).start[0] == 6
    assert box_around((19, 1), extent, (8, 8)).stop[0] == 20


@pytest.mark.parametrize("read", [2**22, 500])
def test_foreground_is_found(read, monkeypatch):
    """However few voxels it has, of images of any size; all of them are equally likely."""
    monkeypatch.setattr("morula.data.labelled_voxels._BLOCK", read)
    labels = np.zeros((300, 600), np.uint32)
    labels[[5, 250, 290], [30, 31, 590]] = 7
    labels[:, :4] = 255
    found = LabelledVoxels(Image(labels, "YX"), Region((0, 0), (300, 580)), foreground(255))
    found = pickle.loads(pickle.dumps(found))  # it is sent to worker processes that are spawned
    assert len(found) == 2
    assert not found.all
    seen = Counter(found.voxel(np.random.default_rng(seed)) for seed in range(400))
    assert set(seen) == {(5, 30), (250, 31)}
    assert min(seen.values()) > 160


def test_foreground_of_any_channel_counts_annotation_of_all():
    labels = np.zeros((2, 1, 4), np.uint8)
    labels[0, 0, :2], labels[1, 0, 1:] = [5, 9], [9, 9, 6]
    image, extent = Image(labels, "CYX"), Region.whole((1, 4))
    seen = [
        {found.voxel(np.random.default_rng(seed))[1] for seed in range(60)}
        for found in (LabelledVoxels(image, extent, foreground(None)), LabelledVoxels(image, extent, foreground(9)))
    ]
    assert seen == [{0, 1, 2, 3}, {0, 3}]
    assert {annotated_voxels(image, extent, 9).voxel(np.random.default_rng(seed))[1] for seed in range(60)} == {0, 3}


def test_images_without_foreground_have_random_patches():
    image = Image(np.zeros((60, 60), int), "YX")
    data = PatchDataset([Source(image, image)], (16, 16), AS_IS, Options(foreground=1.0, patches_per_epoch=30))
    assert len({data.place(0, index)[1].start for index in range(30)}) > 20


@pytest.mark.parametrize(("patch", "starts"), [((4, 6), [(3, 1), (1, 0)]), ((2, 4, 7), [(0, 3, 1), (0, 1, 0)])])
def test_the_middle_of_each_image(patch, starts):
    shapes = [(3, 10, 9), (2, 7, 6)] if len(patch) == 3 else [(10, 9), (7, 6)]
    images = [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for shape in shapes]
    sources = [Source(Image(image, "ZYX"[-len(patch) :])) for image in images]
    data = PatchDataset(sources, patch, Normalisation((0.0,), (1.0,)), Options(kind="centre", patches_per_epoch="images"))
    assert len(data) == 2
    for epoch in range(2):
        for number, (image, start) in enumerate(zip(images, starts, strict=True)):
            sample = data.sample(epoch, number)
            shown = tuple(slice(max(a, 0), a + k) for a, k in zip(start, patch, strict=True))
            inside = sample["weights"] > 0
            np.testing.assert_array_equal(sample["image"][inside], image[shown].ravel())


@pytest.mark.parametrize("kind", ["grid", "centre"])
def test_a_patch_of_each_cell(kind):
    source = Source(Image(np.zeros((16, 24), np.float32), "YX"))
    data = PatchDataset([source], (3, 4), AS_IS, Options(kind=kind, cell=(8, 8), overlap=(0, 4), patches_per_epoch="grid"))
    cells = Grid(Region((0, 0), (16, 24)), (8, 8), (8, 4))
    assert len(data) == len(cells) == 10
    starts = [[data.place(epoch, index)[1].start for epoch in range(40)] for index in range(10)]
    for cell, found in zip(cells, starts, strict=True):
        rows, columns = ({a - start for a in along} for along, start in zip(zip(*found), cell.start, strict=True))
        if kind == "centre":
            assert (rows, columns) == ({2}, {2})
        else:
            assert (min(rows), max(rows), min(columns), max(columns)) == (0, 5, 0, 4)


def test_parts_of_an_object_become_objects():
    labels = np.array([[7, 7, 0, 7], [0, 0, 7, 0], [0, 0, 0, 0], [2, 0, 0, 7]], np.uint16)
    source = Source(Image(labels.astype(np.float32), "YX"), Image(labels, "YX"))

    def seen(labels):
        return Targets(labels[None].astype(np.float32), np.ones((1, 4, 4), np.float32))

    sampling = Options(kind="grid", separate_parts=True)
    sample = PatchDataset([source], (4, 4), AS_IS, sampling, targets=seen, with_labels=True).sample(0, 0)
    assert sample["labels"].tolist() == [[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [2, 0, 0, 3]]
    assert (sample["targets"][0] == sample["labels"]).all()


def test_share_of_foreground():
    labels = np.zeros((200, 200), np.uint8)
    labels[90:94, 100:104] = 1
    source = Source(Image(labels, "YX"), Image(labels, "YX"))
    for share, low, high in ((0.0, 0, 0.1), (0.5, 0.35, 0.65), (1.0, 1, 1)):
        data = PatchDataset([source], (16, 16), AS_IS, Options(foreground=share, patches_per_epoch=100))
        hits = np.mean([labels[data.place(0, i)[1].slices].any() for i in range(100)])
        assert low <= hits <= high


@pytest.mark.parametrize("kind", ["grid", "random"])
def test_images_are_used_in_proportion_to_their_size(kind):
    images = [Image(np.zeros(shape), "YX") for shape in ((32, 32), (64, 32), (16, 16))]
    data = PatchDataset([Source(image) for image in images], (16, 16), AS_IS, Options(kind=kind))
    assert len(data) == 4 + 8 + 1
    for epoch in (0, 1):
        assert Counter(data.place(epoch, i)[0] for i in range(13)) == {0: 4, 1: 8, 2: 1}
    few = PatchDataset([Source(image) for image in images], (16, 16), AS_IS, Options(kind=kind, patches_per_epoch=5))
    turns = [few.place(*divmod(i, 5)) for i in range(13)]
    assert Counter(number for number, _ in turns) == {0: 4, 1: 8, 2: 1}
    if kind == "grid":
        assert len(set(turns)) == 13
        assert [data.place(0, i) for i in range(13)] == [data.place(1, i) for i in range(13)]
    else:
        assert [data.place(0, i) for i in range(13)] != [data.place(1, i) for i in range(13)]


@pytest.mark.parametrize("extent", [Region((0, 0, 0), (70, 90, 90)), Region((3, 10, 20), (60, 90, 85))])
def test_boxes_contain_annotated_voxels(extent):
    labels = np.full((70, 90, 90), 255, np.uint8)
    labels[50, 11:80, 30:33] = 0
    labels[20, 85, 84] = 4
    found = annotated_voxels(Image(labels, "ZYX"), extent, 255)
    rng = np.random.default_rng(0)
    boxes = [found.box((16, 32, 32), rng) for _ in range(300)]
    assert all((labels[box.slices] != 255).any() for box in boxes)
    assert all(a >= low and b <= high for box in boxes for a, b, low, high in zip(box.start, box.stop, extent.start, extent.stop))
    assert len({50 - box.start[0] for box in boxes if box.start[0] <= 50 < box.stop[0]}) > 5  # the plane lies anywhere in the patch
    assert found.touches(Region((50, 20, 30), (51, 21, 31)))
    assert not found.touches(Region((51, 0, 0), (60, 90, 90)))


def test_annotated_voxels_are_equally_likely():
    labels = np.full((1, 600), 9, np.uint8)
    labels[0, [3, 299, 300, 580]] = 1
    found = annotated_voxels(Image(labels, "YX"), Region.whole((1, 600)), 9)
    seen = Counter(found.box((1, 1), np.random.default_rng(seed)).start[1] for seed in range(800))
    assert set(seen) == {3, 299, 300, 580}
    assert min(seen.values()) > 150


def test_image_without_annotated_voxels():
    labels = np.full((8, 8), 255, np.uint8)
    with raises("labels.none_annotated", file="cells"):
        annotated_voxels(Image(labels, "YX"), Region.whole((8, 8)), 255, "cells")


@pytest.mark.parametrize("kind", ["random", "grid"])
def test_patches_of_sparse_labels_contain_annotated_voxels(kind):
    labels = np.full((20, 64, 64), 255, np.uint8)
    labels[17, :30, :30] = 0
    volume = np.zeros(labels.shape, np.float32)
    source = Source(Image(volume, "ZYX"), Image(labels, "ZYX"), unlabelled=255)
    dataset = PatchDataset([source], (8, 16, 16), AS_IS, sampling=Options(kind=kind, patches_per_epoch=None if kind == "grid" else 30))
    places = [dataset.place(0, index)[1] for index in range(len(dataset))]
    assert all((labels[place.slices] != 255).any() for place in places)
    assert len(places) == (4 if kind == "grid" else 30)
