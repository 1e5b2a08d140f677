"""Digital balls, ellipsoids, cylinders, discs and lines against the formulas of their sizes, with the biases that the manual states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.measure import regionprops_table

from morula.io.read import read_labels
from morula.measurement.measure import measure
from morula.measurement.shape import direction_weights

Spacing = tuple[float, ...]


def grid(half: Spacing, spacing: Spacing) -> np.ndarray:
    steps = [int(np.ceil(length / edge)) + 2 for length, edge in zip(half, spacing, strict=True)]
    axes = [np.arange(-n, n + 1) * edge for n, edge in zip(steps, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ellipsoid(semi: Spacing, spacing: Spacing) -> np.ndarray:
    """An ellipsoid or ellipse with these half axes in physical units."""
    scaled = grid(semi, spacing) / np.reshape(semi, (-1, *[1] * len(semi)))
    return ((scaled**2).sum(axis=0) <= 1).astype(np.uint8)


def measured(mask: np.ndarray, spacing: Spacing, **options: object) -> pd.Series:
    size = dict(zip("zyx"[-mask.ndim :], spacing, strict=True)) | {"unit": "um"}
    return measure(mask, voxel_size=size, **options).iloc[0]  # type: ignore[arg-type]


def ellipsoid_surface(a: float, b: float, c: float) -> float:
    """Thomsen's formula, within 1.1 %."""
    power = 1.6075
    return 4 * np.pi * (((a * b) ** power + (a * c) ** power + (b * c) ** power) / 3) ** (1 / power)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.0, 0.5, 0.5)])
@pytest.mark.parametrize("semi", [(10.0, 10.0, 10.0), (12.0, 8.0, 6.0), (20.0, 10.0, 5.0)])
def test_ellipsoids(semi: tuple[float, float, float], spacing: Spacing) -> None:
    row = measured(ellipsoid(semi, spacing), spacing)
    volume, surface = 4 / 3 * np.pi * np.prod(semi), ellipsoid_surface(*semi)
    assert row["volume_um3"] == pytest.approx(volume, rel=0.035)
    assert row["surface_area_um2"] == pytest.approx(surface, rel=0.04 if len(set(spacing)) == 1 else 0.08)
    assert row["equivalent_diameter_um"] == pytest.approx(2 * np.prod(semi) ** (1 / 3), rel=0.015)
    assert row["sphericity"] == pytest.approx(36 * np.pi * volume**2 / surface**3, rel=0.1 if len(set(spacing)) == 1 else 0.25)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.0, 0.5, 0.5)])
def test_a_ball_has_the_sphericity_1(spacing: Spacing) -> None:
    ball = ellipsoid((10.0, 10.0, 10.0), spacing)
    assert measured(ball, spacing)["sphericity"] == pytest.approx(1, abs=0.03)
    assert measured(ball, spacing, surface="mesh")["sphericity"] < 0.8  # the steps of the mesh


@pytest.mark.parametrize(("radius", "bias"), [(5.0, 0.01), (10.0, 0.01), (20.0, 0.01)])
def test_surface_of_balls_by_radius(radius: float, bias: float) -> None:
    row = measured(ellipsoid((radius,) * 3, (1, 1, 1)), (1, 1, 1))
    assert row["surface_area_um2"] == pytest.approx(4 * np.pi * radius**2, rel=bias)


@pytest.mark.parametrize(("spacing", "bias"), [((1.0, 1.0, 1.0), 0.05), ((2.0, 0.5, 0.5), 0.15)])
def test_cylinders(spacing: Spacing, bias: float) -> None:
    z, y, x = grid((12.0, 8.0, 8.0), spacing)
    mask = ((np.hypot(y, x) <= 8) & (abs(z) < 10)).astype(np.uint8)
    row = measured(mask, spacing)
    height = int(mask.any(axis=(1, 2)).sum()) * spacing[0]
    assert row["volume_um3"] == pytest.approx(np.pi * 64 * height, rel=0.03)
    expected = 2 * np.pi * 8 * (8 + height)
    assert expected * (1 - bias) < row["surface_area_um2"] < expected  # flat faces along the axes are underestimated


def test_a_box_has_the_bias_of_its_faces() -> None:
    row = measured(np.ones((20, 20, 20), np.uint8), (1, 1, 1))
    assert 0.87 * 2400 < row["surface_area_um2"] < 0.92 * 2400


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.5), (2.0, 1.0)])
@pytest.mark.parametrize("radius", [10.0, 30.0])
def test_discs(radius: float, spacing: Spacing) -> None:
    row = measured(ellipsoid((radius, radius), spacing), spacing)
    assert row["area_um2"] == pytest.approx(np.pi * radius**2, rel=0.015)
    assert row["equivalent_diameter_um"] == pytest.approx(2 * radius, rel=0.01)
    assert row["perimeter_um"] == pytest.approx(2 * np.pi * radius, rel=0.06)  # centred on a pixel, a disc has a spike on each side
    assert 0.89 < row["circularity"] < 1.03
    assert row["circularity"] * row["elongation"] == pytest.approx(1)
    assert row["aspect_ratio"] == pytest.approx(1, abs=0.05)
    # the line through the border pixels is 5 % too long, or 8 % where pixels are twice as high as wide
    former = measure(ellipsoid((radius, radius), spacing), voxel_size=spacing, surface="mesh").iloc[0]
    assert former["perimeter_um"] == pytest.approx(2 * np.pi * radius * (1.05 if spacing[0] == spacing[1] else 1.08), rel=0.02)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0)])
def test_discs_at_any_place_have_a_circularity_of_1(spacing: Spacing) -> None:
    rng, found = np.random.default_rng(0), []
    for place in rng.random((40, 2)):
        y, x = (grid((12.0, 12.0), spacing).T - place).T
        found.append(measured((np.hypot(y, x) <= 10).astype(np.uint8), spacing)["circularity"])
    assert np.mean(found) == pytest.approx(1, abs=0.02)
    assert 0.94 < min(found) < max(found) < (1.03 if spacing == (1.0, 1.0) else 1.04)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0)])
@pytest.mark.parametrize("ratio", [1.5, 3.0])
def test_ellipses(ratio: float, spacing: Spacing) -> None:
    a, b = 30.0, 30.0 / ratio
    row = measured(ellipsoid((b, a), spacing), spacing)
    assert row["aspect_ratio"] == pytest.approx(ratio, rel=0.06)
    h = ((a - b) / (a + b)) ** 2
    around = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))  # Ramanujan
    assert row["perimeter_um"] == pytest.approx(around, rel=0.05)
    assert row["circularity"] == pytest.approx(4 * np.pi * np.pi * a * b / around**2, rel=0.1)


def line(n: int, ndim: int) -> np.ndarray:
    mask = np.zeros((3,) * (ndim - 1) + (n + 2,), np.uint8)
    mask[(1,) * (ndim - 1) + (slice(1, n + 1),)] = 1
    return mask


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_lines_of_few_voxels(n: int) -> None:
    flat, solid = measured(line(n, 2), (0.5, 0.5)), measured(line(n, 3), (2.0, 0.5, 0.5))
    assert (flat["voxels"], solid["voxels"]) == (n, n)
    assert (flat["area_um2"], solid["volume_um3"]) == (n / 4, n / 2)
    assert (flat["diameter"], solid["centroid_x"]) == (n, 1 + (n - 1) / 2)
    assert 0 < flat["perimeter_um"] < 2 * 0.5 * (n + 1)  # less than its edges
    assert 0 < flat["circularity"] < 1.8  # one pixel is no disc
    assert flat["aspect_ratio"] == pytest.approx(n)
    former = measure(line(n, 2), voxel_size=0.5, surface="mesh").iloc[0]
    assert former["perimeter_um"] == pytest.approx(0 if n < 3 else 0.5 * (n - 2))  # through the centres: a line has no inside
    assert np.isnan(former["circularity"]) == (n < 3)
    assert 0 < solid["surface_area_um2"] < 2 * (n * (2 * 0.5 + 0.5 * 0.5) + 2 * 0.5)  # less than its faces
    assert np.isfinite(solid["sphericity"])


def test_intensities_by_their_formulas() -> None:
    labels, values = np.array([[1, 1, 2], [1, 2, 0]]), np.array([[1.0, 2.0, 5.0], [6.0, 7.0, 100.0]])
    table = measure(labels, intensity=values)
    assert table["intensity_sum"].tolist() == [9, 12]
    assert table["intensity_mean"].tolist() == [3.0, 6.0]
    assert table["intensity_std"].tolist() == pytest.approx([np.std([1, 2, 6]), np.std([5, 7])])
    assert (table["intensity_min"].tolist(), table["intensity_max"].tolist()) == ([1.0, 5.0], [6.0, 7.0])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5), (1.0, 1.0, 1.0), (3.0, 0.5, 0.5)])
def test_equal_to_scikit_image(spacing: Spacing) -> None:
    labels = np.kron(np.arange(12).reshape((1,) * (len(spacing) - 2) + (3, 4)), np.ones((4, 5, 6)[-len(spacing) :], int))
    names = ("area", "bbox", "centroid", "equivalent_diameter_area")
    expected = regionprops_table(labels, properties=names, spacing=spacing)
    size = dict(zip("zyx"[-len(spacing) :], spacing, strict=True)) | {"unit": "um"}
    table = measure(labels, voxel_size=size)  # type: ignore[arg-type]
    np.testing.assert_allclose(table["area_um2" if len(spacing) == 2 else "volume_um3"], expected["area"])
    np.testing.assert_allclose(table["equivalent_diameter_um"], expected["equivalent_diameter_area"])
    for axis, name in enumerate("zyx"[-len(spacing) :]):
        np.testing.assert_allclose(table[f"centroid_{name}"] * spacing[axis], expected[f"centroid-{axis}"])
        np.testing.assert_array_equal(table[f"box_{name}_start"], expected[f"bbox-{axis}"])
        np.testing.assert_array_equal(table[f"box_{name}_stop"], expected[f"bbox-{axis + len(spacing)}"])


def test_directions_are_weighted_as_in_morpholibj() -> None:
    # Legland, Kieu & Devaux, Computation of Minkowski measures on 2D and 3D binary images, Image Anal Stereol 26 (2007), table 1
    weights = direction_weights((1, 1, 1))
    published = {(0, 0, 1): 0.04577789120476, (0, 1, 1): 0.03698062787608, (1, 1, 1): 0.03519563978232}
    for step, weight in published.items():
        assert weights[step] == pytest.approx(weight, rel=1e-9)
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.data
def test_thresholds_of_the_manual_on_real_nuclei(data_folder: Path) -> None:
    found = []
    for file in sorted((data_folder / "nuclei2d/train/labels").glob("*.tif"))[:20]:
        table = measure(read_labels(file))
        found.append(table["circularity"][(table["touches_border"] == 0) & (table["voxels"] >= 50)])
    circularity = np.concatenate(found)
    assert np.percentile(circularity, 99) < 1.05
    assert 0.9 < np.median(circularity) < 1
    assert np.mean(circularity <= 0.7) < 0.05
