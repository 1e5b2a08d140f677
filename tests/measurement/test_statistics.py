"""The statistics table under CellSeg3D's names."""

import math

import numpy as np
import pytest

from morula.measurement.statistics import spheroid_sphericity, statistics

DOCUMENTED = [
    "Volume", "Centroid x", "Centroid y", "Centroid z", "Sphericity (axes)", "Image size", "Total image volume",
    "Total object volume (pixels)", "Filling ratio", "Number objects",
]  # fmt: skip


def labels():
    out = np.zeros((12, 20, 30), np.uint32)
    place = np.indices(out.shape)
    out[sum((p - c) ** 2 for p, c in zip(place, (6, 8, 9), strict=True)) <= 16] = 3
    out[2:4, 15:17, 20:29] = 70_000
    return out


def test_the_documented_columns_are_there_in_their_order():
    table = statistics(labels())
    assert [name for name in table.columns if name in DOCUMENTED] == DOCUMENTED
    assert table["Label"].tolist() == ["3", "70000"]


def test_x_is_the_last_axis_and_lengths_are_physical():
    table = statistics(labels(), {"z": 2.0, "y": 0.5, "x": 0.25, "unit": "um"})
    assert [float(table[f"Centroid {axis}"][0]) for axis in "xyz"] == pytest.approx([9, 8, 6])
    assert [float(table[f"Centroid {axis} (um)"][0]) for axis in "xyz"] == pytest.approx([2.25, 4, 12])
    assert float(table["Volume (um3)"][1]) == pytest.approx(2 * 2 * 9 * 0.25)


def test_the_image_stands_in_the_first_row_alone():
    array, table = labels(), statistics(labels())
    assert table["Image size"].tolist() == ["12 x 20 x 30", ""]
    assert table["Total image volume"].tolist() == ["7200", ""]
    assert float(table["Filling ratio"][0]) == pytest.approx((array > 0).mean(), rel=1e-5)
    assert table["Number objects"].tolist() == ["2", ""]


def test_an_image_without_objects_has_one_row():
    table = statistics(np.zeros((4, 5), np.uint8))
    assert table["Label"].tolist() == [""]
    assert table["Number objects"].tolist() == ["0"]


@pytest.mark.parametrize("ratio", [1.0, 1.0001, 2.0, 5.0])
def test_sphericity_of_a_spheroid_against_its_surface_integrated(ratio):
    a, b = ratio, 1.0
    x = np.linspace(-a, a, 2_000_001)
    radius = b * np.sqrt(np.maximum(1 - (x / a) ** 2, 0))
    slant = np.hypot(np.diff(x), np.diff(radius))
    surface = (math.pi * (radius[1:] + radius[:-1]) * slant).sum()
    volume = 4 / 3 * math.pi * a * b * b
    expected = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
    assert spheroid_sphericity(np.array([a]), np.array([b]))[0] == pytest.approx(expected, rel=1e-4)


def test_a_ball_is_round_and_a_rod_is_not():
    table = statistics(labels())
    ball, rod = map(float, table["Sphericity (axes)"])
    assert ball == pytest.approx(1, abs=0.02)
    assert rod < 0.8
