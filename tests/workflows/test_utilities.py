"""Utilities: small steps on one image, with its voxel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morula
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.testing.errors import raises
from morula.workflows.utilities import above, as_instances, as_semantic, cropped, with_cubic_voxels, write_fragments

SIZE = VoxelSize(0.5, 0.5, z=2.0)


def volume(kind: type = np.uint16) -> Image:
    values = np.random.default_rng(0).integers(0, 200, (5, 16, 20)).astype(kind)
    return Image(values, "ZYX", SIZE)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_anisotropy_is_corrected_towards_the_shortest_edge(kind: type) -> None:
    ball = volume(kind)
    cubic = with_cubic_voxels(ball)
    assert cubic.spatial_shape == (20, 16, 20)
    assert cubic.spacing == (0.5, 0.5, 0.5)
    assert np.asarray(cubic).dtype == kind
    # the extent in space stays
    extents = [np.multiply(image.spatial_shape, image.spacing) for image in (ball, cubic)]
    np.testing.assert_allclose(*extents)


def test_a_ball_with_long_voxels_becomes_a_ball() -> None:
    z, y, x = np.ogrid[:9, :36, :36]
    labels = (((z - 4) * 4.0) ** 2 + (y - 18) ** 2 + (x - 18) ** 2 <= 144).astype(np.uint16)
    cubic = with_cubic_voxels(Image(labels, "ZYX", VoxelSize(1.0, 1.0, z=4.0)), labels=True)
    (row,) = morula.measure(cubic).to_dict("records")
    assert row["box_z_stop"] - row["box_z_start"] == pytest.approx(row["box_x_stop"] - row["box_x_start"], abs=4)


def test_labels_keep_all_objects_and_channels_their_number() -> None:
    labels = Image(np.arange(1, 13).reshape(3, 2, 2).astype(np.uint16), "ZYX", SIZE)
    assert set(np.unique(np.asarray(with_cubic_voxels(labels, labels=True)))) == set(range(1, 13))
    two = Image(np.stack([np.asarray(volume())] * 2), "CZYX", SIZE)
    assert with_cubic_voxels(two).shape == (2, 20, 16, 20)


def test_a_voxel_size_is_needed() -> None:
    with raises("utilities.voxel_size", key="voxel_size"):
        with_cubic_voxels(Image(np.zeros((4, 4)), "YX"))
    with raises("utilities.too_large", key="voxel_size"):
        with_cubic_voxels(Image(np.zeros((4, 4, 4)), "ZYX", VoxelSize(0.001, 0.001, z=1.0)))


def test_kinds_of_labels() -> None:
    labels = Image(np.array([[1, 1, 0, 1], [0, 0, 0, 2], [3, 3, 0, 2]]), "YX", VoxelSize(0.5, 0.5))
    single = as_instances(as_semantic(labels))
    assert np.asarray(single).max() == 3
    assert np.asarray(as_instances(labels)).max() == 4
    np.testing.assert_array_equal(np.asarray(as_semantic(single)), np.asarray(labels) > 0)
    assert single.voxel_size == labels.voxel_size
    assert np.asarray(above(volume(), 100)).sum() == (np.asarray(volume()) > 100).sum()
    with raises("utilities.channels", key="image"):
        above(Image(np.zeros((2, 4, 4)), "CYX"))


def test_a_crop_is_a_box() -> None:
    box = Region((1, 2, 3), (4, 10, 12))
    part = cropped(volume(), box)
    np.testing.assert_array_equal(np.asarray(part), np.asarray(volume())[box.slices])
    with raises("region.outside"):
        cropped(volume(), Region((0, 0, 0), (9, 9, 99)))


def test_fragments_cover_the_image(tmp_path: Path) -> None:
    image = volume()
    list(write_fragments(image, (4, 8, 12), tmp_path / "pieces", name="scan"))
    covered = np.full(image.spatial_shape, -1)
    files = sorted((tmp_path / "pieces").glob("scan_*.tif"))
    for file in files:
        start = [int(part[1:]) for part in file.stem.split("_")[1:]]
        piece = morula.read(file)
        assert piece.spatial_shape == (4, 8, 12)
        assert piece.spacing == pytest.approx(image.spacing)
        covered[tuple(slice(a, a + n) for a, n in zip(start, piece.spatial_shape, strict=True))] = np.asarray(piece)
    np.testing.assert_array_equal(covered, np.asarray(image))
    assert len(files) == 8
    with raises("output.exists"):
        list(write_fragments(image, (4, 8, 12), tmp_path / "pieces", name="scan"))
    with raises("utilities.fragment_size", key="size"):
        list(write_fragments(image, (4, 8), tmp_path / "more"))
    with raises("utilities.fragment_size", key="size"):
        list(write_fragments(image, (6, 8, 8), tmp_path / "more"))
    assert not (tmp_path / "more").exists()
