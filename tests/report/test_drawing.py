"""Charts and pictures alone."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morula.report import pictures
from morula.report.bars import Series, count_chart, histogram
from morula.report.curves import Line, line_chart, ticks
from morula.report.panels import scale_bar


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_rising_and_inside(low: float, span: float) -> None:
    high = low + span
    if not high > low or span < 1e-9 * abs(low):
        return
    found = ticks(low, high)
    assert len(found) <= 13
    assert found == sorted(set(found))
    assert all(low - 1e-6 * span <= each <= high + 1e-6 * span for each in found)


values = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=12)


@given(values)
def test_charts_are_valid_xml_or_nothing(y: list[float]) -> None:
    text = line_chart([Line("a < b", list(range(len(y))), y)], title="T & U", x_label="epoch", mark=(1, "best"))
    if not any(map(math.isfinite, y)):
        assert text == ""
        return
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert "nan" not in text
    assert "inf" not in text.replace("infinity", "")


shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
labels = hnp.arrays(np.uint32, shapes, elements=st.integers(0, 3) | st.just(70_000))


@given(labels, st.integers(1, 90))
def test_resizing_invents_no_label(plane: np.ndarray, side: int) -> None:
    small = pictures.resize(plane, side, smooth=False)
    assert set(np.unique(small)) <= set(np.unique(plane))
    assert max(small.shape) <= max(side, 1)
    assert min(small.shape) >= 1
    assert pictures.resize(np.dstack([plane % 255] * 3).astype(np.uint8), side, smooth=True).shape[:2] == small.shape


@given(labels)
def test_edges_are_inside_objects(plane: np.ndarray) -> None:
    found = pictures.edges(plane, 1)
    assert not found[plane == 0].any()
    padded = np.pad(plane, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    change = (padded[:-2, 1:-1] != centre) | (padded[2:, 1:-1] != centre) | (padded[1:-1, :-2] != centre) | (padded[1:-1, 2:] != centre)
    np.testing.assert_array_equal(found, change & (plane > 0))


def test_colours_of_class_errors() -> None:
    overlay = pictures.errors_of_classes(np.array([[0, 1, 1, 0, 2, 255]]), np.array([[0, 1, 0, 1, 1, 1]]), ignore=255)
    shown = [tuple(pixel[:3]) if pixel[3] else None for pixel in overlay[0].tolist()]
    assert shown == [None, pictures.FOUND, pictures.MISSED, pictures.FALSE, pictures.CONFUSED, None]


@pytest.mark.parametrize("stack", [np.zeros((1, 1, 4, 5)), np.full((2, 1, 4, 5), np.nan), np.full((1, 2, 4, 5), 7, np.uint16)])
def test_constant_and_broken_images(stack: np.ndarray) -> None:
    rgb = pictures.to_rgb(stack)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*stack.shape[1:], 3)


def test_scores_have_a_fixed_axis() -> None:
    """A chart of scores near 1 is not cut, and one of very different scores is not logarithmic."""
    charts = [line_chart([Line("F1", [1, 2], y)], title="F1", x_label="epoch", y_range=(0, 1)) for y in ([0.96, 0.97], [0.001, 0.9])]
    marks = [[text.text for text in ElementTree.fromstring(chart).iter("text") if text.get("text-anchor") == "end"] for chart in charts]
    assert marks == [["0", "0.2", "0.4", "0.6", "0.8", "1"]] * 2


@example([], [5e-324])
@given(st.lists(st.floats(0, 1e6), max_size=30), st.lists(st.floats(0, 1e6), max_size=30))
def test_histograms_are_valid_xml_or_nothing(predicted: list[float], true: list[float]) -> None:
    text = histogram([Series("found", np.array(predicted)), Series("a < b", np.array(true), true=True)], title="T & U", x_label="size")
    if not predicted and not true:
        assert text == ""
        return
    assert ElementTree.fromstring(text).get("role") == "img"
    assert "nan" not in text


def test_counts_are_valid_xml() -> None:
    text = count_chart(["a < b", "a name that is much too long for a chart"], [0, 3], [2, 0], title="Counts")
    assert ElementTree.fromstring(text).get("role") == "img"


@given(st.floats(1e-3, 1e6))
def test_scale_bar_is_round_and_at_most_a_quarter(width: float) -> None:
    text, percent = scale_bar(width, "um")
    assert 9.9 < percent <= 25
    assert f"{float(text.split()[0]):e}"[0] in "125"
