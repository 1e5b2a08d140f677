"""Splitting of an object: the parts cover it, and are cut at its neck."""

from __future__ import annotations

import numpy as np
import pytest

from morula.labels.split import split_object
from morula.testing.errors import raises


def two_discs(distance: int, spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.ogrid[:40, :70]
    y, x = y * spacing[0], x * spacing[1]
    left, right = ((y - 20 * spacing[0]) ** 2 + (x - place) ** 2 <= 100 for place in (20.0, 20.0 + distance))
    return left, right


@pytest.mark.parametrize("distance", [14, 17, 19])
def test_touching_discs_are_cut_between_them(distance: int) -> None:
    left, right = two_discs(distance)
    parts = split_object(left | right)
    assert set(np.unique(parts)) == {0, 1, 2}
    np.testing.assert_array_equal(parts > 0, left | right)
    middle = 20 + distance / 2
    columns = np.nonzero(parts == parts[20, 20])[1]
    assert columns.max() <= middle + 1


def test_points_decide_which_parts_there_are() -> None:
    left, right = two_discs(18)
    parts = split_object(left | right, points=[(20, 20), (20, 38), (12, 38)])
    assert parts.max() == 3
    assert len({parts[20, 20], parts[22, 38], parts[12, 38]}) == 3


def test_a_volume_is_split_in_physical_space() -> None:
    z, y, x = np.ogrid[:9, :30, :60]
    left, right = (((z - 4) * 4.0) ** 2 + (y - 15) ** 2 + (x - place) ** 2 <= 150 for place in (15, 36))
    parts = split_object(left | right, spacing=(4.0, 1.0, 1.0))
    assert parts[4, 15, 15] != parts[4, 15, 36]
    np.testing.assert_array_equal(parts > 0, left | right)


def test_more_parts_than_voxels_are_an_error() -> None:
    with raises("split.seeds", key="parts", value=3):
        split_object(np.array([[True, True]]), 3)
    with raises("split.seeds", key="points", value=2):
        split_object(np.ones((4, 4), bool), points=[(1, 1), (1, 1)])
    with raises("split.seeds", key="parts", value=1):
        split_object(np.ones((4, 4), bool), 1)
