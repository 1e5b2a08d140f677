"""Outlines and surfaces: equal to scikit-image's of each object alone, closed at the image's border, under any voxel size."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.measure import marching_cubes, mesh_surface_area, perimeter, perimeter_crofton, regionprops

from morula.core.voxel_size import VoxelSize
from morula.measurement.measure import measure
from morula.measurement.shape import crofton_perimeters, perimeters, surface_areas
from morula.measurement.table import column

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "measure.npz")


def pieces(shape, n, seed=0):
    """Touching objects of random shapes, also in several pieces, with holes and at the border."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) > 0.2, rng.integers(1, n + 1, tuple(-(-s // 4) for s in shape))[tuple(np.indices(shape) // 4)], 0)


def mesh_area(mask, spacing):
    points, triangles, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)
    return mesh_surface_area(points, triangles)


def test_equals_the_original():
    table = measure(GOLDEN["labels"], extra=["solidity"], surface="mesh")
    for ours, theirs in (("circularity", "circularities"), ("elongation", "elongations"), ("solidity", "solidity")):
        np.testing.assert_allclose(table[ours], GOLDEN[theirs], rtol=1e-6)
    for ours, theirs in (("npixels", "npixels"), ("diameter", "diameters"), ("area", "npixels")):
        np.testing.assert_array_equal(column(table, ours), GOLDEN[theirs])
    np.testing.assert_array_equal(np.floor(column(table, "perimeter")), GOLDEN["perimeters"])


@pytest.mark.parametrize("seed", range(3))
def test_perimeter_equals_scikit_image(seed):
    labels = pieces((37, 41), 9, seed).astype(np.uint32)
    expected = [perimeter(labels == label, 4) for label in range(1, 10)]
    np.testing.assert_allclose(perimeters(labels, 10, (1, 1))[1:], expected)
    np.testing.assert_allclose(perimeters(labels, 10, (0.3, 0.3))[1:], 0.3 * np.array(expected))


@pytest.mark.parametrize("seed", range(3))
def test_crofton_perimeter_equals_scikit_image(seed):
    labels = pieces((37, 41), 9, seed).astype(np.uint32)
    expected = [perimeter_crofton(np.pad(labels == label, 1), 4) for label in range(1, 10)]
    np.testing.assert_allclose(crofton_perimeters(labels, 10, (1, 1))[1:], expected)
    np.testing.assert_allclose(crofton_perimeters(labels, 10, (0.3, 0.3))[1:], 0.3 * np.array(expected))
    np.testing.assert_allclose(crofton_perimeters(labels.T.copy(), 10, (0.5, 2.0)), crofton_perimeters(labels, 10, (2.0, 0.5)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5), (2.0, 0.5, 0.7)])
def test_aspect_ratios_are_those_of_scikit_image(spacing):
    labels = pieces((29, 31) if len(spacing) == 2 else (9, 14, 11), 5)
    found = measure(labels, voxel_size=spacing)["aspect_ratio"]
    for region, ratio in zip(regionprops(labels), found, strict=True):
        points = region.coords * np.array(spacing)
        widths = np.linalg.eigvalsh(np.cov(points.T, bias=True) + np.diag(np.square(spacing)) / 12)
        assert ratio == pytest.approx(np.sqrt(widths[-1] / widths[0]))


def test_objects_at_the_border():
    labels = np.zeros((4, 6, 6), int)
    labels[0, 2, 2], labels[2, 2, 2], labels[2, 5, 3], labels[1:3, 3, 0] = 1, 2, 3, 4
    assert measure(labels)["touches_border"].tolist() == [1, 0, 1, 1]
    assert measure(labels[2])["touches_border"].tolist() == [0, 1, 1]


def test_centroids_in_physical_units():
    table = measure(pieces((9, 14, 11), 4), voxel_size=(2.0, 0.5, 0.7))
    for axis, length in zip("zyx", (2.0, 0.5, 0.7), strict=True):
        np.testing.assert_allclose(table[f"centroid_{axis}_um"], table[f"centroid_{axis}"] * length)
    assert not any(name.endswith("_px") for name in measure(np.eye(3, dtype=int)) if name.startswith("centroid"))


def test_perimeter_of_oblong_pixels():
    labels = np.zeros((20, 30), np.uint32)
    labels[3:13, 5:25] = 1
    assert perimeters(labels, 2, (2.0, 0.5))[1] == pytest.approx(2 * (9 * 2.0 + 19 * 0.5))
    y, x = np.mgrid[-40:41, -160:161]
    ellipse = (np.hypot(y * 4.0, x) < 120).astype(np.uint32)  # a disc, of pixels four times as high as wide
    assert perimeters(ellipse, 2, (4.0, 1.0))[1] == pytest.approx(2 * np.pi * 118, rel=0.15)
    np.testing.assert_allclose(perimeters(labels.T.copy(), 2, (0.5, 2.0)), perimeters(labels, 2, (2.0, 0.5)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.7)])
def test_surface_equals_the_mesh(spacing):
    labels = pieces((9, 14, 11), 6).astype(np.uint32)
    expected = [mesh_area(labels == label, spacing) for label in range(1, 7)]
    np.testing.assert_allclose(surface_areas(labels, 7, spacing, "mesh")[1:], expected, rtol=1e-6)


def test_a_cube_and_an_image_filling_object_have_a_surface():
    cube = np.zeros((12, 12, 12), np.uint32)
    cube[1:11, 1:11, 1:11] = 1
    for surface, area in (("mesh", 564.1), ("crofton", 524.6)):
        table = measure(cube, surface=surface)
        assert column(table, "surface_area")[0] == pytest.approx(area, abs=0.1)
        whole = measure(np.ones((10, 10, 10), int), surface=surface)
        np.testing.assert_allclose(whole["surface_area_px"], column(table, "surface_area"), rtol=1e-6)
        assert 0.5 < table["sphericity"][0] < 0.8


def test_a_ball_is_round_under_its_voxel_size():
    z, y, x = np.mgrid[-13:14, -26:27, -26:27]
    ball = ((z * 2.0) ** 2 + y**2 + x**2 < 24**2).astype(np.uint16)
    table = measure(ball, voxel_size=VoxelSize(0.1, 0.1, z=0.2))
    assert table["surface_area_um2"][0] == pytest.approx(4 * np.pi * 2.4**2, rel=0.02)
    assert table["sphericity"][0] == pytest.approx(1, abs=0.03)
    assert measure(ball)["sphericity"][0] < table["sphericity"][0]


def test_what_has_no_outline_has_no_roundness():
    table = measure(np.array([[1, 0, 0], [0, 0, 2], [0, 0, 2]]), surface="mesh")
    assert table["perimeter_px"].tolist() == [0, 0]
    assert np.isnan(table["circularity"]).all()
    assert len(measure(np.zeros((4, 4, 4), int))["sphericity"]) == 0


def test_large_ids_and_rotated_images_measure_alike():
    labels = ndi.label(ndi.gaussian_filter(np.random.default_rng(2).random((20, 30, 40)), 2) > 0.5)[0]
    plain, turned = measure(labels, voxel_size=(2, 1, 1)), measure(labels.transpose(0, 2, 1)[:, ::-1] * 100_000, voxel_size=(2, 1, 1))
    np.testing.assert_allclose(np.sort(column(plain, "surface_area")), np.sort(column(turned, "surface_area")), rtol=1e-6)
