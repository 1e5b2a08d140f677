"""Patches of a grid are left out by their values and by their share of labels."""

from __future__ import annotations

import numpy as np
import pytest

from morula.core.image import Image
from morula.core.options import validated
from morula.core.region import Region
from morula.data.left_out import figures_of
from morula.data.normalise import Normalisation
from morula.data.options import Sampling
from morula.data.patches import PatchDataset, Source
from morula.testing.errors import raises


def patches(leave_out: object, *, normalised: bool = False, empty: bool = False, **options: object) -> PatchDataset:
    """Four patches of 2 x 2 with the means 0, 10, 20 and 30, of which the last two are labelled, and an image of zeros."""
    values = np.repeat(np.array([[0, 10, 20, 30]], np.uint8), 2, axis=1).repeat(2, axis=0)
    labels = (values >= 20).astype(np.uint8)
    sources = [Source(Image(values, "YX"), Image(labels, "YX"), "steps")]
    if empty:
        sources.append(Source(Image(np.zeros((2, 4), np.uint8), "YX"), Image(np.zeros((2, 4), np.uint8), "YX"), "dark"))
    sampling = Sampling.model_validate({"kind": "grid", "leave_out": leave_out, "leave_out_normalised": normalised, **options})
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


@pytest.mark.parametrize("kind", ["grid", "random"])
@pytest.mark.parametrize("length", [None, "images"])
def test_conditions_may_be_on_whole_images(kind: str, length: str | None) -> None:
    data = patches([["mean < 10"], ["foreground < 0.4"]], empty=True, kind=kind, leave_out_images=True, patches_per_epoch=length)
    # the mean of the first image is 15, and one half of it is labelled
    assert data.counts.tolist() == [4, 0]
    assert len(data) == (1 if length else 4)
    assert {data.place(epoch, number)[0] for epoch in range(5) for number in range(len(data))} == {0}
    with raises("patch.all_left_out", key="sampling.leave_out"):
        len(patches([["max >= 30"]], kind=kind, leave_out_images=True))


def test_a_large_image_is_judged_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 200, (2, 7, 6, 5)).astype(np.uint8)
    image, labels, box = Image(values, "CZYX"), Image(values[0] % 2, "ZYX"), Region((1, 0, 2), (7, 5, 5))
    monkeypatch.setattr("morula.data.left_out._BLOCK", 16)
    found = figures_of(image, box, labels, normalisation=Normalisation((0.0, 0.0), (2.0, 2.0)))
    part = values[:, 1:7, :5, 2:5]
    expected = {"mean": part.mean() / 2, "min": part.min() / 2, "max": part.max() / 2, "foreground": (part[0] % 2).mean()}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"kind": "grid", "leave_out": "median < 3"}, "sampling.unknown_figure"),
        ({"validation": {"leave_out": "median < 3"}}, "sampling.unknown_figure"),
        ({"leave_out": "mean < 3"}, "sampling.leave_out"),
        ({"cell": [8, 8]}, "sampling.cell"),
    ],
)
def test_conditions_that_cannot_be_used_are_told(given: dict[str, object], code: str) -> None:
    with raises(code):
        validated(Sampling, given, "sampling")
