from dataclasses import dataclass

import numpy as np
import pytest

from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.data.augment import AUGMENTATIONS
from morula.data.augment.parse import parse_augmentations
from morula.data.normalise import Normalisation
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Options
from morula.testing.errors import raises

AS_IS = Normalisation((0.0,), (1.0,))
EVERYTHING = [{name: {"probability": 0.7}} for name in AUGMENTATIONS.names]
SPATIAL = ["flip", "rotate90", {"rotate": {"probability": 1}}, {"zoom": {}}, {"elastic": {"alpha": 3, "sigma": 12, "probability": 1}}]


@dataclass
class Made:
    channels: np.ndarray
    weights: np.ndarray
    instances: np.ndarray | None = None


def as_is(labels, classes=None, unlabelled=None, relevant=None):
    channels = labels if labels.ndim == 4 else labels[None]
    return Made(channels.astype(np.float32), np.ones(channels.shape, np.float32), labels)


def blobs(shape, seed=0, spacing=None):
    """Labels of random boxes, and an image that equals them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    for i in range(12):
        start = [int(rng.integers(0, n)) for n in shape]
        labels[tuple(slice(a, a + max(n // 5, 1)) for a, n in zip(start, shape))] = i + 1
    axes = "ZYX"[-len(shape) :]
    size = VoxelSize.of(spacing, len(shape))
    return Source(Image(labels.astype(np.uint16), axes, size), Image(labels, axes, size), "blobs")


CASES = [((80, 90), (32, 32), None), ((20, 50, 60), (8, 24, 24), (2.5, 1, 1)), ((30, 30, 30), (12, 12, 12), (1, 1, 1))]


@pytest.mark.parametrize(("shape", "patch", "spacing"), CASES)
def test_sample_is_a_pure_function(shape, patch, spacing):
    augmentations = parse_augmentations(EVERYTHING)
    datasets = [
        PatchDataset([blobs(shape, spacing=spacing)], patch, AS_IS, augmentations=augmentations, targets=as_is, seed=3) for _ in range(2)
    ]
    ahead = datasets[0].sample(1, 1)
    for epoch, index in ((0, 0), (0, 1), (1, 0), (1, 1)):
        one, two = datasets[0].sample(epoch, index), datasets[1].sample(epoch, index)
        assert one.keys() == two.keys() == {"image", "targets", "weights", "instances", "name"}
        assert all((one[name] == two[name]).all() for name in one)
        assert one["image"].shape == one["targets"].shape == one["weights"].shape == (1, *patch)
        assert one["image"].dtype == one["targets"].dtype == one["weights"].dtype == np.float32
    assert all((ahead[name] == two[name]).all() for name in two)
    draws = {datasets[0].sample(epoch, index)["image"].tobytes() for epoch in range(3) for index in range(len(datasets[0]))}
    assert len(draws) == 3 * len(datasets[0])


@pytest.mark.parametrize(("shape", "patch", "spacing"), CASES)
def test_image_and_labels_move_together(shape, patch, spacing):
    """Image and labels are equal, so wherever interpolation finds one value only, the labels must have it too."""
    source = blobs(shape, spacing=spacing)
    data = PatchDataset([source], patch, AS_IS, augmentations=parse_augmentations(SPATIAL), targets=as_is, context=(3,) * len(shape))
    for index in range(6):
        sample = data.sample(0, index % len(data))
        image, labels = sample["image"], sample["targets"]
        sure = image == np.round(image)
        assert sure.mean() > 0.5
        assert (image == labels)[sure].mean() > 0.995
        assert (np.abs(image - labels) > 12).sum() == 0


def test_without_augmentation_patches_are_crops():
    source = blobs((80, 90))
    data = PatchDataset([source], (32, 32), AS_IS, targets=as_is, context=(5, 7))
    for index in range(len(data)):
        _, region = data.place(0, index)
        sample = data.sample(0, index)
        assert (sample["image"][0] == np.asarray(source.image)[region.slices]).all()
        assert (sample["targets"][0] == np.asarray(source.labels)[region.slices]).all()
        assert (sample["weights"] == 1).all()


@pytest.mark.parametrize(
    ("shape", "patch", "context"),
    [((80, 90), (32, 32), (4, 4)), ((20, 50, 60), (8, 24, 24), (3, 5, 40)), ((20, 50, 60), (8, 24, 24), (0, 4, 9))],
)
def test_context_is_encoded_then_cut(shape, patch, context):
    """With enough context an encoding that looks at neighbours equals that of the whole image, in every orientation and at every end."""
    from scipy.ndimage import distance_transform_cdt

    source = blobs(shape)
    seen = []

    def chessboard(labels, relevant=None):
        seen.append(labels.shape)
        distance = distance_transform_cdt(np.pad(labels > 0, 1, constant_values=True), "chessboard")[(slice(1, -1),) * labels.ndim]
        return Made(np.minimum(distance, 3)[None].astype(np.float32), np.ones((1, *labels.shape), np.float32))

    whole = chessboard(np.asarray(source.labels)).channels[0]
    data = PatchDataset(
        [source], patch, AS_IS, augmentations=parse_augmentations([{"flip": 0.5}, {"rotate90": 0.8}]), targets=chessboard, context=context
    )
    for index in range(len(data)):
        drawn = data.draw(1, index)
        _, region = data.place(1, index)
        sample = data.sample(1, index)
        order = drawn.orientation.permutation
        there = region.grow([context[order.index(axis)] for axis in range(len(shape))], within=shape).shape
        assert seen[-1] == tuple(there[axis] for axis in order)
        found = drawn.orientation.inverse.apply(sample["targets"][0])
        if min(context) >= 3:
            assert (found == whole[region.slices]).all()


@pytest.mark.parametrize("augmentations", [[], SPATIAL])
@pytest.mark.parametrize("patch", [(48, 48), (16, 48)])
def test_small_images_are_padded_without_weight(patch, augmentations):
    source = blobs((30, 20))
    data = PatchDataset([source], patch, AS_IS, augmentations=parse_augmentations(augmentations), targets=as_is)
    assert data.warnings
    assert "blobs has (30, 20) voxels" in data.warnings[0]
    sample = data.sample(0, 0)
    assert sample["image"].shape == (1, *patch)
    assert 0 < sample["weights"].mean() < 1
    assert (sample["instances"][sample["weights"][0] == 0] == 0).all()
    if not augmentations:
        assert sample["weights"].sum() == min(30, patch[0]) * 20


def test_rotation_reads_beyond_the_patch():
    ramp = np.arange(100, dtype=np.float32)[None].repeat(100, axis=0)
    data = PatchDataset([Source(Image(ramp, "YX"))], (20, 20), AS_IS, augmentations=parse_augmentations([{"rotate": {"probability": 1}}]))
    assert data.warnings == []
    for index in range(len(data)):
        _, region = data.place(0, index)
        if min(region.start) > 10 and max(region.stop) < 90:
            image = data.sample(0, index)["image"][0]
            warp = data.draw(0, index).warp
            np.testing.assert_allclose(np.diff(image, axis=1), warp.matrix[1, 1], atol=1e-3)  # a plane stays a plane up to the corners


def test_rotated_rectangles_show_the_image():
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    turn = parse_augmentations([{"rotate90": {"probability": 1, "rectangles": True}}])
    data = PatchDataset([Source(Image(image, "YX"))], (12, 20), AS_IS, Options(kind="grid"), turn)
    shapes = set()
    for index in range(len(data)):
        box, drawn = data._drawn(*data.place(0, index), 0, index)
        shapes.add(box.shape)
        np.testing.assert_array_equal(data.sample(0, index)["image"][0], drawn.orientation.apply(image[box.slices]))
    assert shapes == {(12, 20), (20, 12)}


def test_grid_of_labelled_patches():
    labels = np.zeros((40, 40), np.uint8)
    labels[:20, :25] = 1
    source = Source(Image(labels, "YX"), Image(labels, "YX"))
    for least, accept, count in ((None, 0.0, 16), (0.4, 0.0, 6), (0.5, 0.0, 4), (0.5, 1.0, 16)):
        sampling = Options(kind="grid", least_labelled=least, accept_unlabelled=accept)
        data = PatchDataset([source], (10, 10), AS_IS, sampling, targets=as_is)
        assert len(data) == count
        assert all(labels[data.place(0, index)[1].slices].mean() > (least or -1) or accept for index in range(len(data)))


def test_sources_without_labels():
    data = PatchDataset(
        [Source(Image(np.random.default_rng(0).random((3, 40, 40)), "CYX"))], (16, 16), Normalisation((0.0,) * 3, (1.0,) * 3)
    )
    sample = data.sample(0, 0)
    assert sample.keys() == {"image", "weights", "name"}
    assert sample["image"].shape == (3, 16, 16)
    assert sample["weights"].shape == (1, 16, 16)


@pytest.mark.parametrize("value", [255, -1])
@pytest.mark.parametrize("augmentations", [[], SPATIAL])
def test_unlabelled_classes_and_weights(value, augmentations, monkeypatch):
    monkeypatch.setattr(PatchDataset, "place", lambda self, epoch, index: (0, Region((64, 64), (96, 96))))
    labels = np.random.default_rng(0).integers(0, 4, (160, 160)).astype(np.int32)
    labels[:, 65:80] = value
    asked = {}

    def targets(labels, classes, unlabelled, relevant):
        asked.update(labels=labels, classes=classes, unlabelled=unlabelled, relevant=relevant)
        return as_is(labels)

    source = Source(
        Image(labels.astype(np.float32), "YX"),
        Image(labels, "YX"),
        classes=Image(labels + 2, "YX"),
        weights=Image(np.full((160, 160), 0.5), "YX"),
        unlabelled=value,
    )
    data = PatchDataset([source], (32, 32), AS_IS, augmentations=parse_augmentations(augmentations), targets=targets, context=(2, 2))
    sample = data.sample(0, 0)
    assert asked["labels"].shape == asked["classes"].shape == asked["unlabelled"].shape == asked["relevant"].shape == (36, 36)
    assert asked["labels"].max() < 4
    assert (asked["labels"][asked["unlabelled"]] == 0).all()
    assert asked["relevant"].all()
    inner = asked["unlabelled"][2:-2, 2:-2]
    assert 0 < inner.mean() < 1
    assert (sample["weights"][0][inner] == 0).all()
    assert set(np.unique(sample["weights"])) == {0, 0.5}
    known = ~asked["unlabelled"]
    assert (asked["classes"][known] == asked["labels"][known] + 2).all()


def test_multichannel_and_float_labels():
    rng = np.random.default_rng(0)
    image = Image(rng.random((40, 40)), "YX")
    many = PatchDataset(
        [Source(image, Image(rng.integers(0, 9, (2, 40, 40)), "CYX"))],
        (16, 16),
        AS_IS,
        targets=lambda labels: Made(labels.astype(np.float32), np.ones((1, 16, 16))),
    )
    assert many.sample(0, 0)["targets"].shape == (2, 16, 16)
    denoised = PatchDataset(
        [Source(image, image)], (16, 16), AS_IS, targets=as_is, augmentations=parse_augmentations([{"rotate": {"probability": 1}}])
    )
    sample = denoised.sample(0, 0)
    np.testing.assert_allclose(sample["targets"], sample["image"], atol=1e-6)


@pytest.mark.parametrize("kind", ["grid", "random", "centre"])
def test_patches_without_annotated_voxels(kind):
    labels = np.full((40, 40), 9, np.uint8)
    labels[:8, :8] = 1
    source = Source(Image(np.zeros((40, 40)), "YX"), Image(labels, "YX"), unlabelled=9)

    def made(**options):
        return PatchDataset([source], (8, 8), AS_IS, targets=as_is, sampling=Options(kind=kind, patches_per_epoch="grid", **options))

    sparse, all_of_it = made(), made(only_annotated=False)
    assert len(all_of_it) == (1 if kind == "centre" else 25)
    if kind != "centre":
        assert all(sparse.sample(0, index)["weights"].any() for index in range(len(sparse)))
    bare = [index for index in range(len(all_of_it)) if not all_of_it.sample(0, index)["weights"].any()]
    assert len(bare) >= len(all_of_it) / 2
    plain = PatchDataset(
        [Source(source.image, source.labels)], (8, 8), AS_IS, targets=as_is, sampling=Options(kind=kind, patches_per_epoch="grid")
    )
    assert [all_of_it.place(0, index) for index in range(len(plain))] == [plain.place(0, index) for index in range(len(plain))]


def test_only_the_region_is_read():
    array = np.zeros((60, 60), np.float32)
    array[:, 30:] = 1e6
    source = Source(Image(array, "YX"), Image((array > 0).astype(np.uint8), "YX"), region=Region((0, 0), (60, 30)))
    data = PatchDataset(
        [source],
        (24, 24),
        AS_IS,
        targets=as_is,
        augmentations=parse_augmentations(SPATIAL),
        context=(8, 8),
        sampling=Options(patches_per_epoch=30),
    )
    for index in range(len(data)):
        sample = data.sample(0, index)
        assert sample["image"].max() == sample["targets"].max() == 0


def test_errors():
    image = Image(np.zeros((40, 40)), "YX", source="a.tif")
    with raises("images.none"):
        PatchDataset([], (8, 8), AS_IS)
    with raises("patch.dimensions", file="a.tif"):
        PatchDataset([Source(image)], (8, 8, 8), AS_IS)
    with raises("labels.shape", key="labels", value=(40, 41)):
        PatchDataset([Source(image, Image(np.zeros((40, 41), int), "YX"))], (8, 8), AS_IS)
    with raises("labels.missing", file="a.tif"):
        PatchDataset([Source(image)], (8, 8), AS_IS, targets=as_is)
    with raises("patch.too_small", value=(0, 8)):
        PatchDataset([Source(image)], (0, 8), AS_IS)
    with raises("normalisation.count", value=2):
        PatchDataset([Source(image)], (8, 8), [AS_IS] * 2)
    with raises("region.outside", key="region"):
        PatchDataset([Source(image, region=Region((0, 0), (41, 3)))], (8, 8), AS_IS)
    with pytest.raises(IndexError):
        PatchDataset([Source(image)], (8, 8), AS_IS).sample(0, 25)
