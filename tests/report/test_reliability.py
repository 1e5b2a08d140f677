"""The reliability diagram of a report."""

import math

import numpy as np

from morula.report.panels import ObjectRow
from morula.report.reliability import reliability


def rows(n, *, tag="FP"):
    """Objects of growing confidence; the last half is right, the others have this tag."""
    return [ObjectRow("a", i + 1, "TP" if i >= n // 2 else tag, 0.0, (i + 0.5) / n, 9, "", (), 3) for i in range(n)]


def test_the_diagram_shows_shares_of_right_objects():
    chart, words = reliability(rows(100))
    assert chart.startswith("<svg")
    # ten intervals: |0.05 - 0|, |0.15 - 0|, ... |0.55 - 1|, ... on average 0.25
    error = np.abs(np.linspace(0.05, 0.95, 10) - np.repeat([0, 1], 5)).mean()
    assert f"error {error:.3f}" in words
    assert "least confident 20 % hold 40% of the wrong objects" in words


def test_without_truth_or_confidence_there_is_none():
    assert reliability([]) is None
    assert reliability(rows(28)) is None
    assert reliability(rows(100, tag="")) is not None
    unrated = rows(100)
    for row in unrated:
        row.confidence = math.nan
    assert reliability(unrated) is None


def test_missed_objects_do_not_count():
    assert reliability(rows(58, tag="FN")) is None
