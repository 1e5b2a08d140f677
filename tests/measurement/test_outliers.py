"""Suspicion: what is far from the other objects comes first."""

from __future__ import annotations

import numpy as np
import pytest

from morula.measurement.outliers import suspicion


def table(n: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "voxels": rng.normal(300, 30, n).round(),
        "circularity": rng.normal(0.9, 0.02, n),
        "aspect_ratio": rng.normal(1.2, 0.05, n),
        "confidence": np.full(n, 0.95),
        "touches_border": np.zeros(n, np.uint8),
    }


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("voxels", 1500, "large"), ("voxels", 20, "small"), ("circularity", 0.4, "shape"), ("aspect_ratio", 4.0, "elongated")],
)
def test_an_outlier_is_the_worst_and_says_why(column: str, value: float, reason: str) -> None:
    columns = table()
    columns[column][7] = value
    found = suspicion(columns)
    assert found["suspicion"].argmax() == 7
    assert found["reason"][7] == reason


def test_low_confidence_is_suspicious() -> None:
    columns = table()
    columns["confidence"][3] = 0.1
    found = suspicion(columns)
    assert (found["suspicion"].argmax(), found["reason"][3]) == (3, "confidence")


def test_objects_that_the_border_cuts_may_be_small_and_of_any_shape() -> None:
    columns = table()
    columns["voxels"][5], columns["circularity"][5] = 20, 0.4
    before = suspicion(columns)["suspicion"][5]
    columns["touches_border"][5] = 1
    assert suspicion(columns)["suspicion"][5] < 0.2 < before


def test_bounds_order_and_absent_columns() -> None:
    found = suspicion(table())["suspicion"]
    assert ((found >= 0) & (found <= 1)).all()
    rows = np.random.default_rng(1).permutation(40)
    np.testing.assert_allclose(suspicion({name: values[rows] for name, values in table().items()})["suspicion"], found[rows], rtol=1e-6)
    assert suspicion({"voxels": np.full(4, 9)})["reason"].tolist() == [""] * 4
    assert len(suspicion({"voxels": np.zeros(0)})["suspicion"]) == 0
    unknown = suspicion({"voxels": np.full(3, 9), "circularity": np.array([np.nan, 1, 1])})
    assert not unknown["suspicion"].any()
