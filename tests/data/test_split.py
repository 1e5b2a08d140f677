import numpy as np
import pytest

from morula.core.image import Image
from morula.core.region import Region
from morula.data.patches import Source
from morula.data.split import limited, split_block, split_images, split_sources
from morula.testing.errors import raises


@pytest.mark.parametrize("n", [2, 3, 10, 37])
@pytest.mark.parametrize("validation", [0.01, 0.1, 0.5, 0.99, 1])
def test_images_are_divided(n, validation):
    train, held = split_images(n, validation, seed=4)
    assert sorted(train + held) == list(range(n))
    assert train
    assert held
    assert split_images(n, validation, seed=4) == (train, held)


def test_seed_matters():
    assert len({tuple(split_images(20, 0.2, seed=seed)[1]) for seed in range(10)}) > 5
    assert len(split_images(20, 0.25)[1]) == len(split_images(20, 5)[1]) == 5


@pytest.mark.parametrize(("shape", "patch"), [((64, 400), (32, 64)), ((40, 300, 300), (16, 64, 64)), ((400, 30, 30), (32, 32, 32))])
@pytest.mark.parametrize("validation", [0.1, 0.3])
def test_blocks_are_apart(shape, patch, validation):
    extent = Region(tuple(range(len(shape))), tuple(n + i for i, n in enumerate(shape)))
    train, held = split_block(extent, validation, patch=patch)
    (axis,) = (i for i in range(len(shape)) if train.stop[i] != extent.stop[i])
    assert held.start[axis] - train.stop[axis] == patch[axis]
    assert (train.start, held.stop) == (extent.start, extent.stop)
    assert train.shape[axis] >= patch[axis]
    assert held.shape[axis] >= max(patch[axis], round(validation * shape[axis]))


def test_sources():
    image = Image(np.zeros((40, 300)), "YX")
    train, held = split_sources([Source(image, name=str(i)) for i in range(5)], 0.2, patch=(16, 16))
    assert len(train) == 4
    assert {s.name for s in train}.isdisjoint(s.name for s in held)
    train, held = split_sources([Source(image)], 0.2, patch=(16, 16), gap=(8, 8))
    assert train[0].extent.slices[1] == slice(0, 232)
    assert held[0].extent.slices[1] == slice(240, 300)


@pytest.mark.parametrize(("shape", "place"), [((400, 600), (330, 20)), ((20, 80, 90), (3, 70, 60))])
def test_the_labelled_part_of_a_large_image_is_validated_on(shape, place):
    labels = np.zeros(shape, np.uint32)
    labels[tuple(slice(a, a + 8) for a in place)] = 70_000
    source = Source(Image(labels, "ZYX"[-len(shape) :]), Image(labels, "ZYX"[-len(shape) :]))
    most = labels.size // 7
    found = limited(source, most)
    assert np.count_nonzero(labels[found.extent.slices]) == np.count_nonzero(labels)
    assert most / 4 < np.prod(found.extent.shape) <= most
    assert limited(source, labels.size) is source
    unlabelled = limited(Source(source.image), most)
    assert unlabelled.extent.shape == found.extent.shape
    assert all(abs(a + b - n) <= 1 for a, b, n in zip(unlabelled.extent.start, unlabelled.extent.stop, shape))


def test_errors():
    with raises("split.too_few_images", key="validation", value=1):
        split_images(1, 1)
    with raises("split.too_few_images", value=0.1):
        split_images(1, 0.1)
    with raises("split.too_few_images", value=4):
        split_images(4, 4)
    with raises("split.share", value=0):
        split_images(4, 0)
    with raises("split.share", value=1.5):
        split_images(4, 1.5)
    with raises("split.too_short", value=150):
        split_block(Region.whole((100, 150)), 0.1, patch=(64, 64))
    with raises("split.share", value=2):
        split_sources([Source(Image(np.zeros((40, 300)), "YX"))], 2, patch=(16, 16))
