"""Patches of a grid are left out by their values and by their share of labels."""

from __future__ import annotations

import numpy as np
import pytest

from morula.core.image import Image
from morula.core.options import validated
from morula.data.normalise import Normalisation
from morula.data.options import Sampling
from morula.data.patches import PatchDataset, Source
from morula.testing.errors import raises


def patches(leave_out: object, *, normalised: bool = False, empty: bool = False) -> PatchDataset:
    """Four patches of 2 x 2 with the means 0, 10, 20 and 30, of which the last two are labelled, and an image of zeros."""
    values = np.repeat(np.array([[0, 10, 20, 30]], np.uint8), 2, axis=1).repeat(2, axis=0)
    labels = (values >= 20).astype(np.uint8)
    sources = [Source(Image(values, "YX"), Image(labels, "YX"), "steps")]
    if empty:
        sources.append(Source(Image(np.zeros((2, 4), np.uint8), "YX"), Image(np.zeros((2, 4), np.uint8), "YX"), "dark"))
    sampling = Sampling.model_validate({"kind": "grid", "leave_out": leave_out, "leave_out_normalised": normalised})
    return PatchDataset(sources, (2, 2), Normalisation((0.0,), (10.0,)), sampling=sampling)


@pytest.mark.parametrize(
    ("leave_out", "means"),
    [
        ((), [0, 10, 20, 30]),
        ([["mean < 10"]], [10, 20, 30]),
        ([["mean <= 10"], ["max > 25"]], [20]),
        ([["mean < 25", "foreground > 0.5"]], [0, 10, 30]),
        ([["foreground < 0.5"]], [20, 30]),
    ],
)
def test_patches_that_satisfy_all_conditions_of_a_list_are_left_out(leave_out: object, means: list[float]) -> None:
    data = patches(leave_out)
    assert [10 * float(data.sample(0, number)["image"].mean()) for number in range(len(data))] == pytest.approx(means)


def test_conditions_may_be_on_normalised_values() -> None:
    assert len(patches([["mean < 1.5"]], normalised=True)) == 2
    assert len(patches([["mean < 1.5"]])) == 3


def test_images_may_be_left_out_as_a_whole_but_not_all_of_them() -> None:
    data = patches([["max < 5"]], empty=True)
    assert {data.place(epoch, number)[0] for epoch in range(3) for number in range(len(data))} == {0}
    with raises("patch.all_left_out", key="sampling.leave_out"):
        len(patches([["mean < 100"]]))


@pytest.mark.parametrize(
    ("given", "code"),
    [({"kind": "grid", "leave_out": "median < 3"}, "sampling.unknown_figure"), ({"leave_out": "mean < 3"}, "sampling.leave_out")],
)
def test_conditions_that_cannot_be_used_are_told(given: dict[str, object], code: str) -> None:
    with raises(code):
        validated(Sampling, given, "sampling")
