import numpy as np
import pytest

from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.data import summary
from morula.data.summary import describe, object_label_warnings
from morula.testing.errors import raises


def boxes(shape, edges, ids=range(1, 100), gap=2):
    labels = np.zeros(shape, np.uint32)
    for label, start in zip(ids, range(1, shape[-1] - edges[-1], edges[-1] + gap)):
        labels[..., start : start + edges[-1]][tuple(slice(1, 1 + e) for e in edges[:-1])] = label
    return labels


@pytest.mark.parametrize(
    ("shape", "edges", "size"), [((20, 60), (4, 6), VoxelSize(0.5, 0.5)), ((9, 20, 60), (3, 4, 6), VoxelSize(0.5, 0.5, 2))]
)
def test_objects_are_measured(shape, edges, size):
    axes = "ZYX"[-len(shape) :]
    labels = boxes(shape, edges, ids=range(70_000, 70_100))
    summary = describe(
        [Image(labels % 251 + np.arange(shape[-1], dtype=np.uint32), axes, size)] * 2,
        [Image(labels, axes, size), Image(labels * 0, axes, size)],
    )
    found = summary.objects
    assert found.count == 7
    assert found.per_image == (7, 0)
    assert found.voxels == (np.prod(edges),) * 5
    assert found.edges == (edges,) * 5
    volume = np.prod(edges) * np.prod(size.spacing(len(shape)))
    assert found.diameters[2] == pytest.approx(2 * np.sqrt(volume / np.pi) if len(shape) == 2 else np.cbrt(6 * volume / np.pi))
    assert found.foreground == pytest.approx(7 * np.prod(edges) / np.prod(shape) / 2)
    assert found.largest_label == 70_006
    assert (summary.images, summary.ndim, summary.unit, summary.shapes) == (2, len(shape), "um", {shape: 2})
    assert "7 objects, 0 to 7 per image" in "\n".join(summary.lines())
    assert summary.warnings == []


def test_border_objects_are_counted_without_size():
    labels = boxes((20, 60), (4, 6))
    labels[10:, 50:] = 99
    found = describe([Image(labels, "YX")], [Image(labels, "YX")]).objects
    assert found.count == 8
    assert max(found.voxels) == 24


def test_one_object_that_fills_the_image():
    labels = np.ones((10, 10), np.uint8)
    found = describe([Image(labels, "YX")], [Image(labels, "YX")]).objects
    assert (found.count, found.foreground, found.voxels[0], found.edges[0]) == (1, 1.0, 100, (10, 10))


def test_large_labels_are_read_in_their_centre(monkeypatch):
    monkeypatch.setattr(summary, "_VOXELS", 400)
    labels = np.zeros((100, 100), np.uint8)
    labels[0, 0], labels[50, 50] = 1, 2
    assert describe([Image(labels, "YX")], [Image(labels, "YX")]).objects.count == 1


def test_warnings():
    rng = np.random.default_rng(0)
    flat = Image(np.full((20, 20), 3, np.uint8), "YX", source="flat.tif")
    bright = Image(np.minimum(rng.integers(0, 300, (50, 50)), 255).astype(np.uint8), "YX", VoxelSize(2, 2, unit="pixel"))
    empty = Image(np.zeros((20, 20), int), "YX")
    summary = describe([flat, bright], [empty])
    text = "\n".join(summary.lines())
    for part in (
        "flat.tif is constant",
        "saturated at 255",
        "2 different voxel sizes",
        "no object",
        "20 x 20 to 50 x 50 voxels",
        "1 x 1 to 2 x 2 pixel",
    ):
        assert part in text
    with raises("images.none"):
        describe([])


def test_channels_and_spread():
    rgb = Image(np.random.default_rng(0).integers(0, 9, (30, 40, 3), np.uint8), "YXC")
    summary = describe([rgb])
    assert len(summary.intensities) == 3
    assert summary.lines()[2].startswith("channel 0 intensity 0 to 8, median 4")
    assert summary.objects is None


def test_masks_and_empty_labels_warn():
    mask = np.zeros((30, 30), np.uint8)
    mask[2:8, 2:8] = mask[2:8, 20:28] = mask[20:28, 5:9] = 255
    ids = mask.copy()
    ids[20:28, 5:9] = 7
    one = np.where(ids == 7, ids, 0)

    def said(*arrays, unlabelled=None):
        return object_label_warnings([(Image(array, "YX"), unlabelled) for array in arrays])

    assert "such as 255, in 3 pieces" in said(mask)[0]
    assert "in 6 pieces" in said(mask, mask)[0]
    assert said(mask, ids) == said(ids) == said(one, one * 0) == said(one, one) == said(np.maximum(mask, 1), unlabelled=1) == said() == []
    assert "no object" in said(mask * 0, mask * 0)[0]
    assert "no object" in said(mask, unlabelled=255)[0]
